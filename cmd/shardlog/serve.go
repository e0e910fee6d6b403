package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/stream"
)

var serveCommand = &command{
	words: "serve", short: "serve a log over the Kinesis protocol",
	long: `
Serves the streams of a directory, or of memory, to Kinesis clients. The first
line on standard output is "listening on http://HOST:PORT". SIGTERM and SIGINT
stop it: it answers the requests that are in progress and closes the log.

Clients need the URL as their endpoint, a region and any credentials. An access
key of 12 digits is used as the account ID.

Without -credentials any program may do everything, but no web page of another
origin may, unless -allow-origin names it.

GET /_shardlog/health and /_shardlog/ready return 200 when it is up.`,
	run: func(e *env, args []string) error { return serve(e, args) },
}

// serveFlags are the flags of serve.
type serveFlags struct {
	addr, dir, durability         string
	memory, tls, limits, admin    bool
	adminRemote, verbose          bool
	cert, key, credentials        string
	account, region               string
	shardsPerStream               int
	createTime, update, deleteFor time.Duration
	drain                         time.Duration
	connections                   int
	allowOrigins                  []string
}

func (s *serveFlags) register(f *flag.FlagSet) {
	f.StringVar(&s.addr, "addr", "127.0.0.1:4567", "address to listen on; port 0 selects a free one")
	f.StringVar(&s.dir, "dir", "", "directory of the log; created if it does not exist")
	f.BoolVar(&s.memory, "memory", false, "keep everything in memory; the default if there is no -dir")
	f.StringVar(&s.durability, "durability", "always", "when writes to -dir are synced: always (before the response), interval or never")
	f.BoolVar(&s.tls, "tls", false, "serve https, with a self-signed certificate unless -cert is given")
	f.StringVar(&s.cert, "cert", "", "PEM file with the certificate; implies -tls")
	f.StringVar(&s.key, "key", "", "PEM file with the certificate's private key")
	f.BoolVar(&s.limits, "limits", false, "apply the limits of Kinesis to shards of new streams and to operations")
	f.StringVar(&s.credentials, "credentials", "", `JSON file with access keys and secrets, {"KEY":"SECRET"}; turns on the verification of signatures`)
	f.Func("allow-origin", `web page to answer without -credentials, such as http://localhost:3000, or * for all; may be given more than once`, func(text string) error {
		s.allowOrigins = append(s.allowOrigins, text)
		return nil
	})
	f.StringVar(&s.account, "account", "000000000000", "account ID for access keys that are not 12 digits")
	f.StringVar(&s.region, "region", "us-east-1", "region of requests that do not name one")
	f.IntVar(&s.shardsPerStream, "shards-per-stream", 4, "shards of a stream that is created without a shard count")
	f.DurationVar(&s.createTime, "create-time", 0, "time that a stream stays CREATING")
	f.DurationVar(&s.update, "update-time", 0, "time that a stream stays UPDATING")
	f.DurationVar(&s.deleteFor, "delete-time", 0, "time that a stream stays DELETING")
	f.BoolVar(&s.admin, "admin", true, "serve /_shardlog/ (reset, faults, clock, limits) to this machine")
	f.BoolVar(&s.adminRemote, "admin-remote", false, "serve /_shardlog/ to other machines as well")
	f.DurationVar(&s.drain, "drain", 10*time.Second, "time to wait for requests in progress when stopping")
	f.IntVar(&s.connections, "max-connections", 8192, "number of connections that are served at the same time; others wait")
	f.BoolVar(&s.verbose, "v", false, "log details to standard error")
}

