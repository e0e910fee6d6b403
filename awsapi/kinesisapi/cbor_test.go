package kinesisapi

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/awswire"
)

// toCBOR encodes what the tests send.
func toCBOR(v any) []byte {
	e := &awswire.Encoder{Format: awswire.FormatCBOR}
	writeAny(e, v)
	return e.Buf
}

func writeAny(e *awswire.Encoder, v any) {
	switch v := v.(type) {
	case obj:
		e.Open()
		for k, m := range v {
			e.Key(k)
			writeAny(e, m)
		}
		e.Close()
	case []any:
		e.List()
		for _, m := range v {
			writeAny(e, m)
		}
		e.EndList()
	case string:
		e.Text(v)
	case []byte:
		e.Blob(v)
	case int:
		e.Int(int64(v))
	case bool:
		e.Bool(v)
	case time.Time:
		e.Time(v)
	default:
		panic(fmt.Sprintf("%T", v))
	}
}

// fromCBOR decodes an answer; times are int64 milliseconds.
func fromCBOR(t testing.TB, b []byte) any {
	src := awswire.CBOR11.Reader(b)
	tok, err := src.Value()
	require.NoError(t, err)
	v := build(t, src, tok)
	require.NoError(t, src.End())
	return v
}

func build(t testing.TB, src awswire.Reader, tok awswire.Token) any {
	switch tok.Kind {
	case awswire.TokenNull:
		return nil
	case awswire.TokenBool:
		return tok.Bool
	case awswire.TokenNumber:
		return tok.Num
	case awswire.TokenTime:
		return int64(tok.Num)
	case awswire.TokenString:
		return string(tok.Text)
	case awswire.TokenBytes:
		return append([]byte{}, tok.Text...)
	}
	m, l := obj{}, []any{}
	for {
		more, err := src.More()
		require.NoError(t, err)
		if !more {
			if tok.Kind == awswire.TokenMap {
				return m
			}
			return l
		}
		key := []byte(nil)
		if tok.Kind == awswire.TokenMap {
			key, err = src.Key()
			require.NoError(t, err)
		}
		k := string(key)
		v, err := src.Value()
		require.NoError(t, err)
		if tok.Kind == awswire.TokenMap {
			m[k] = build(t, src, v)
		} else {
			l = append(l, build(t, src, v))
		}
	}
}

func (e *endpoint) cbor(op string, in any) (int, obj, []byte) {
	e.t.Helper()
	w := e.do(newRequest(op, awswire.CBOR11.Media, toCBOR(in)))
	require.Equal(e.t, awswire.CBOR11.Media, w.Header().Get("Content-Type"))
	if w.Body.Len() == 0 {
		return w.Code, nil, nil
	}
	return w.Code, fromCBOR(e.t, w.Body.Bytes()).(obj), w.Body.Bytes()
}

func TestCBOR(t *testing.T) {
	e := newEndpoint(t, nil)
	status, _, raw := e.cbor("CreateStream", obj{"StreamName": "s", "ShardCount": 1, "Tags": obj{"a": "b"}})
	require.Equal(t, 200, status)
	require.Empty(t, raw, "no output is an empty body")
	payload := []byte{0, 1, 0xff, 0xfe}
	_, out, _ := e.cbor("PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "Data": payload})
	require.Equal(t, "shardId-000000000000", out["ShardId"])
	_, out, raw = e.cbor("PutRecords", obj{"StreamName": "s", "Records": []any{obj{"PartitionKey": "k", "Data": payload}, obj{"PartitionKey": "l", "Data": []byte{}}}})
	require.EqualValues(t, 0, out["FailedRecordCount"])
	require.EqualValues(t, 0xbf, raw[0], "AWS answers with maps of indefinite length")
	before := time.Now().Add(-time.Minute)
	_, out, _ = e.cbor("GetShardIterator", obj{"StreamName": "s", "ShardId": "0", "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": before})
	_, out, raw = e.cbor("GetRecords", obj{"ShardIterator": out["ShardIterator"]})
	records := out["Records"].([]any)
	require.Len(t, records, 3)
	require.Equal(t, payload, records[0].(obj)["Data"], "a byte string")
	at := records[0].(obj)["ApproximateArrivalTimestamp"].(int64)
	require.InDelta(t, time.Now().UnixMilli(), at, 60_000)
	require.Contains(t, string(raw), "\xc1\x1b", "tag 1 and an integer of 64 bits")
	status, out, _ = e.cbor("DescribeStream", obj{"StreamName": "none"})
	require.Equal(t, 400, status)
	require.Equal(t, obj{"__type": codeNotFound, "message": "Stream none under account 123456789012 not found."}, out)
	_, out, _ = e.cbor("DescribeStream", obj{"StreamName": 1})
	require.Equal(t, obj{"__type": "SerializationException", "Message": "class com.amazon.coral.value.json.numbers.TruncatingBigNumber" + " can not be converted to an String"}, out)
	w := e.do(newRequest("ListStreams", awswire.CBOR11.Media, []byte{0xa1}))
	require.Equal(t, obj{"__type": "SerializationException"}, fromCBOR(t, w.Body.Bytes()))
	// What was written in one encoding is read in the other.
	require.Equal(t, []string{string(payload), string(payload), ""}, data(t, e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", "0", "TRIM_HORIZON")})))
}

func FuzzCBOR(f *testing.F) {
	f.Add(toCBOR(obj{"StreamName": "s", "Records": []any{obj{"PartitionKey": "k", "Data": []byte{1}}}, "Timestamp": time.UnixMilli(5)}))
	f.Add([]byte{0xbf, 0x61, 'a', 0x9f, 0x01, 0xff, 0xff})
	for _, entry := range entriesOfSDKs()[:12] {
		f.Add(inCBOR(entry))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		compareEncoded(t, "PutRecords", body, true, false)
		compareEncoded(t, "PutRecord", body, true, false)
		if awswire.WellFormed(awswire.CBOR11.Reader(body)) != nil {
			return
		}
		for _, op := range []string{"CreateStream", "PutRecords", "SubscribeToShard", "GetShardIterator"} {
			c := newCall(op, awswire.CBOR11, body)
			err := c.Decode()
			if err == nil {
				continue
			}
			var e *awswire.Error
			require.ErrorAs(t, err, &e, "what is well formed is refused for what it says")
		}
		src := awswire.CBOR11.Reader(body)
		tok, err := src.Value()
		require.NoError(t, err)
		build(t, src, tok)
	})
}
