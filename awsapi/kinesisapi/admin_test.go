package kinesisapi

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

func (e *endpoint) admin(method, path, body string) (int, obj) {
	e.t.Helper()
	r := httptest.NewRequest(method, "http://localhost:4567"+adminPrefix+path, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:1"
	w := e.do(r)
	out := obj{}
	require.NoError(e.t, json.Unmarshal(w.Body.Bytes(), &out), w.Body.String())
	return w.Code, out
}

func TestAdmin(t *testing.T) {
	e := newEndpoint(t, &Options{Admin: true})
	e.create("s", 1)
	status, _ := e.admin("GET", "health", "")
	require.Equal(t, 200, status)
	status, _ = e.admin("GET", "ready", "")
	require.Equal(t, 200, status)
	status, out := e.admin("PUT", "clock", `{"offset":"301s"}`)
	require.Equal(t, 200, status, out)
	require.Equal(t, 301*time.Second, e.h.ClockOffset())
	status, out = e.admin("POST", "faults", `{"operation":"ListStreams","action":"internal","count":1,"latency":"1ms"}`)
	require.Equal(t, 200, status)
	require.Equal(t, []any{obj{"id": 1.0, "operation": "ListStreams", "action": "internal", "count": 1.0, "rate": 1.0, "latency": "1ms"}}, out["faults"])
	e.fails("ListStreams", obj{}, codeInternal, "Internal Service Failure")
	e.ok("ListStreams", obj{})
	status, out = e.admin("POST", "faults", `{"action":"latency","latency":"","count":1}`)
	require.Equal(t, 200, status, "an empty latency is none: %v", out)
	_, out = e.admin("DELETE", "faults", "")
	require.Empty(t, out["faults"])
	status, out = e.admin("PUT", "limits", `{"stream":"s","account":"123456789012","region":"eu-west-1","kinesis":true}`)
	require.Equal(t, 200, status, out)
	st, err := e.db.Stream(t.Context(), "s")
	require.NoError(t, err)
	require.EqualValues(t, 1000, st.Info().Limits.WriteRecords)
	status, _ = e.admin("PUT", "limits", `{"stream":"none"}`)
	require.Equal(t, 404, status)
	for _, c := range [][3]string{{"PUT", "clock", `{"offset":"x"}`}, {"PUT", "clock", `{"x":1}`}, {"POST", "faults", `{"action":"x"}`}, {"POST", "faults", `{"action":"drop","latency":"x"}`}} {
		status, out = e.admin(c[0], c[1], c[2])
		require.Equal(t, 400, status, out)
		require.NotEmpty(t, out["error"])
	}
	require.Equal(t, `invalid duration "x": must be a number with a unit, such as 100ms`, out["error"])
	status, _ = e.admin("GET", "other", "")
	require.Equal(t, 404, status)
	status, out = e.admin("POST", "reset", "")
	require.Equal(t, 200, status, out)
	require.Zero(t, e.h.ClockOffset())
	require.Empty(t, e.ok("ListStreams", obj{})["StreamNames"])
	require.NoError(t, e.h.Close())
	status, _ = e.admin("GET", "health", "")
	require.Equal(t, 503, status)
}

func TestAdminIsGuarded(t *testing.T) {
	off := newEndpoint(t, nil)
	status, _ := off.admin("POST", "reset", "")
	require.Equal(t, 404, status)
	status, _ = off.admin("GET", "health", "")
	require.Equal(t, 200, status)
	on := newEndpoint(t, &Options{Admin: true})
	for _, remote := range []string{"10.0.0.1:1", "[2001:db8::1]:1", "nowhere"} {
		r := httptest.NewRequest("POST", adminPrefix+"reset", nil)
		r.RemoteAddr = remote
		require.Equal(t, 403, on.do(r).Code)
	}
	r := httptest.NewRequest("POST", adminPrefix+"reset", nil)
	r.RemoteAddr, r.Host = "[::1]:1", "[::1]:4567"
	require.Equal(t, 200, on.do(r).Code)
	r.Header.Set("Origin", "http://example.com")
	require.Equal(t, 403, on.do(r).Code)
	remote := newEndpoint(t, &Options{Admin: true, AdminRemote: true})
	require.Equal(t, 200, remote.do(httptest.NewRequest("GET", adminPrefix+"faults", nil)).Code)
}

func TestFaults(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 2)
	e.create("t", 1)
	inject := func(f Fault) int {
		t.Helper()
		id, err := e.h.InjectFault(f)
		require.NoError(t, err)
		return id
	}
	put := func(stream string) obj { return obj{"StreamName": stream, "PartitionKey": "k", "Data": ""} }
	inject(Fault{Operation: "PutRecord", Stream: "s", Action: Throttle, Skip: 1, Count: 2})
	e.ok("PutRecord", put("s"))
	e.ok("PutRecord", put("t"))
	for range 2 {
		e.fails("PutRecord", put("s"), codeThroughput, "Rate exceeded for shard shardId-000000000000 in stream s under account 123456789012.")
	}
	e.ok("PutRecord", put("s"))
	e.h.ClearFaults()
	id := inject(Fault{Operation: "DescribeStream", Action: Throttle})
	e.fails("DescribeStream", obj{"StreamName": "s"}, codeLimit, "Rate exceeded for stream s under account 123456789012.")
	require.Len(t, e.h.Faults(), 1)
	e.h.ClearFaults(id)
	e.ok("DescribeStream", obj{"StreamName": "s"})

	// By record and by shard: the others of the call are stored.
	batch := func() []any {
		var records []obj
		for i := range 6 {
			records = append(records, obj{"PartitionKey": "k", "Data": "", "ExplicitHashKey": []string{"0", shardlog.MaxHashKey.String()}[i%2]})
		}
		return e.ok("PutRecords", obj{"StreamName": "s", "Records": records})["Records"].([]any)
	}
	codes := func(records []any) (list []any) {
		for _, r := range records {
			list = append(list, r.(obj)["ErrorCode"])
		}
		return list
	}
	inject(Fault{Records: []int{1, 4}, Action: Internal})
	require.Equal(t, []any{nil, codeInternal, nil, nil, codeInternal, nil}, codes(batch()))
	e.h.ClearFaults()
	inject(Fault{Shard: "1", Action: Throttle, Count: 2})
	require.Equal(t, []any{nil, codeThroughput, nil, codeThroughput, nil, nil}, codes(batch()))
	e.h.ClearFaults()
	inject(Fault{Shard: "0", Operation: "GetRecords", Action: Internal})
	e.fails("GetRecords", obj{"ShardIterator": e.iterator("s", "0", "LATEST")}, codeInternal, "Internal Service Failure")
	e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", "1", "LATEST")})
	e.h.ClearFaults()

	// By chance, but the same chance each time.
	pattern := func() (s string) {
		inject(Fault{Operation: "ListStreams", Action: Internal, Rate: 0.5, Seed: 7})
		for range 20 {
			status, _ := e.send("ListStreams", obj{})
			s += map[int]string{200: ".", 500: "x"}[status]
		}
		e.h.ClearFaults()
		return s
	}
	first := pattern()
	require.Equal(t, first, pattern())
	require.Contains(t, first, ".")
	require.Contains(t, first, "x")

	// The connection is closed: before, and after it was stored.
	inject(Fault{Operation: "PutRecord", Action: Drop, Count: 1})
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { e.send("PutRecord", put("t")) })
	require.Len(t, data(t, e.ok("GetRecords", obj{"ShardIterator": e.iterator("t", "0", "TRIM_HORIZON")})), 1)
	inject(Fault{Operation: "PutRecord", Action: Lost, Count: 1})
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { e.send("PutRecord", put("t")) })
	require.Len(t, data(t, e.ok("GetRecords", obj{"ShardIterator": e.iterator("t", "0", "TRIM_HORIZON")})), 2)
	for _, f := range []Fault{{}, {Action: "x"}, {Action: Drop, Operation: "x"}, {Action: Drop, Rate: 2}, {Action: Drop, Skip: -1}, {Action: Drop, Shard: "x"}} {
		_, err := e.h.InjectFault(f)
		require.ErrorIs(t, err, shardlog.ErrInvalid)
	}
}

