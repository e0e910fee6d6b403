package kinesisapi

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOrderOfChecks(t *testing.T) {
	e := newEndpoint(t, nil)
	const unknown = targetPrefix + "Nothing"
	const list = targetPrefix + "ListStreams"
	for _, c := range []struct {
		name                        string
		method, media, target, auth string
		query, date, body           string
		status                      int
		answer                      string
	}{
		{"get", "GET", typeJSON, list, testAuth, "", "x", "", 403, "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n</AccessDeniedException>\n"},
		{"no body", "POST", typeJSON, list, "", "", "", "", 400, `{"__type":"SerializationException"}`},
		{"no body, unknown operation", "POST", typeJSON, unknown, "", "", "", "", 400, `{"__type":"UnknownOperationException"}`},
		{"no type", "POST", "", list, "", "", "", "{}", 404, "<UnknownOperationException/>\n"},
		{"no type and no target", "POST", "", "", "", "", "", "{}", 403, "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n</AccessDeniedException>\n"},
		{"plain JSON", "POST", plainJSON, list, testAuth, "", "x", "{}", 404, `{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}`},
		{"plain JSON, malformed", "POST", plainJSON, list, testAuth, "", "x", "{", 400, `{"Output":{"__type":"com.amazon.coral.service#SerializationException"},"Version":"1.0"}`},
		{"malformed comes before unknown", "POST", typeJSON, unknown, "", "", "", "{", 400, `{"__type":"SerializationException"}`},
		{"not an object", "POST", typeJSON, list, testAuth, "", "x", "3", 400, `{"__type":"SerializationException"}`},
		{"unknown comes before auth", "POST", typeJSON, unknown, "", "", "", "{}", 400, `{"__type":"UnknownOperationException"}`},
		{"another service", "POST", typeJSON, "DynamoDB_20120810.ListTables", testAuth, "", "x", "{}", 400, `{"__type":"UnknownOperationException"}`},
		{"no auth", "POST", typeJSON, list, "", "", "", "{}", 400, `{"__type":"MissingAuthenticationTokenException","message":"Missing Authentication Token"}`},
		{"auth comes before types", "POST", typeJSON, list, "", "", "", `{"Limit":"x"}`, 400, `{"__type":"MissingAuthenticationTokenException","message":"Missing Authentication Token"}`},
		{"two auths", "POST", typeJSON, list, testAuth, "X-Amz-Algorithm=x", "x", "{}", 400, `{"__type":"InvalidSignatureException","message":"Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."}`},
		{"half a header", "POST", typeJSON, list, "AWS4-HMAC-SHA256 Signature=b,Credential=a", "", "", "{}", 400, `{"__type":"IncompleteSignatureException","message":"Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization=AWS4-HMAC-SHA256 Signature=b,Credential=a"}`},
		{"half a query", "POST", typeJSON, list, "", "X-Amz-Algorithm=x&X-Amz-Date=y&X-Amz-Credential=z", "", "{}", 400, `{"__type":"IncompleteSignatureException","message":"AWS query-string parameters must include 'X-Amz-Signature'. AWS query-string parameters must include 'X-Amz-SignedHeaders'. Re-examine the query-string parameters."}`},
		{"a whole query", "POST", typeJSON, targetPrefix + "DescribeLimits", "", "X-Amz-Algorithm=x&X-Amz-Date=y&X-Amz-Credential=z&X-Amz-Signature=a&X-Amz-SignedHeaders=b", "", "{}", 200, `{"ShardLimit":10000,"OpenShardCount":0,"OnDemandStreamCount":0,"OnDemandStreamCountLimit":50,"ChannelCount":0,"ChannelCountLimit":0}`},
		{"types come before constraints", "POST", typeJSON, list, testAuth, "", "x", `{"ExclusiveStartStreamName":"","Limit":"x"}`, 400, `{"__type":"SerializationException","Message":"class java.lang.String can not be converted to an Integer"}`},
		{"constraints", "POST", typeJSON, list, testAuth, "", "x", `{"Limit":0}`, 400, `{"__type":"ValidationException","message":"1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, "/?"+c.query, strings.NewReader(c.body))
			for k, v := range map[string]string{"Content-Type": c.media, "X-Amz-Target": c.target, "Authorization": c.auth, "X-Amz-Date": c.date} {
				if v != "" {
					r.Header.Set(k, v)
				}
			}
			w := e.do(r)
			require.Equal(t, c.answer, w.Body.String())
			require.Equal(t, c.status, w.Code)
		})
	}
}

func TestHeadersOfAnswers(t *testing.T) {
	e := newEndpoint(t, nil)
	w := e.do(newRequest("DescribeLimits", typeJSON, []byte("{}")))
	h := w.Header()
	require.Regexp(t, regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`), map[string][]string(h)["x-amzn-RequestId"][0])
	id, err := base64.StdEncoding.DecodeString(map[string][]string(h)["x-amz-id-2"][0])
	require.NoError(t, err)
	require.Len(t, id, 72)
	require.Equal(t, typeJSON, h.Get("Content-Type"))
	require.Empty(t, h.Get("Access-Control-Allow-Origin"))

	e = newEndpoint(t, &Options{AllowOrigins: []string{"*"}})
	r := newRequest("CreateStream", typeJSON, []byte(`{"StreamName":"s"}`))
	r.Header.Set("Origin", "http://example.com")
	w = e.do(r)
	require.Equal(t, 200, w.Code)
	require.Equal(t, "0", w.Header().Get("Content-Length"), "no output is an empty body")
	require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	require.Contains(t, w.Header().Get("Access-Control-Expose-Headers"), "x-amzn-RequestId")

	r = httptest.NewRequest("OPTIONS", "/", nil)
	r.Header.Set("Origin", "http://example.com")
	r.Header.Set("Access-Control-Request-Headers", "x-amz-target")
	r.Header.Set("Access-Control-Request-Method", "POST")
	w = e.do(r)
	require.Equal(t, 200, w.Code)
	require.Equal(t, "x-amz-target", w.Header().Get("Access-Control-Allow-Headers"))
	require.Equal(t, "POST", w.Header().Get("Access-Control-Allow-Methods"))
	require.Equal(t, "172800", w.Header().Get("Access-Control-Max-Age"))
	require.NotContains(t, w.Header(), "x-amz-id-2")
}

