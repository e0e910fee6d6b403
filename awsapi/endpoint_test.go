package awsapi_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/awsapi"
	"github.com/shardlog/shardlog/awsapi/awstest"
	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/internal/awswire"
)

// client calls services of one URL.
type client struct {
	t           *testing.T
	srv         *awstest.Server
	credentials awswire.Credentials
}

const account = "111122223333"

// serveToy serves the toy next to Kinesis.
func serveToy(t *testing.T, opts *awsapi.Options) *client {
	t.Helper()
	kinesis, err := kinesisapi.Service(awstest.OpenDB(t), nil)
	require.NoError(t, err)
	e, err := awsapi.New(opts, kinesis, toy())
	require.NoError(t, err)
	return &client{t, awstest.Serve(t, e, awstest.Network{InMemory: true}), awswire.Credentials{AccessKey: account, Secret: "secret"}}
}

// call makes a signed request.
func (c *client) call(service, target string, p *awswire.Protocol, body []byte) (*http.Response, string) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), "POST", c.srv.URL, bytes.NewReader(body))
	require.NoError(c.t, err)
	r.Header.Set("Content-Type", p.Media)
	r.Header.Set("X-Amz-Target", target)
	awswire.Sign(r, body, c.credentials, "eu-west-1", service, time.Now().Add(c.srv.Endpoint.ClockOffset()))
	res, err := c.srv.Client().Do(r)
	require.NoError(c.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	return res, string(b)
}

// word calls an operation of the toy in JSON 1.0.
func (c *client) word(op, in string) (int, string) {
	c.t.Helper()
	res, body := c.call("words", "Words_2026."+op, awswire.JSON10, []byte(in))
	return res.StatusCode, body
}

func TestServicesOnOnePort(t *testing.T) {
	c := serveToy(t, nil)
	res, body := c.call("kinesis", "Kinesis_20131202.CreateStream", awswire.JSON11, []byte(`{"StreamName":"s","ShardCount":1}`))
	require.Equal(t, 200, res.StatusCode, body)
	for _, p := range []*awswire.Protocol{awswire.JSON10, awswire.JSON11} {
		res, body = c.call("words", "Words_2026.Define", p, []byte(`{"Word":"log","Means":"a list"}`))
		require.Equal(t, 200, res.StatusCode, body)
		require.Empty(t, body)
		res, body = c.call("words", "Words_2026.LookUp", p, []byte(`{"Word":"log"}`))
		require.JSONEq(t, `{"Means":"a list"}`, body)
		require.Equal(t, p.Media, res.Header.Get("Content-Type"))
	}
	in := awswire.Encoder{Format: awswire.FormatCBOR}
	in.Open()
	in.TextField("Word", "log")
	in.Close()
	res, body = c.call("words", "Words_2026.LookUp", awswire.CBOR11, in.Buf)
	require.Equal(t, awswire.CBOR11.Media, res.Header.Get("Content-Type"))
	require.Equal(t, "\xbfeMeansfa list\xff", body)

	// Kinesis does not speak JSON 1.0, and the toy does not have its operations.
	res, _ = c.call("kinesis", "Kinesis_20131202.ListStreams", awswire.JSON10, []byte(`{}`))
	require.Equal(t, 404, res.StatusCode)
	_, body = c.call("words", "Words_2026.ListStreams", awswire.JSON10, []byte(`{}`))
	require.JSONEq(t, `{"__type":"UnknownOperationException"}`, body)
	// A target that is nobody's: the service is that of the signature.
	res, body = c.call("words", "None.LookUp", awswire.JSON10, []byte(`{}`))
	require.Equal(t, awswire.JSON10.Media, res.Header.Get("Content-Type"))
	require.JSONEq(t, `{"__type":"UnknownOperationException"}`, body)
	_, body = c.word("LookUp", `{"Word":"none"}`)
	require.JSONEq(t, `{"__type":"WordNotFound","message":"No none."}`, body)
}