func TestLatency(t *testing.T) {
	inBubble(t, nil, func(e *endpoint) {
		_, err := e.h.InjectFault(Fault{Action: Latency, Latency: time.Minute})
		require.NoError(e.t, err)
		before := time.Now()
		e.ok("ListStreams", obj{})
		require.Equal(e.t, time.Minute, time.Since(before))
	})
}

func TestRates(t *testing.T) {
	inBubble(t, &Options{ControlLimits: true}, func(e *endpoint) {
		e.create("s", 1)
		for range 10 {
			e.ok("DescribeStream", obj{"StreamName": "s"})
		}
		e.fails("DescribeStream", obj{"StreamName": "s"}, codeLimit, "Rate exceeded for account 123456789012.")
		for range 5 {
			e.iterator("s", "0", "LATEST")
		}
		e.fails("GetShardIterator", obj{"StreamName": "s", "ShardId": "0", "ShardIteratorType": "LATEST"}, codeThroughput,
			"Rate exceeded for shard shardId-000000000000 in stream s under account 123456789012.")
		time.Sleep(time.Second)
		e.ok("DescribeStream", obj{"StreamName": "s"})
		e.iterator("s", "0", "LATEST")
	})
}

const (
	signKey    = "AKIDEXAMPLE"
	signSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// sign signs a request as a client does, in a way of its own so that it does
// not share the faults of what it tests.
func sign(r *http.Request, body []byte, at time.Time, secret string) {
	date := at.UTC().Format("20060102T150405Z")
	r.Header.Set("X-Amz-Date", date)
	sum := sha256.Sum256(body)
	canonical := "POST\n/\n\ncontent-type:" + r.Header.Get("Content-Type") + "\nhost:" + r.Host + "\nx-amz-date:" + date + "\nx-amz-target:" + r.Header.Get("X-Amz-Target") +
		"\n\ncontent-type;host;x-amz-date;x-amz-target\n" + hex.EncodeToString(sum[:])
	sum = sha256.Sum256([]byte(canonical))
	scope := date[:8] + "/eu-west-1/kinesis/aws4_request"
	text := "AWS4-HMAC-SHA256\n" + date + "\n" + scope + "\n" + hex.EncodeToString(sum[:])
	k := mac(mac(mac(mac([]byte("AWS4"+secret), date[:8]), "eu-west-1"), "kinesis"), "aws4_request")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+signKey+"/"+scope+", SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature="+hex.EncodeToString(mac(k, text)))
}

