package kinesisapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/awswire"
)

// as makes a call as another account.
func (e *endpoint) as(account, op string, in any) (int, string) {
	e.t.Helper()
	body, err := json.Marshal(in)
	require.NoError(e.t, err)
	r := newRequest(op, typeJSON, body)
	r.Header.Set("Authorization", strings.Replace(testAuth, testAccount, account, 1))
	w := e.do(r)
	return w.Code, w.Body.String()
}

// A header that names two credentials is of the account whose signature is
// verified, wherever the other stands.
func TestScopeIsThatOfTheVerifiedCredential(t *testing.T) {
	const ours, theirs = "111111111111", "222222222222"
	e := newEndpoint(t, &Options{Credentials: map[string]string{ours: signSecret, theirs: "secret"}})
	for _, extra := range []string{"Credential=" + theirs + "/20260101/eu-west-1/kinesis/aws4_request, ", "X=Credential=" + theirs + "/20260101/eu-west-1/kinesis/aws4_request, "} {
		name := fmt.Sprintf("s%d", len(extra))
		body := []byte(`{"StreamName":"` + name + `","ShardCount":1}`)
		r := newRequest("CreateStream", typeJSON, body)
		sign(r, body, time.Now(), signSecret)
		auth := strings.ReplaceAll(r.Header.Get("Authorization"), signKey, ours)
		r.Header.Set("Authorization", strings.Replace(auth, " Credential", " "+extra+"Credential", 1))
		require.Equal(t, 200, e.do(r).Code)
		_, err := e.h.svc.streams.find(t.Context(), awswire.Scope{Account: theirs, Region: "eu-west-1"}, name, &awswire.Clock{})
		require.True(t, isNotFound(err), "made in another's account")
		_, err = e.h.svc.streams.find(t.Context(), awswire.Scope{Account: ours, Region: "eu-west-1"}, name, &awswire.Clock{})
		require.NoError(t, err)
	}
}

func TestWhatIsNotSignedIsRefused(t *testing.T) {
	e := newEndpoint(t, &Options{Credentials: map[string]string{signKey: signSecret}})
	body := []byte("{}")
	for name, c := range map[string]struct {
		change func(*http.Request)
		want   string
	}{
		"another algorithm": {func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "SHA256", "SHA1", 1))
		}, "Unsupported AWS 'algorithm'"},
		"a body that is not signed": {func(r *http.Request) {
			r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(`{ }`)), 3
		}, "does not match"},
		"a header twice": {func(r *http.Request) { r.Header.Add("X-Amz-Target", targetPrefix+"ListStreams") }, "does not match"},
		"a date twice":   {func(r *http.Request) { r.Header.Add("X-Amz-Date", "20200101T000000Z") }, "does not match"},
		"another host":   {func(r *http.Request) { r.Host = "other" }, "does not match"},
		"a signature of no length": {func(r *http.Request) {
			auth, _, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
			r.Header.Set("Authorization", auth+"Signature=0")
		}, "does not match"},
	} {
		r := newRequest("DescribeLimits", typeJSON, body)
		sign(r, body, time.Now(), signSecret)
		c.change(r)
		w := e.do(r)
		require.Equal(t, 400, w.Code, name)
		require.Contains(t, w.Body.String(), c.want, name)
	}
}

func TestAdminIsNotForPagesAndProxies(t *testing.T) {
	e := newEndpoint(t, &Options{Admin: true})
	remote := newEndpoint(t, &Options{Admin: true, AdminRemote: true})
	for _, c := range []struct {
		host, header, value string
		status              int
	}{
		{"localhost:4567", "", "", 200},
		{"LOCALHOST.", "", "", 200},
		{"kinesis.localhost:4567", "", "", 200},
		{"127.0.0.1:4567", "", "", 200},
		{"[::1]:4567", "", "", 200},
		{"[::1]", "", "", 200},
		{"localhost", "Sec-Fetch-Site", "none", 200},
		{"rebound.example.com", "", "", 403},
		{"127.0.0.1.example.com:4567", "", "", 403},
		{"localhost.example.com", "", "", 403},
		{"", "", "", 403},
		{"localhost", "Sec-Fetch-Site", "cross-site", 403},
		{"localhost", "Sec-Fetch-Site", "same-origin", 403},
		{"localhost", "Origin", "null", 403},
		{"localhost", "X-Forwarded-For", "10.0.0.1", 403},
		{"localhost", "Forwarded", "for=10.0.0.1", 403},
	} {
		r := httptest.NewRequest("GET", adminPrefix+"faults", nil)
		r.RemoteAddr, r.Host = "127.0.0.1:1", c.host
		if c.header != "" {
			r.Header.Set(c.header, c.value)
		}
		require.Equal(t, c.status, e.do(r).Code, "%v", c)
	}
	r := httptest.NewRequest("GET", adminPrefix+"faults", nil)
	r.Host, r.RemoteAddr = "shardlog:4567", "10.0.0.1:1"
	r.Header.Set("X-Forwarded-For", "10.0.0.2")
	require.Equal(t, 200, remote.do(r).Code)
}