func TestBodiesAreBounded(t *testing.T) {
	e := newEndpoint(t, &Options{MaxBodyBytes: 64 << 10})
	big := []byte(`{"StreamName":"` + strings.Repeat("x", 64<<10) + `"}`)
	require.Equal(t, http.StatusRequestEntityTooLarge, e.do(newRequest("DescribeStream", typeJSON, big)).Code)
	r := newRequest("DescribeStream", typeJSON, big)
	r.ContentLength = -1
	require.Equal(t, http.StatusRequestEntityTooLarge, e.do(r).Code)
	r = newRequest("DescribeLimits", typeJSON, []byte("{}"))
	r.ContentLength = -1
	require.Equal(t, 200, e.do(r).Code)
	deep := strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)
	w := e.do(newRequest("DescribeStream", typeJSON, []byte(deep)))
	require.Equal(t, `{"__type":"SerializationException"}`, w.Body.String())
}

func TestTypesOfMembers(t *testing.T) {
	e := newEndpoint(t, nil)
	const number = "class com.amazon.coral.value.json.numbers.TruncatingBigNumber"
	for _, c := range []struct{ op, body, message string }{
		{"CreateStream", `{"StreamName":1}`, number + " can not be converted to an String"},
		{"CreateStream", `{"StreamName":true}`, "class java.lang.Boolean can not be converted to an String"},
		{"CreateStream", `{"StreamName":[]}`, "Start of list found where not expected"},
		{"CreateStream", `{"StreamName":{}}`, "Start of structure or map found where not expected."},
		{"CreateStream", `{"ShardCount":"2"}`, "class java.lang.String can not be converted to an Integer"},
		{"CreateStream", `{"ShardCount":false}`, "class java.lang.Boolean can not be converted to an Integer"},
		{"CreateStream", `{"StreamModeDetails":"x"}`, "Expected null"},
		{"CreateStream", `{"StreamModeDetails":[]}`, "Start of list found where not expected"},
		{"CreateStream", `{"Tags":"x"}`, "Expected map or null"},
		{"CreateStream", `{"Tags":[]}`, "Start of list found where not expected"},
		{"DeleteStream", `{"EnforceConsumerDeletion":1}`, number + " can not be converted to an Boolean"},
		{"DeleteStream", `{"EnforceConsumerDeletion":"maybe"}`, "'MAYBE' can not be converted to an Boolean"},
		{"PutRecords", `{"Records":"x"}`, "Expected list or null"},
		{"PutRecords", `{"Records":{}}`, "Start of structure or map found where not expected."},
		{"PutRecords", `{"Records":["x"]}`, "Expected null"},
		{"PutRecord", `{"Data":1}`, number + " can not be converted to a Blob"},
		{"PutRecord", `{"Data":"abc"}`, "'abc' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 3"},
		{"PutRecord", `{"Data":"ab!d"}`, "'ab!d' can not be converted to a Blob: Invalid Base64 character: '!'"},
		{"PutRecord", `{"Data":"a=cd"}`, "'a=cd' can not be converted to a Blob: Invalid Base64 character: '='"},
		{"PutRecord", `{"Data":"YR=="}`, "'YR==' can not be converted to a Blob: Invalid last non-pad Base64 character dectected"},
		{"GetShardIterator", `{"Timestamp":"now"}`, "class java.lang.String can not be converted to milliseconds since epoch"},
		{"GetShardIterator", `{"Timestamp":true}`, "class java.lang.Boolean can not be converted to milliseconds since epoch"},
	} {
		w := e.do(newRequest(c.op, typeJSON, []byte(c.body)))
		require.Equal(t, 400, w.Code)
		require.JSONEq(t, `{"__type":"SerializationException","Message":"`+c.message+`"}`, w.Body.String(), c.body)
	}
}