func TestInputIsValidated(t *testing.T) {
	c := serveToy(t, nil)
	const failed = "failed to satisfy constraint: "
	for in, want := range map[string]string{
		`{}`:                      "Value null at 'word' " + failed + "Member must not be null",
		`{"Word":"Log"}`:          "Value 'Log' at 'word' " + failed + "Member must satisfy regular expression pattern: [a-z]+",
		`{"Word":"abcdefghi"}`:    "Value 'abcdefghi' at 'word' " + failed + "Member must have length less than or equal to 8",
		`{"Word":"a","Kind":"X"}`: "Value 'X' at 'kind' " + failed + "Member must satisfy enum value set: [NOUN, VERB]",
		`{"Word":"a","Rank":6}`:   "Value '6' at 'rank' " + failed + "Member must have value less than or equal to 5",
		`{"Word":"a","Rank":0}`:   "Value '0' at 'rank' " + failed + "Member must have value greater than or equal to 1",
		`{"Word":"a","Like":["B"]}`: "Value '[B]' at 'like' " + failed + "Member must satisfy constraint: [Member must have length less than or equal to 8, " +
			"Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [a-z]+]",
		`{"Word":"a","Like":["a","b","c"]}`: "Value '[a, b, c]' at 'like' " + failed + "Member must have length less than or equal to 2",
		`{"Word":"a","Notes":{"B":{"Text":"a"}}}`: "Value '{B={text=a}}' at 'notes' " + failed + "Map keys must satisfy constraint: [Member must have length less than or equal to 8, " +
			"Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [a-z]+]",
		`{"Word":"a","Like":[null,"b","c"]}`: "Value '[null, b, c]' at 'like' " + failed + "Member must have length less than or equal to 2; Value null at 'like.1.member' " + failed + "Member must not be null",
		`{"Word":"a","Notes":{"b":{}}}`:      "Value null at 'notes.b.member.text' " + failed + "Member must not be null",
	} {
		status, body := c.word("Define", in)
		require.Equal(t, 400, status)
		var e struct {
			Type    string `json:"__type"`
			Message string
		}
		require.NoError(t, json.Unmarshal([]byte(body), &e), body)
		require.Equal(t, "ValidationException", e.Type, in)
		detected := "1 validation error detected: "
		if strings.Contains(want, "; ") {
			detected = "2 validation errors detected: "
		}
		require.Equal(t, detected+want, e.Message, in)
	}
}

func TestFaultsRatesAndSignaturesOfAService(t *testing.T) {
	c := serveToy(t, &awsapi.Options{Credentials: map[string]string{account: "secret", "GUEST": "guest"}})
	define := func(word string) string {
		_, body := c.word("Define", `{"Word":"`+word+`"}`)
		return body
	}
	require.Empty(t, define("a"))
	id, err := c.srv.Endpoint.InjectFault(awsapi.Fault{Service: "words", Operation: "Define", Resource: "b", Action: awsapi.Throttle, Skip: 1, Count: 1})
	require.NoError(t, err)
	require.Empty(t, define("b"))
	require.Contains(t, define("b"), "Throttled")
	require.Equal(t, "b", c.srv.Endpoint.Faults()[0].Resource)
	c.srv.Endpoint.ClearFaults(id)
	require.Empty(t, c.srv.Endpoint.Faults())
	// The clock stands ahead for each step, so that the bucket is full again.
	c.srv.Endpoint.SetClockOffset(time.Hour)
	_, err = c.srv.Endpoint.InjectFault(awsapi.Fault{Service: "words", Operation: "PutRecord", Action: awsapi.Internal})
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	_, err = c.srv.Endpoint.InjectFault(awsapi.Fault{Service: "none", Action: awsapi.Internal})
	require.ErrorIs(t, err, shardlog.ErrInvalid)

	// A signature is for one service and with one secret.
	_, body := c.call("kinesis", "Words_2026.LookUp", awswire.JSON10, []byte(`{"Word":"a"}`))
	require.Contains(t, body, "Credential should be scoped to correct service: 'words'.")
	c.credentials = awswire.Credentials{AccessKey: "GUEST", Secret: "wrong"}
	require.Contains(t, define("d"), "InvalidSignatureException")
	c.credentials.Secret = "guest"
	require.JSONEq(t, `{"__type":"AccessDeniedException"}`, define("d"))
	_, body = c.word("LookUp", `{"Word":"a"}`)
	require.Contains(t, body, "WordNotFound", "another account has words of its own")
}

func TestRatesAreByKey(t *testing.T) {
	c := serveToy(t, nil)
	r := func(word string) string {
		w := httptest.NewRecorder()
		req := httptest.NewRequest("POST", "/", strings.NewReader(`{"Word":"`+word+`"}`))
		req.Header.Set("Content-Type", awswire.JSON10.Media)
		req.Header.Set("X-Amz-Target", "Words_2026.Define")
		awswire.Sign(req, []byte(`{"Word":"`+word+`"}`), c.credentials, "eu-west-1", "words", time.Now())
		c.srv.Endpoint.ServeHTTP(w, req)
		return w.Body.String()
	}
	refused := 0
	for range 1000 {
		if strings.Contains(r("a"), "Throttled") {
			refused++
		}
	}
	require.Positive(t, refused, "a thousand calls take less than 500 s")
	require.Empty(t, r("b"))
}