// A deletion that the moved clock has ended early leaves a new stream of the
// same name alone, when its own time comes and when the handler is closed.
func TestDeletionLeavesTheNextStreamAlone(t *testing.T) {
	for _, closing := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			e := newEndpoint(t, &Options{DeleteTime: time.Minute})
			e.create("s", 1)
			e.ok("DeleteStream", obj{"StreamName": "s"})
			e.h.SetClockOffset(2 * time.Minute)
			e.fails("DescribeStream", obj{"StreamName": "s"}, codeNotFound, "Stream s under account 123456789012 not found.")
			e.create("s", 2)
			if closing {
				require.NoError(t, e.h.Close())
			} else {
				time.Sleep(2 * time.Minute)
			}
			synctest.Wait()
			st, err := e.db.Stream(t.Context(), "s")
			require.NoError(t, err)
			require.Equal(t, 2, st.Info().OpenShards)
		})
	}
}

// The names under which the streams of other accounts are stored are not
// taken by streams that have such a name.
func TestNamesOfOtherAccountsAreFree(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	e.create("222222222222.eu-west-1.s", 1)
	status, body := e.as("222222222222", "CreateStream", obj{"StreamName": "s", "ShardCount": 1})
	require.Equal(t, 200, status, body)
	_, body = e.as("222222222222", "ListStreams", obj{})
	require.Contains(t, body, `"StreamNames":["s"]`)
	require.Equal(t, []any{"222222222222.eu-west-1.s", "s"}, e.ok("ListStreams", obj{})["StreamNames"])
	e.ok("PutRecord", obj{"StreamName": "222222222222.eu-west-1.s", "PartitionKey": "k", "Data": ""})
	e.ok("DeleteStream", obj{"StreamName": "222222222222.eu-west-1.s"})
	status, body = e.as("222222222222", "PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "Data": ""})
	require.Equal(t, 200, status, body)
}

// firstPiece is how much of a body is read before memory is reserved for it.
const firstPiece = 16 << 10

// Clients that announce large bodies and send little do not delay others.
func TestStalledBodiesHoldUpNobody(t *testing.T) {
	e := newEndpoint(t, &Options{MaxBodyBytes: 1 << 20, MaxBodiesBytes: 1 << 20, BodyTimeout: time.Hour})
	addr := e.serve()
	e.t.Cleanup(func() { _ = e.h.Close() })
	for i := range 20 {
		head := rawHead + fmt.Sprintf("Content-Length: %d\r\n\r\n{", 1<<20)
		if i%2 == 0 {
			head = rawHead + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
		}
		_, err := io.WriteString(dial(t, addr), head)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		return e.h.FreeMemory().Beginnings <= 1<<19-20*firstPiece
	}, eventually, eventuallyTick, "all of them wait")
	large := strings.Repeat(" ", 1<<20-2) + "{}"
	require.Equal(t, "HTTP/1.1 200 OK", talk(t, dial(t, addr), rawHead+"Content-Length: 2\r\n\r\n{}"))
	require.Equal(t, "HTTP/1.1 200 OK", talk(t, dial(t, addr), rawHead+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(large), large)))
}

