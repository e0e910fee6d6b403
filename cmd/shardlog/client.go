package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

// target is the log that a command works on: a directory or an endpoint.
type target struct {
	dir, endpoint, region string
	caFile                string
	insecure              bool
	json                  bool
	makes                 bool // the command makes a database in the directory
}

// defaultEndpoint is where "shardlog serve" listens.
const defaultEndpoint = "http://127.0.0.1:4567"

func (t *target) register(f *flagSet) {
	textFlag(f, &t.dir, "dir", "", "`directory` of the log; no other process may have it open", nil)
	textFlag(f, &t.endpoint, "endpoint", firstEnv("", "AWS_ENDPOINT_URL_KINESIS", "AWS_ENDPOINT_URL"),
		"`URL` of a Kinesis endpoint; "+defaultEndpoint+" if there is no -dir either. Credentials are those of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", nil)
	textFlag(f, &t.region, "region", firstEnv("us-east-1", "AWS_REGION", "AWS_DEFAULT_REGION"), "`region`", nil)
	textFlag(f, &t.caFile, "cacert", os.Getenv("AWS_CA_BUNDLE"), "PEM `file` with the certificates to trust at an https endpoint, in place of the system's", nil)
	f.BoolVar(&t.insecure, "insecure", false, "trust any certificate of an https endpoint, such as the self-made one of serve -tls")
	f.BoolVar(&t.json, "json", false, "print JSON")
}

// check returns what is wrong with the flags, "" if nothing is.
func (t *target) check(f *flagSet) string {
	if t.dir != "" {
		for _, name := range []string{"endpoint", "cacert", "insecure"} {
			if given(f, name) {
				return "-dir and -" + name + " exclude each other"
			}
		}
		if err := t.options().Validate(); err != nil {
			return err.Error()
		}
		return ""
	}
	if t.endpoint == "" {
		t.endpoint = defaultEndpoint
	}
	u, err := url.Parse(t.endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Sprintf("-endpoint %q: must be a URL such as %s", t.endpoint, defaultEndpoint)
	}
	t.endpoint = strings.TrimRight(t.endpoint, "/")
	if t.insecure && given(f, "cacert") {
		return "-insecure and -cacert exclude each other"
	}
	return ""
}

func (t *target) options() *kinesisapi.Options { return &kinesisapi.Options{Region: t.region} }

func firstEnv(def string, names ...string) string {
	for _, n := range names {
		if v := os.Getenv(n); v != "" {
			return v
		}
	}
	return def
}

// client calls a Kinesis endpoint, or a log as if it were one.
type client struct {
	http        *http.Client
	url, region string
	credentials awswire.Credentials
	close       func() error
	// keyRanges reports whether records of a stream are placed by the MD5 of
	// their keys. Endpoints of Kinesis have no others; a directory may.
	keyRanges func(stream string) bool
}

// open returns a client of the target. The caller closes it.
func (t *target) open() (*client, error) {
	c := &client{
		http: http.DefaultClient, url: t.endpoint, region: t.region, close: func() error { return nil }, keyRanges: func(string) bool { return true },
		credentials: awswire.Credentials{
			AccessKey: firstEnv("000000000000", "AWS_ACCESS_KEY_ID"), Secret: firstEnv("none", "AWS_SECRET_ACCESS_KEY"), Token: os.Getenv("AWS_SESSION_TOKEN"),
		},
	}
	if t.dir == "" {
		return c, t.trust(c)
	}
	look := wantDatabase
	if t.makes {
		look = wantRoom
	}
	if err := look(t.dir); err != nil {
		return nil, err
	}
	db, err := stream.Open(t.dir, nil)
	if err != nil {
		return nil, err
	}
	h, err := kinesisapi.NewHandler(db, t.options())
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	c.url, c.credentials = "http://localhost", awswire.Credentials{AccessKey: "000000000000", Secret: "none"}
	c.http = &http.Client{Transport: handlerTransport{h}}
	c.close = func() error { return errors.Join(h.Close(), db.Close()) }
	c.keyRanges = func(name string) bool {
		st, err := db.Stream(context.Background(), name)
		return err != nil || st.Capabilities().KeyRanges
	}
	return c, nil
}