func TestAdminOfSeveralServices(t *testing.T) {
	c := serveToy(t, &awsapi.Options{Admin: true})
	admin := func(method, path, body string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, c.srv.URL+"/_shardlog/"+path, strings.NewReader(body))
		require.NoError(t, err)
		res, err := c.srv.Client().Do(r)
		require.NoError(t, err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(b)
	}
	status, body := admin("POST", "faults?service=words", `{"operation":"LookUp","resource":"a","action":"internal","latency":"1ms"}`)
	require.Equal(t, 200, status, body)
	status, body = admin("POST", "faults", `{"operation":"PutRecord","stream":"s","shard":"0","action":"throttle"}`)
	require.Equal(t, 200, status, body)
	require.Contains(t, body, `{"id":1,"service":"words","operation":"LookUp","resource":"a","action":"internal","rate":1,"latency":"1ms"}`)
	require.Contains(t, body, `{"id":2,"operation":"PutRecord","stream":"s","shard":"shardId-000000000000","action":"throttle","rate":1}`)
	status, _ = c.word("LookUp", `{"Word":"a"}`)
	require.Equal(t, 500, status)
	for path, in := range map[string]string{"faults?service=none": `{}`, "faults?service=words": `{"stream":"s","action":"drop"}`, "faults": `{"action":"drop","latency":"long"}`} {
		status, body = admin("POST", path, in)
		require.Equal(t, 400, status, body)
		require.NotContains(t, body, `\\\`, "the text of an error is quoted once")
	}
	status, body = admin("POST", "faults?service=words", `{"service":"kinesis","action":"drop"}`)
	require.Equal(t, 400, status, "the fault would hit another service than the body says: %s", body)
	status, body = admin("POST", "faults?service=words", `{"service":"words","action":"latency","count":1}`)
	require.Equal(t, 200, status, body)
	status, body = admin("POST", "reset", "")
	require.Equal(t, 200, status)
	require.Contains(t, body, `"faults":[]`)
	status, _ = admin("GET", "ready", "")
	require.Equal(t, 200, status)
	require.NoError(t, c.srv.Endpoint.Close())
	w := httptest.NewRecorder()
	c.srv.Endpoint.ServeHTTP(w, httptest.NewRequest("GET", "/_shardlog/ready", nil))
	require.Equal(t, 503, w.Code)
}

func TestEndpointsAreChecked(t *testing.T) {
	one := toy()
	incomplete := &awsapi.Service{Name: "words", TargetPrefix: "Words_2026."}
	nested, sameName := toy(), toy()
	nested.Name, nested.TargetPrefix = "longer", one.TargetPrefix+"More."
	sameName.TargetPrefix = "Other."
	for name, services := range map[string][]*awsapi.Service{"none": nil, "nil": {nil}, "twice": {one, toy()}, "incomplete": {incomplete},
		"targets of two services": {one, nested}, "two services with one name": {one, sameName}} {
		_, err := awsapi.New(nil, services...)
		require.ErrorIs(t, err, shardlog.ErrInvalid, name)
	}
	_, err := awsapi.New(&awsapi.Options{Account: "x", Region: "X", MaxBodyBytes: 1, BodyTimeout: -1}, one)
	for _, field := range []string{"Account", "Region", "MaxBodyBytes", "BodyTimeout"} {
		require.ErrorContains(t, err, "Options."+field)
	}
	_, err = kinesisapi.Service(awstest.OpenDB(t), &kinesisapi.Options{Account: account})
	require.ErrorIs(t, err, shardlog.ErrInvalid, "the account is the endpoint's to say")
	_, err = kinesisapi.Service(nil, nil)
	require.ErrorIs(t, err, shardlog.ErrInvalid)
}

// TestServiceWithoutTargets has one that is chosen by the signature alone. It
// must not take the targets of the services after it.
func TestServiceWithoutTargets(t *testing.T) {
	untargeted, another := toy(), toy()
	untargeted.Name, untargeted.TargetPrefix = "rest", ""
	another.Name, another.TargetPrefix = "query", ""
	e, err := awsapi.New(nil, untargeted, another, toy())
	require.NoError(t, err)
	c := &client{t, awstest.Serve(t, e, awstest.Network{InMemory: true}), awswire.Credentials{AccessKey: account, Secret: "secret"}}
	_, body := c.word("Define", `{"Word":"log"}`)
	require.Empty(t, body)
	_, body = c.call("rest", "", awswire.JSON10, []byte(`{}`))
	require.JSONEq(t, `{"__type":"UnknownOperationException"}`, body)
}

// TestRatesBelowOne has a rate of less than a call per second.
func TestRatesBelowOne(t *testing.T) {
	s := toy()
	s.Operations["Define"].Rate.PerSecond = 0.001
	e, err := awsapi.New(nil, s)
	require.NoError(t, err)
	c := &client{t, awstest.Serve(t, e, awstest.Network{InMemory: true}), awswire.Credentials{AccessKey: account, Secret: "secret"}}
	for _, want := range []int{200, 400} {
		status, body := c.word("Define", `{"Word":"a"}`)
		require.Equal(t, want, status, body)
	}
	e.SetClockOffset(time.Hour)
	status, body := c.word("Define", `{"Word":"a"}`)
	require.Equal(t, 200, status, body)
}

// TestMemoryIsGivenBack makes requests that end in every way before or in place
// of an answer, each with a body that needs memory of both bounds.
func TestMemoryIsGivenBack(t *testing.T) {
	c := serveToy(t, &awsapi.Options{MaxBodyBytes: 64 << 10})
	e := c.srv.Endpoint
	free := e.FreeMemory()
	word := `{"Word":"a","Means":"` + strings.Repeat("x", 40<<10) + `"}`
	drop := func(action awsapi.Action) func() {
		return func() {
			_, err := e.InjectFault(awsapi.Fault{Service: "words", Action: action, Count: 1})
			require.NoError(t, err)
		}
	}
	for name, r := range map[string]struct {
		body, method, target, media string
		before                      func()
	}{
		"invalid":           {body: word},
		"dropped":           {body: `{"Word":"a"` + strings.Repeat(" ", 40<<10) + `}`, before: drop(awsapi.Drop)},
		"lost":              {body: `{"Word":"a"` + strings.Repeat(" ", 40<<10) + `}`, before: drop(awsapi.Lost)},
		"no JSON":           {body: word[1:]},
		"no CBOR":           {body: word, media: awswire.CBOR11.Media},
		"unknown type":      {body: word, media: "text/plain"},
		"unknown operation": {body: word, target: "Words_2026.None"},
		"unknown service":   {body: word, target: "None.None"},
		"preflight":         {body: word, method: "OPTIONS"},
		"other method":      {body: word, method: "PUT"},
		"too large":         {body: word + word},
		"cut short":         {body: word[:20<<10]},
	} {
		for _, announced := range []bool{true, false} {
			req := httptest.NewRequest(cmp.Or(r.method, "POST"), "/", nil)
			req.ContentLength = -1
			if announced {
				req.ContentLength = int64(len(r.body))
			}
			var body io.Reader = strings.NewReader(r.body)
			if name == "cut short" {
				body = io.MultiReader(body, iotest.ErrReader(io.ErrUnexpectedEOF))
			}
			req.Body = io.NopCloser(body)
			req.Header.Set("Content-Type", cmp.Or(r.media, awswire.JSON10.Media))
			req.Header.Set("X-Amz-Target", cmp.Or(r.target, "Words_2026.Define"))
			awswire.Sign(req, nil, c.credentials, "eu-west-1", "words", time.Now())
			aborted := false
			if r.before != nil {
				r.before()
			}
			func() {
				defer func() { aborted = recover() != nil }()
				e.ServeHTTP(httptest.NewRecorder(), req)
			}()
			require.Equal(t, r.before != nil, aborted, name)
			require.Equal(t, free, e.FreeMemory(), name)
		}
	}
}

func TestEveryServiceInOneLine(t *testing.T) {
	srv := awstest.NewServer(t, nil)
	c := &client{t, srv, awswire.Credentials{AccessKey: account, Secret: "none"}}
	res, body := c.call("kinesis", "Kinesis_20131202.CreateStream", awswire.JSON11, []byte(`{"StreamName":"s","ShardCount":2}`))
	require.Equal(t, 200, res.StatusCode, body)
	st, err := srv.DB.Stream(t.Context(), "s")
	require.NoError(t, err)
	require.Equal(t, 2, st.Info().OpenShards)
}