// A subscription holds none of the memory that is set aside for bodies.
func TestSubscriptionsHoldNoBodies(t *testing.T) {
	e := newEndpoint(t, &Options{MaxBodyBytes: 64 << 10, MaxBodiesBytes: 64 << 10})
	e.create("s", 4)
	arn := e.register("s", "c")
	addr := e.serve()
	free := func() bool {
		m := e.h.FreeMemory()
		return m.Bodies == 64<<10 && m.Beginnings == 32<<10
	}
	for i := range 4 {
		body := fmt.Sprintf(`{"ConsumerARN":%q,"ShardId":"%d","StartingPosition":{"Type":"LATEST"}}%s`, arn, i, strings.Repeat(" ", i%2*20_000))
		head := strings.Replace(rawHead, "ListStreams", "SubscribeToShard", 1)
		require.Equal(t, "HTTP/1.1 200 OK", talk(t, dial(t, addr), head+fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)))
	}
	require.Eventually(t, free, eventually, eventuallyTick)
	e.ok("PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "Data": strings.Repeat("eHh4", 10_000)})
	require.True(t, free())
}

func TestOnDemandStreams(t *testing.T) {
	e := newEndpoint(t, &Options{ControlLimits: true})
	e.ok("CreateStream", obj{"StreamName": "s"})
	const text = "Request is invalid. Stream s under account 123456789012 is in On-Demand mode."
	e.fails("SplitShard", obj{"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "5"}, codeValidation, text)
	e.fails("MergeShards", obj{"StreamName": "s", "ShardToMerge": "0", "AdjacentShardToMerge": "1"}, codeValidation, text)
	mode := func(m string) obj {
		return obj{"StreamARN": testARN + "s", "StreamModeDetails": obj{"StreamMode": m}}
	}
	e.ok("UpdateStreamMode", mode("PROVISIONED"))
	e.ok("UpdateStreamMode", mode("PROVISIONED")) // no change
	e.ok("UpdateStreamMode", mode("ON_DEMAND"))
	e.fails("UpdateStreamMode", mode("PROVISIONED"), codeLimit, "Stream s under account 123456789012 has switched its mode 2 times in the last 24 hours, which is the limit.")
	e.h.SetClockOffset(24 * time.Hour)
	e.ok("UpdateStreamMode", mode("PROVISIONED"))
	e.ok("MergeShards", obj{"StreamName": "s", "ShardToMerge": "0", "AdjacentShardToMerge": "1"})
}

func TestIteratorsOfAShardAreCountedTogether(t *testing.T) {
	e := newEndpoint(t, &Options{ControlLimits: true})
	e.create("s", 2)
	in := obj{"StreamName": "s", "ShardIteratorType": "LATEST"}
	for i := range iteratorsPerSecond + 1 {
		in["ShardId"] = []string{"0", "shardId-0", "shardId-000000000000"}[i%3]
		if status, out := e.send("GetShardIterator", in); i < iteratorsPerSecond {
			require.Equal(t, 200, status, out)
		} else {
			require.Equal(t, codeThroughput, out["__type"])
		}
	}
	in["ShardId"] = "1"
	e.ok("GetShardIterator", in)
}

func TestFaultsOfConsumersByStream(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	arn := e.register("s", "c")
	_, err := e.h.InjectFault(Fault{Stream: "s", Action: Internal})
	require.NoError(t, err)
	e.fails("DescribeStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerARN": arn}, codeInternal, "Internal Service Failure")
}

func TestEnormousTexts(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	status, out := e.send("DescribeStream", obj{"StreamARN": testARN + strings.Repeat("x", 8<<20)})
	require.Equal(t, 400, status)
	require.Contains(t, out["message"], "2 validation errors detected: ")
	require.Less(t, len(out["message"].(string)), 200<<10)
	deep := `{"Statement":` + strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20) + "}"
	e.fails("PutResourcePolicy", obj{"ResourceARN": testARN + "s", "Policy": deep}, codeInvalid, "Policy is not valid: the policy is larger than 20480 bytes.")
}