func TestSignatures(t *testing.T) {
	e := newEndpoint(t, &Options{Credentials: map[string]string{signKey: signSecret}})
	body := []byte("{}")
	request := func(at time.Time, secret string, change func(*http.Request)) string {
		r := newRequest("DescribeLimits", typeJSON, body)
		sign(r, body, at, secret)
		if change != nil {
			change(r)
		}
		w := e.do(r)
		out := obj{}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
		code, _ := out["__type"].(string)
		message, _ := out["message"].(string)
		return code + ": " + message
	}
	now := time.Now()
	require.Equal(t, ": ", request(now, signSecret, nil))
	require.Equal(t, ": ", request(now.Add(-4*time.Minute), signSecret, nil))
	const mismatch = "InvalidSignatureException: The request signature we calculated does not match"
	require.Contains(t, request(now, "wrong", nil), mismatch)
	require.Contains(t, request(now, signSecret, func(r *http.Request) { r.Header.Set("X-Amz-Target", targetPrefix+"ListStreams") }), mismatch)
	require.Contains(t, request(now, signSecret, func(r *http.Request) {
		r.Body = httptest.NewRequest("POST", "/", bytes.NewReader([]byte("{ }"))).Body
		r.ContentLength = 3
	}), mismatch)
	require.Contains(t, request(now.Add(-6*time.Minute), signSecret, nil), "InvalidSignatureException: Signature expired: ")
	require.Contains(t, request(now.Add(6*time.Minute), signSecret, nil), "InvalidSignatureException: Signature not yet current: ")
	require.Equal(t, "UnrecognizedClientException: The security token included in the request is invalid.", request(now, signSecret, func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), signKey, "OTHER", 1))
	}))
	require.Contains(t, request(now, signSecret, func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "/kinesis/", "/s3/", 1))
	}), "Credential should be scoped to correct service")
	require.Contains(t, request(now, signSecret, func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), ";host", "", 1))
	}), "must be a 'SignedHeader'")
	e.h.SetClockOffset(10 * time.Minute)
	require.Contains(t, request(now, signSecret, nil), "Signature expired")
	require.Equal(t, ": ", request(now.Add(10*time.Minute), signSecret, nil))
}

