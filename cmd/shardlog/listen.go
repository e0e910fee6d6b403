package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// door is an address that the server listens on.
type door struct {
	net.Listener
	tls *tls.Config // nil for http
}

func (d *door) scheme() string {
	if d.tls != nil {
		return "https"
	}
	return "http"
}

// checkAddress refuses what is no address to listen on.
func checkAddress(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return errors.New("must be HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:4567 or :4567")
	}
	return nil
}

// doors are all of them. They share the bound of connections.
type doors []*door

// close closes what is still open.
func (d doors) close() error {
	var errs []error
	for _, l := range d {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// listen opens the addresses that the flags name, all or none.
func (s *serveFlags) listen() (all doors, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, all.close())
		}
	}()
	type address struct {
		at    string
		https bool
	}
	wanted := []address{{s.addr, s.tlsAddr == "" && (s.tls || s.cert != "")}}
	if s.tlsAddr != "" {
		wanted = append(wanted, address{s.tlsAddr, true})
	}
	free := make(chan struct{}, s.connections)
	for _, w := range wanted {
		l, err := net.Listen("tcp", w.at)
		if err != nil {
			return all, err
		}
		d := &door{Listener: &limited{Listener: l, free: free, done: make(chan struct{})}}
		all = append(all, d)
		if !w.https {
			continue
		}
		if d.tls, err = s.tlsConfig(l.Addr()); err != nil {
			return all, err
		}
	}
	return all, nil
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

// certFile is the file of -save-cert. It is opened before the log, so that a
// server does not start where it cannot be written, and written after it: a server
// that does not start leaves what one that runs has written.
type certFile struct {
	*os.File
	made bool // it was not there
}

// openCert opens the file, if there is to be one.
func (s *serveFlags) openCert() (*certFile, error) {
	if s.saveCert == "" {
		return nil, nil
	}
	f, err := os.OpenFile(s.saveCert, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		return &certFile{f, true}, nil
	}
	if f, err = os.OpenFile(s.saveCert, os.O_WRONLY|os.O_CREATE, 0o644); err != nil {
		return nil, err
	}
	return &certFile{f, false}, nil
}

// write writes the certificate of the doors, and closes the file.
func (c *certFile) write(d doors) error {
	if c == nil {
		return nil
	}
	text := []byte{}
	for _, l := range d {
		if l.tls != nil {
			text = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.tls.Certificates[0].Certificate[0]})
		}
	}
	_, err := c.Write(text)
	if fi, e := c.Stat(); err == nil && e == nil && fi.Mode().IsRegular() {
		err = c.Truncate(int64(len(text))) // what was there may have been longer
	}
	return errors.Join(err, c.Close())
}

// discard closes the file as it was.
func (c *certFile) discard() error {
	if c == nil {
		return nil
	}
	err := c.Close()
	if c.made {
		err = errors.Join(err, os.Remove(c.Name()))
	}
	return err
}

// limited is a listener that bounds the number of connections that are served,
// together with others that have the same places.
type limited struct {
	net.Listener
	free chan struct{}
	done chan struct{}
	once sync.Once
}

// Accept implements net.Listener. It takes a place when it has a connection: a
// listener to which nobody connects must not keep one from the others.
func (l *limited) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	select {
	case l.free <- struct{}{}:
		return &counted{Conn: c, free: l.free}, nil
	case <-l.done:
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
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
