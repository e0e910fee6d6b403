package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/awswire"
)

// TestServeWithACertificate serves with a certificate from files, which a client
// that trusts it accepts.
func TestServeWithACertificate(t *testing.T) {
	cfg, err := (&serveFlags{}).tlsConfig(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	made := cfg.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	s := startServe(t, "-cert", certFile, "-key", keyFile)
	parsed, err := x509.ParseCertificate(made.Certificate[0])
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	res, err := client.Get(s.url + "/_shardlog/ready")
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, 200, res.StatusCode)
	require.Equal(t, 2, res.ProtoMajor)
	code, _, _ := cli(t, "", "serve", "-addr", "127.0.0.1:0", "-cert", certFile, "-key", "none")
	require.Equal(t, exitFail, code)
}

// TestHTTPAndHTTPS serves one store in both ways, and the command accepts the
// self-made certificate when it is asked to.
func TestHTTPAndHTTPS(t *testing.T) {
	cert := filepath.Join(t.TempDir(), "cert.pem")
	s := startServe(t, "-tls-addr", "127.0.0.1:0", "-save-cert", cert, "-shard-limit", "3")
	second, err := s.out.ReadString('\n')
	require.NoError(t, err)
	require.Regexp(t, `^listening on https://127\.0\.0\.1:\d+\n$`, second)
	https := strings.TrimSpace(strings.TrimPrefix(second, "listening on "))
	require.Contains(t, s.url, "http://")
	mustCLI(t, "", "stream", "create", "s", "-endpoint", s.url)
	mustCLI(t, "one\ntwo\n", "put", "s", "-key", "k", "-endpoint", https, "-insecure")
	require.Equal(t, "one\ntwo\n", mustCLI(t, "", "tail", "s", "-endpoint", https, "-cacert", cert))
	require.Equal(t, "one\ntwo\n", mustCLI(t, "", "tail", "s", "-endpoint", s.url, "-cacert", cert), "which http does not need")
	code, _, errs := cli(t, "", "stream", "list", "-endpoint", https)
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "certificate")
	code, _, errs = cli(t, "", "stream", "list", "-endpoint", https, "-cacert", filepath.Join(t.TempDir(), "none"))
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "no such file")
	code, _, errs = cli(t, "", "stream", "list", "-endpoint", https, "-cacert", "tls_test.go")
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "holds no certificate in PEM")
	t.Setenv("AWS_CA_BUNDLE", cert)
	require.Equal(t, "s\n", mustCLI(t, "", "stream", "list", "-endpoint", https))
	mustCLI(t, "", "stream", "describe", "s", "-endpoint", https, "-insecure")

	c := &client{http: http.DefaultClient, url: s.url, region: "us-east-1", credentials: awswire.Credentials{AccessKey: "000000000000", Secret: "x"}}
	err = c.once(t.Context(), "CreateStream", object{"StreamName": "more", "ShardCount": 3}, nil)
	require.ErrorContains(t, err, "Limit: 3.")

	// Both end in order.
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, s.cmd.Wait())
}

// A server that does not start leaves the certificate that another one has saved,
// and makes no file; one that starts replaces it whole.
func TestSavedCertificates(t *testing.T) {
	root := t.TempDir()
	dir, cert := filepath.Join(root, "log"), filepath.Join(root, "cert.pem")
	require.NoError(t, os.WriteFile(cert, []byte(strings.Repeat("x", 10_000)), 0o600))
	s := startServe(t, "-tls", "-save-cert", cert, "-dir", dir)
	mustCLI(t, "", "stream", "create", "s", "-endpoint", s.url, "-cacert", cert)
	text, err := os.ReadFile(cert)
	require.NoError(t, err)
	_, rest := pem.Decode(text)
	require.Empty(t, rest)
	for _, file := range []string{cert, filepath.Join(root, "more.pem")} {
		code, _, errs := cli(t, "", "serve", "-addr", "127.0.0.1:0", "-tls", "-save-cert", file, "-dir", dir)
		require.Equal(t, exitFail, code)
		require.Contains(t, errs, "locked")
	}
	require.NoFileExists(t, filepath.Join(root, "more.pem"))
	require.Equal(t, "s\n", mustCLI(t, "", "stream", "list", "-endpoint", s.url, "-cacert", cert))
	code, _, errs := cli(t, "", "serve", "-addr", "127.0.0.1:0", "-tls", "-save-cert", filepath.Join(root, "none", "x.pem"), "-dir", filepath.Join(root, "new"))
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "x.pem")
	require.NoDirExists(t, filepath.Join(root, "new"))
}

// With a bound of one connection for both ways, a connection to the second is
// served although nobody connects to the first.
func TestConnectionsOfBothWays(t *testing.T) {
	s := startServe(t, "-tls-addr", "127.0.0.1:0", "-max-connections", "1")
	second, err := s.out.ReadString('\n')
	require.NoError(t, err)
	https := strings.TrimSpace(strings.TrimPrefix(second, "listening on "))
	for range 3 {
		mustCLI(t, "", "stream", "list", "-endpoint", https, "-insecure")
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := c.Get(s.url + "/_shardlog/health")
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
	}
}

// -cert alone serves https on -addr, and with -tls-addr on that.
func TestWhichAddressHasTheCertificate(t *testing.T) {
	for _, c := range []struct {
		flags serveFlags
		want  []string
	}{
		{serveFlags{}, []string{"http"}},
		{serveFlags{tls: true}, []string{"https"}},
		{serveFlags{tlsAddr: "127.0.0.1:0"}, []string{"http", "https"}},
	} {
		c.flags.addr = "127.0.0.1:0"
		doors, err := c.flags.listen()
		require.NoError(t, err)
		var got []string
		for _, d := range doors {
			got = append(got, d.scheme())
		}
		require.Equal(t, c.want, got)
		require.NoError(t, doors.close())
		require.NoError(t, doors.close(), "a second time")
	}
}