// presigned returns a request that was signed in its query, as presigned URLs
// are. More is added to the query before it is signed.
func presigned(op string, at time.Time, secret, more string) *http.Request {
	body := []byte("{}")
	date := at.UTC().Format("20060102T150405Z")
	scope := date[:8] + "/eu-west-1/kinesis/aws4_request"
	query := "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + strings.ReplaceAll(signKey+"/"+scope, "/", "%2F") + "&X-Amz-Date=" + date +
		more + "&X-Amz-SignedHeaders=content-type%3Bhost%3Bx-amz-target&note=a%20b"
	sum := sha256.Sum256(body)
	text := "POST\n/\n" + query + "\ncontent-type:" + typeJSON + "\nhost:example.com\nx-amz-target:" + targetPrefix + op + "\n\ncontent-type;host;x-amz-target\n" + hex.EncodeToString(sum[:])
	sum = sha256.Sum256([]byte(text))
	k := mac(mac(mac(mac([]byte("AWS4"+secret), date[:8]), "eu-west-1"), "kinesis"), "aws4_request")
	query += "&X-Amz-Signature=" + hex.EncodeToString(mac(k, "AWS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"+hex.EncodeToString(sum[:])))
	r := httptest.NewRequest("POST", "http://example.com/?"+query, bytes.NewReader(body))
	r.Header.Set("Content-Type", typeJSON)
	r.Header.Set("X-Amz-Target", targetPrefix+op)
	return r
}

func TestPresigned(t *testing.T) {
	e := newEndpoint(t, &Options{Credentials: map[string]string{signKey: signSecret}})
	send := func(r *http.Request) string {
		w := e.do(r)
		out := obj{}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
		if w.Code == 200 {
			return "ok"
		}
		return out["__type"].(string) + ": " + out["message"].(string)
	}
	made := func(at time.Time, expires string) string {
		return send(presigned("DescribeLimits", at, signSecret, "&X-Amz-Expires="+expires))
	}
	now := time.Now()
	require.Equal(t, "ok", made(now, "60"))
	require.Equal(t, "ok", made(now.Add(-50*time.Minute), "3600"), "it says itself how long it is good for")
	require.Contains(t, made(now.Add(-70*time.Minute), "3600"), "Signature expired")
	require.Contains(t, made(now.Add(-3*time.Second), "1"), "Signature expired", "a short life is short")
	require.Contains(t, made(now.Add(6*time.Minute), "60"), "Signature not yet current")
	for _, bad := range []string{"soon", "0", "-1", "%2B60", "1.5", "604801", "4294967297", "3600&X-Amz-Expires=60"} {
		require.Contains(t, made(now, bad), "X-Amz-Expires", bad)
	}
	require.Equal(t, "ok", made(now, "604800"))
	require.Contains(t, send(presigned("DescribeLimits", now, signSecret, "")), "must include 'X-Amz-Expires'")
	require.Contains(t, send(presigned("DescribeLimits", now, "wrong", "&X-Amz-Expires=60")), "does not match")
	r := presigned("DescribeLimits", now, signSecret, "&X-Amz-Expires=60")
	r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "a%20b", "a%20c", 1)
	require.Contains(t, send(r), "does not match")
	r = presigned("DescribeLimits", now, signSecret, "&X-Amz-Expires=60")
	r.Header.Set("X-Amz-Target", targetPrefix+"ListStreams")
	require.Contains(t, send(r), "does not match", "it is good for one operation")
	require.Contains(t, send(presigned("DescribeLimits", now, signSecret, "&X-Amz-Expires=60&X-Amz-Security-Token=x")), "UnrecognizedClientException")

	at := now.Truncate(time.Second)
	e.h.SetClockOffset(at.Add(59*time.Second + 500*time.Millisecond).Sub(now))
	require.Equal(t, "ok", made(at, "61"), "the clock is that of the endpoint")
	e.h.SetClockOffset(at.Add(62 * time.Second).Sub(now))
	require.Contains(t, made(at, "61"), "Signature expired")
}
