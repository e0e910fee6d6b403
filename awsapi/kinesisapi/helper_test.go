package kinesisapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/internal/leaktest"
	"github.com/shardlog/shardlog/stream"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const (
	testAccount = "123456789012"
	testAuth    = "AWS4-HMAC-SHA256 Credential=123456789012/20260101/eu-west-1/kinesis/aws4_request, SignedHeaders=host, Signature=00"
	testARN     = "arn:aws:kinesis:eu-west-1:123456789012:stream/"
)

// endpoint is a handler that is called without a network.
type endpoint struct {
	t  testing.TB
	h  *Handler
	db *stream.DB
}

func newEndpoint(t testing.TB, opts *Options) *endpoint {
	t.Helper()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	require.NoError(t, err)
	h, err := NewHandler(db, opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, h.Close())
		require.NoError(t, db.Close())
	})
	return &endpoint{t, h, db}
}

// What tests call what the packages below have.
const (
	adminPrefix    = "/_shardlog/"
	plainJSON      = "application/json"
	maxHeaderBytes = 64 << 10
	headerText     = 7 // type of a header of an event
	codeValidation = awswire.CodeValidation
	codeInternal   = awswire.CodeInternal
)

var typeJSON, typeCBOR = awswire.JSON11.Media, awswire.CBOR11.Media

// tokenHeader begins iterators, as those of AWS do.
var tokenHeader = []byte{0, 0, 0, 0, 0, 0, 0, 1}

var testOperations = func() map[string]*awswire.Operation {
	all := operations()
	for _, op := range all {
		op.Lenient = nil // it asks the database, and calls of newCall have none
	}
	return all
}()

// newCall returns a request with a body that was not looked at.
func newCall(op string, p *awswire.Protocol, body []byte) *call {
	c := &call{}
	c.Session, c.Op, c.Protocol, c.Body = c, testOperations[op], p, body
	return c
}

// obj is a JSON object.
type obj = map[string]any

func newRequest(op, media string, body []byte) *http.Request {
	r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
	r.Header.Set("Content-Type", media)
	r.Header.Set("X-Amz-Target", targetPrefix+op)
	r.Header.Set("X-Amz-Date", "20260101T000000Z")
	r.Header.Set("Authorization", testAuth)
	return r
}

func (e *endpoint) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	e.h.ServeHTTP(w, r)
	return w
}

// send makes a call in JSON and returns status and answer.
func (e *endpoint) send(op string, in any) (int, obj) {
	e.t.Helper()
	body, err := json.Marshal(in)
	require.NoError(e.t, err)
	w := e.do(newRequest(op, typeJSON, body))
	out := obj{}
	if w.Body.Len() > 0 {
		require.NoError(e.t, json.Unmarshal(w.Body.Bytes(), &out), w.Body.String())
	}
	return w.Code, out
}

// ok makes a call that has to succeed.
func (e *endpoint) ok(op string, in any) obj {
	e.t.Helper()
	status, out := e.send(op, in)
	require.Equal(e.t, 200, status, "%s: %v", op, out)
	return out
}

// fails makes a call that has to fail, and checks code and text.
func (e *endpoint) fails(op string, in any, code, message string) {
	e.t.Helper()
	status, out := e.send(op, in)
	want := obj{"__type": code}
	if message != "" {
		want["message"] = message
	}
	require.Equal(e.t, want, out, op)
	if code == codeInternal {
		require.Equal(e.t, 500, status)
	} else {
		require.Equal(e.t, 400, status)
	}
}

func (e *endpoint) create(name string, shards int) {
	e.t.Helper()
	e.ok("CreateStream", obj{"StreamName": name, "ShardCount": shards})
}

func (e *endpoint) put(name, key, data string) obj {
	e.t.Helper()
	return e.ok("PutRecord", obj{"StreamName": name, "PartitionKey": key, "Data": []byte(data)})
}

func (e *endpoint) iterator(name, shard, kind string, more ...obj) string {
	e.t.Helper()
	in := obj{"StreamName": name, "ShardId": shard, "ShardIteratorType": kind}
	for _, m := range more {
		for k, v := range m {
			in[k] = v
		}
	}
	return e.ok("GetShardIterator", in)["ShardIterator"].(string)
}

// data returns the data of the records of an answer.
func data(t testing.TB, out obj) []string {
	t.Helper()
	all := []string{}
	for _, r := range out["Records"].([]any) {
		var b []byte
		text, _ := json.Marshal(r.(obj)["Data"])
		require.NoError(t, json.Unmarshal(text, &b))
		all = append(all, string(b))
	}
	return all
}

// How long and how often to look for what is to happen in another goroutine.
const (
	eventually     = 10 * time.Second
	eventuallyTick = time.Millisecond
)