// trust makes the client trust the certificates that the flags name.
func (t *target) trust(c *client) error {
	if !t.insecure && t.caFile == "" || !strings.HasPrefix(t.endpoint, "https:") {
		return nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: t.insecure}
	if !t.insecure {
		b, err := os.ReadFile(t.caFile)
		if err != nil {
			return err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(b) {
			return fmt.Errorf("%s holds no certificate in PEM", t.caFile)
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = cfg
	c.http = &http.Client{Transport: transport}
	c.close = func() error {
		transport.CloseIdleConnections()
		return nil
	}
	return nil
}

// handlerTransport sends requests to a handler without a network.
type handlerTransport struct{ h http.Handler }

// RoundTrip implements http.RoundTripper.
func (t handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &memoryResponse{header: http.Header{}, status: http.StatusOK}
	t.h.ServeHTTP(w, r)
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Header: w.header,
		Body: io.NopCloser(&w.body), Request: r,
	}, nil
}

// memoryResponse is an http.ResponseWriter that keeps what is written.
type memoryResponse struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (m *memoryResponse) Header() http.Header { return m.header }

// WriteHeader implements http.ResponseWriter.
func (m *memoryResponse) WriteHeader(status int) { m.status = status }

// Write implements http.ResponseWriter.
func (m *memoryResponse) Write(b []byte) (int, error) { return m.body.Write(b) }

// serviceError is an error response of the endpoint.
type serviceError struct {
	code, message string
	status        int
	// earlier says that an attempt before this one ended with a server error, so
	// that it may have been carried out: then this is no answer to the call.
	earlier bool
}

// Error describes e in one line.
func (e *serviceError) Error() string {
	if e.message == "" {
		return e.code
	}
	return e.code + ": " + e.message
}

// throttled reports whether the call was refused for now and may succeed soon.
func throttled(err error) bool {
	var e *serviceError
	return errors.As(err, &e) && (e.status >= 500 || e.code == "ProvisionedThroughputExceededException" || e.code == "LimitExceededException" || e.code == "ThrottlingException")
}

// refusedWith reports whether err is an answer of the endpoint with this code.
func refusedWith(err error, code string) bool {
	var e *serviceError
	return errors.As(err, &e) && e.code == code
}

// unknown reports whether a call that ended with err may have been carried out.
func unknown(err error) bool {
	var answer *serviceError
	if errors.As(err, &answer) {
		return answer.status >= 500 || answer.earlier
	}
	var dial *net.OpError
	return err != nil && !(errors.As(err, &dial) && dial.Op == "dial")
}

// change makes a call that changes something. Its error says if it is not known
// whether that was done.
func (c *client) change(ctx context.Context, op string, in, out any, what string) error {
	err := c.call(ctx, op, in, out)
	if unknown(err) {
		return partly(err, "it is not known whether %s", what)
	}
	return err
}

// maxTries is the number of attempts of a call that is throttled.
const maxTries = 6

// call makes a request, repeats it while it is throttled, and decodes the
// response into out unless that is nil.
func (c *client) call(ctx context.Context, op string, in, out any) error {
	return c.callWithin(ctx, ctx, op, in, out)
}

// callWithin is call with a context of its own for each request, which may
// outlive that of the call: then no request follows.
func (c *client) callWithin(ctx, request context.Context, op string, in, out any) error {
	earlier := false
	for try := 1; ; try++ {
		err := c.once(request, op, in, out)
		var answer *serviceError
		if errors.As(err, &answer) {
			answer.earlier = earlier
			earlier = unknown(answer)
		}
		if !throttled(err) || try == maxTries {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// pause waits before the next attempt, longer after each one, or until ctx ends.
func pause(ctx context.Context, try int) error {
	timer := time.NewTimer(min(50*time.Millisecond<<try, 2*time.Second))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *client) once(ctx context.Context, op string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Kinesis_20131202."+op)
	awswire.Sign(r, body, c.credentials, c.region, "kinesis", time.Now())
	res, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode == http.StatusOK {
		if out == nil || len(answer) == 0 {
			return nil
		}
		return json.Unmarshal(answer, out)
	}
	var e struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(answer, &e); err != nil || e.Type == "" {
		e.Type = res.Status
	}
	return &serviceError{code: e.Type, message: e.Message, status: res.StatusCode}
}

// with runs f with a client of the target. A signal that came while the target
// was opened ends it here.
func (t *target) with(ctx context.Context, f func(*client) error) error {
	c, err := t.open()
	if err != nil {
		return err
	}
	if err = context.Cause(ctx); err == nil {
		err = f(c)
	}
	return errors.Join(err, c.close())
}
