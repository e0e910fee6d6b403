package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

// target is the log that a command works on: a directory or an endpoint.
type target struct {
	dir, endpoint, region string
	json                  bool
}

func (t *target) register(f *flag.FlagSet) {
	f.StringVar(&t.dir, "dir", "", "directory of the log; no other process may have it open")
	f.StringVar(&t.endpoint, "endpoint", firstEnv("", "AWS_ENDPOINT_URL_KINESIS", "AWS_ENDPOINT_URL"),
		"URL of a Kinesis endpoint; http://127.0.0.1:4567 if there is no -dir either. Credentials are those of AWS_ACCESS_KEY_ID and its like")
	f.StringVar(&t.region, "region", firstEnv("us-east-1", "AWS_REGION", "AWS_DEFAULT_REGION"), "region")
	f.BoolVar(&t.json, "json", false, "print JSON")
}

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
}

// open returns a client of the target. The caller closes it.
func (t *target) open() (*client, error) {
	c := &client{
		http: http.DefaultClient, url: t.endpoint, region: t.region, close: func() error { return nil },
		credentials: awswire.Credentials{
			AccessKey: firstEnv("000000000000", "AWS_ACCESS_KEY_ID"), Secret: firstEnv("none", "AWS_SECRET_ACCESS_KEY"), Token: os.Getenv("AWS_SESSION_TOKEN"),
		},
	}
	if t.dir == "" {
		if c.url == "" {
			c.url = "http://127.0.0.1:4567"
		}
		return c, nil
	}
	if _, err := os.Stat(t.dir); err != nil {
		return nil, err
	}
	db, err := stream.Open(t.dir, nil)
	if err != nil {
		return nil, err
	}
	h, err := kinesisapi.NewHandler(db, &kinesisapi.Options{Region: t.region})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	c.url, c.credentials = "http://localhost", awswire.Credentials{AccessKey: "000000000000", Secret: "none"}
	c.http = &http.Client{Transport: handlerTransport{h}}
	c.close = func() error { return errors.Join(h.Close(), db.Close()) }
	return c, nil
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

// maxTries is the number of attempts of a call that is throttled.
const maxTries = 6

// call makes a request, repeats it while it is throttled, and decodes the
// response into out unless that is nil.
func (c *client) call(ctx context.Context, op string, in, out any) error {
	for try := 1; ; try++ {
		err := c.once(ctx, op, in, out)
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
	return &serviceError{e.Type, e.Message, res.StatusCode}
}

// with runs f with a client of the target.
func (t *target) with(f func(*client) error) error {
	c, err := t.open()
	if err != nil {
		return err
	}
	return errors.Join(f(c), c.close())
}