func serve(e *env, args []string) error {
	var s serveFlags
	f := e.flags()
	s.register(f)
	if _, err := e.parse(f, args, 0); err != nil {
		return err
	}
	switch {
	case s.memory && s.dir != "":
		return e.misused("-memory and -dir exclude each other")
	case s.connections < 1:
		return e.misused("-max-connections must be 1 or more")
	case s.drain < 0:
		return e.misused("-drain must be 0 or more")
	case (s.cert == "") != (s.key == ""):
		return e.misused("-cert and -key go together")
	}
	durability, ok := durabilities[s.durability]
	if !ok {
		return e.misused("-durability %q: must be always, interval or never", s.durability)
	}
	level := slog.LevelWarn
	if s.verbose {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level}))
	// Options are checked first, so that a wrong command line opens no log and
	// creates no directory.
	opts, err := s.options(logger)
	if err != nil {
		return err
	}
	if err := opts.Validate(); err != nil {
		return e.misused("%v", err)
	}
	o := &stream.Options{InMemory: true, Logger: logger}
	if s.dir != "" {
		o = &stream.Options{Durability: durability, Logger: logger}
	}
	db, err := stream.Open(s.dir, o)
	if err != nil {
		return err
	}
	return errors.Join(s.serve(e, db, opts), db.Close())
}

var durabilities = map[string]stream.Durability{
	stream.SyncAlways.String(): stream.SyncAlways, stream.SyncInterval.String(): stream.SyncInterval, stream.SyncNever.String(): stream.SyncNever,
}

func (s *serveFlags) options(logger *slog.Logger) (*kinesisapi.Options, error) {
	o := &kinesisapi.Options{
		Account: s.account, Region: s.region, DefaultShards: s.shardsPerStream,
		CreateTime: s.createTime, UpdateTime: s.update, DeleteTime: s.deleteFor,
		AllowOrigins: s.allowOrigins, Admin: s.admin, AdminRemote: s.adminRemote, Logger: logger,
	}
	if s.limits {
		o.Limits, o.ControlLimits = stream.KinesisLimits(), true
	}
	if s.credentials != "" {
		b, err := os.ReadFile(s.credentials)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(b, &o.Credentials); err != nil || len(o.Credentials) == 0 {
			return nil, fmt.Errorf(`%s: must be JSON as {"KEY":"SECRET"}`, s.credentials)
		}
	}
	return o, nil
}

// releaseAfter is the time from the start until unused memory is returned to
// the operating system.
const releaseAfter = 200 * time.Millisecond

func (s *serveFlags) serve(e *env, db *stream.DB, opts *kinesisapi.Options) error {
	h, err := kinesisapi.NewHandler(db, opts)
	if err != nil {
		return err
	}
	defer h.Close()
	srv := h.Server()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	scheme := "http"
	if s.tls || s.cert != "" {
		scheme = "https"
		if srv.TLSConfig, err = s.tlsConfig(l.Addr()); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	l = &limited{Listener: l, free: make(chan struct{}, s.connections), done: make(chan struct{})}
	fmt.Fprintf(e.stdout, "listening on %s://%s\n", scheme, l.Addr())
	// The memory that opening needed is returned, so that an idle server is small.
	// That takes milliseconds, so it happens after the first requests.
	defer time.AfterFunc(releaseAfter, debug.FreeOSMemory).Stop()
	done := make(chan error, 1)
	go func() {
		if scheme == "https" {
			done <- srv.ServeTLS(l, "", "")
		} else {
			done <- srv.Serve(l)
		}
	}()
	select {
	case err := <-done:
		return err
	case <-e.ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.drain)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("requests were under way after %v: %w", s.drain, err), srv.Close())
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// tlsConfig loads the certificate, or creates a self-signed one for this run.
func (s *serveFlags) tlsConfig(addr net.Addr) (*tls.Config, error) {
	if s.cert != "" {
		c, err := tls.LoadX509KeyPair(s.cert, s.key)
		return &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	cert := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "shardlog serve"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if host, _, err := net.SplitHostPort(addr.String()); err == nil {
		if ip := net.ParseIP(strings.Split(host, "%")[0]); ip != nil && !ip.IsUnspecified() {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, nil
}

// limited is a listener that bounds the number of open connections.
type limited struct {
	net.Listener
	free chan struct{}
	done chan struct{}
	once sync.Once
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &counted{Conn: c, free: l.free}, nil
}

// Close implements net.Listener.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// counted is a connection that occupies a place in its listener until it is
// closed.
type counted struct {
	net.Conn
	free chan struct{}
	once sync.Once
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.once.Do(func() { <-c.free })
	return c.Conn.Close()
}