func TestConstraints(t *testing.T) {
	e := newEndpoint(t, nil)
	one := "1 validation error detected: "
	for _, c := range []struct {
		op      string
		in      obj
		message string
	}{
		{"CreateStream", obj{}, one + "Value null at 'streamName' failed to satisfy constraint: Member must not be null"},
		{"CreateStream", obj{"StreamName": "a b"}, one + "Value 'a b' at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"},
		{"CreateStream", obj{"StreamName": "", "ShardCount": 0}, "3 validation errors detected: Value '0' at 'shardCount' failed to satisfy constraint: Member must have value greater than or equal to 1; " +
			"Value '' at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; " +
			"Value '' at 'streamName' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"CreateStream", obj{"StreamName": "s", "StreamModeDetails": obj{"StreamMode": "x"}}, one + "Value 'x' at 'streamModeDetails.streamMode' failed to satisfy constraint: Member must satisfy enum value set: [ON_DEMAND, PROVISIONED]"},
		{"PutRecords", obj{"Records": []obj{}}, one + "Value '[]' at 'records' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"PutRecords", obj{"Records": []obj{{"Data": "", "PartitionKey": ""}}}, one + "Value '' at 'records.1.member.partitionKey' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"PutRecords", obj{"Records": []any{nil}}, one + "Value null at 'records.1.member' failed to satisfy constraint: Member must not be null"},
		{"PutRecord", obj{"PartitionKey": "k"}, one + "Value null at 'data' failed to satisfy constraint: Member must not be null"},
		{"PutRecord", obj{"PartitionKey": "k", "Data": "", "ExplicitHashKey": "01"}, one + "Value '01' at 'explicitHashKey' failed to satisfy constraint: Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38})"},
		{"AddTagsToStream", obj{"Tags": obj{"": "x"}}, one + "Value '{=x}' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1]"},
		{"RemoveTagsFromStream", obj{"TagKeys": []string{""}}, one + "Value '[]' at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1]"},
	} {
		e.fails(c.op, c.in, codeValidation, c.message)
	}
	many := make([]obj, 501)
	for i := range many {
		many[i] = obj{"Data": "", "PartitionKey": "k"}
	}
	_, out := e.send("PutRecords", obj{"StreamName": "s", "Records": many})
	require.Contains(t, out["message"], "PutRecordsRequestEntry@c965e310]' at 'records' failed to satisfy constraint: Member must have length less than or equal to 500")
	bad := make([]obj, 12)
	for i := range bad {
		bad[i] = obj{"PartitionKey": "k"}
	}
	_, out = e.send("PutRecords", obj{"StreamName": "s", "Records": bad})
	require.True(t, strings.HasPrefix(out["message"].(string), "10 validation errors detected: "), out)
}

func TestUnknownAndNullMembersAreSkipped(t *testing.T) {
	e := newEndpoint(t, nil)
	w := e.do(newRequest("CreateStream", typeJSON, []byte(`{"New":{"a":[1,{"b":null}]},"StreamName":"x","StreamName":"s","Tags":null,"ShardCount":2.9}`)))
	require.Equal(t, 200, w.Code, w.Body.String())
	out := e.ok("DescribeStreamSummary", obj{"StreamName": "s"})["StreamDescriptionSummary"].(obj)
	require.EqualValues(t, 2, out["OpenShardCount"])
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := NewHandler(nil, nil)
	require.ErrorContains(t, err, "invalid db")
	_, err = NewHandler(nil, &Options{Account: "1", Region: "A", CreateTime: -1, DefaultShards: -1, ShardLimit: -1, IteratorLife: -1, SubscriptionLife: -1, MaxBodyBytes: 1, BodyTimeout: -1})
	for _, field := range []string{"Account", "Region", "CreateTime", "DefaultShards", "ShardLimit", "IteratorLife", "SubscriptionLife", "MaxBodyBytes", "BodyTimeout"} {
		require.ErrorContains(t, err, "Options."+field)
	}
}

func TestClosedHandler(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	require.NoError(t, e.h.Close())
	require.NoError(t, e.h.Close())
	status, out := e.send("ListStreams", obj{})
	require.Equal(t, 503, status)
	require.Equal(t, "ServiceUnavailable", out["__type"])
}