// Operations of all kinds at the same time, on streams that are split, deleted
// and created again, and at last a handler that is closed: none fails for a
// reason of ours, and everything ends.
func TestEverythingAtTheSameTime(t *testing.T) {
	e := newEndpoint(t, &Options{Admin: true})
	e.create("s", 2)
	e.create("t", 1)
	url := "http://" + e.serve()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	defer client.CloseIdleConnections()
	// The status of a subscription comes before its events.
	send := func(op string, in obj) (int, string) {
		body, err := json.Marshal(in)
		if err != nil {
			return 0, err.Error()
		}
		r := newRequest(op, typeJSON, body)
		own, err := http.NewRequest("POST", url, strings.NewReader(string(body)))
		if err != nil {
			return 0, err.Error()
		}
		own.Header = r.Header
		res, err := client.Do(own)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		limit := int64(1 << 20)
		if op == "SubscribeToShard" {
			limit = 64
		}
		b, _ := io.ReadAll(io.LimitReader(res.Body, limit))
		return res.StatusCode, string(b)
	}
	var bad, good sync.Map
	var wg sync.WaitGroup
	repeat := func(n int, f func(i int) (op string, in obj)) {
		wg.Go(func() {
			for i := range n {
				op, in := f(i)
				status, answer := send(op, in)
				if status == 200 {
					good.Store(op, true)
				}
				if status != 200 && status != 400 && status != 503 {
					bad.Store(fmt.Sprintf("%s %v: %d %s", op, in, status, answer), true)
				}
			}
		})
	}
	const n = 60
	name := func(i int) string { return []string{"s", "t"}[i%2] }
	for range 2 {
		repeat(n, func(i int) (string, obj) {
			return "PutRecords", obj{"StreamName": name(i), "Records": []obj{{"PartitionKey": fmt.Sprint(i), "Data": "eHh4"}, {"PartitionKey": "k", "Data": ""}}}
		})
		repeat(n, func(i int) (string, obj) {
			_, out := send("GetShardIterator", obj{"StreamName": name(i), "ShardId": fmt.Sprint(i / 2 % 4), "ShardIteratorType": "TRIM_HORIZON"})
			var it struct{ ShardIterator string }
			if json.Unmarshal([]byte(out), &it) != nil || it.ShardIterator == "" {
				return "ListShards", obj{"StreamName": name(i)}
			}
			return "GetRecords", obj{"ShardIterator": it.ShardIterator}
		})
	}
	repeat(n, func(i int) (string, obj) {
		send("RegisterStreamConsumer", obj{"StreamARN": testARN + name(i), "ConsumerName": fmt.Sprint("c", i)})
		_, out := send("DescribeStreamConsumer", obj{"StreamARN": testARN + name(i), "ConsumerName": fmt.Sprint("c", i)})
		var con struct {
			ConsumerDescription struct{ ConsumerARN string }
		}
		if json.Unmarshal([]byte(out), &con) != nil || con.ConsumerDescription.ConsumerARN == "" {
			return "ListStreams", obj{}
		}
		arn := con.ConsumerDescription.ConsumerARN
		send("SubscribeToShard", obj{"ConsumerARN": arn, "ShardId": "0", "StartingPosition": obj{"Type": "TRIM_HORIZON"}})
		return "DeregisterStreamConsumer", obj{"ConsumerARN": arn}
	})
	repeat(n, func(i int) (string, obj) {
		return "UpdateShardCount", obj{"StreamName": "s", "TargetShardCount": i%4 + 1, "ScalingType": "UNIFORM_SCALING"}
	})
	repeat(n, func(i int) (string, obj) {
		if i%10 == 0 {
			return "DeleteStream", obj{"StreamName": "t", "EnforceConsumerDeletion": true}
		}
		return "CreateStream", obj{"StreamName": "t", "ShardCount": 1}
	})
	wg.Wait()
	bad.Range(func(what, _ any) bool { t.Error(what); return true })
	for _, op := range []string{"PutRecords", "GetRecords", "DeregisterStreamConsumer", "UpdateShardCount", "DeleteStream", "CreateStream"} {
		_, ok := good.Load(op)
		require.True(t, ok, "no %s was done", op)
	}

	for range 8 {
		repeat(n, func(i int) (string, obj) {
			return "PutRecord", obj{"StreamName": "s", "PartitionKey": fmt.Sprint(i), "Data": ""}
		})
	}
	require.NoError(t, e.h.Close())
	wg.Wait()
	bad.Range(func(what, _ any) bool { t.Error(what); return true })
	status, _ := send("ListStreams", obj{})
	require.Equal(t, 503, status)
}
