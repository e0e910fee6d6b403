package kinesisapi

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// toCBOR encodes what the tests send.
func toCBOR(v any) []byte {
	e := encoder{cbor: true}
	e.any(v)
	return e.buf
}

func (e *encoder) any(v any) {
	switch v := v.(type) {
	case obj:
		e.open()
		for k, m := range v {
			e.key(k)
			e.any(m)
		}
		e.close()
	case []any:
		e.list()
		for _, m := range v {
			e.any(m)
		}
		e.endList()
	case string:
		e.str(v)
	case []byte:
		e.blob(v)
	case int:
		e.integer(int64(v))
	case bool:
		e.boolean(v)
	case time.Time:
		e.time(v)
	default:
		panic(fmt.Sprintf("%T", v))
	}
}

// fromCBOR decodes an answer; times are int64 milliseconds.
func fromCBOR(t testing.TB, b []byte) any {
	src := &cborSource{data: b}
	tok, err := src.value()
	require.NoError(t, err)
	v := build(t, src, tok)
	require.NoError(t, src.end())
	return v
}

func build(t testing.TB, src source, tok token) any {
	switch tok.kind {
	case tokenNull:
		return nil
	case tokenBool:
		return tok.bool
	case tokenNumber:
		return tok.num
	case tokenTime:
		return int64(tok.num)
	case tokenString:
		return string(tok.text)
	case tokenBytes:
		return append([]byte{}, tok.text...)
	}
	m, l := obj{}, []any{}
	for {
		more, err := src.more()
		require.NoError(t, err)
		if !more {
			if tok.kind == tokenMap {
				return m
			}
			return l
		}
		key := []byte(nil)
		if tok.kind == tokenMap {
			key, err = src.key()
			require.NoError(t, err)
		}
		k := string(key)
		v, err := src.value()
		require.NoError(t, err)
		if tok.kind == tokenMap {
			m[k] = build(t, src, v)
		} else {
			l = append(l, build(t, src, v))
		}
	}
}

func (e *endpoint) cbor(op string, in any) (int, obj, []byte) {
	e.t.Helper()
	w := e.do(newRequest(op, typeCBOR, toCBOR(in)))
	require.Equal(e.t, typeCBOR, w.Header().Get("Content-Type"))
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
	require.Equal(t, obj{"__type": "SerializationException", "Message": classNumber + " can not be converted to an String"}, out)
	w := e.do(newRequest("ListStreams", typeCBOR, []byte{0xa1}))
	require.Equal(t, obj{"__type": "SerializationException"}, fromCBOR(t, w.Body.Bytes()))
	// What was written in one encoding is read in the other.
	require.Equal(t, []string{string(payload), string(payload), ""}, data(t, e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", "0", "TRIM_HORIZON")})))
}

// The examples are of RFC 8949, appendix A.
func TestCBORValues(t *testing.T) {
	for text, want := range map[string]any{
		"00": 0.0, "17": 23.0, "1818": 24.0, "1903e8": 1000.0, "1a000f4240": 1e6, "1b000000e8d4a51000": 1e12, "20": -1.0, "3903e7": -1000.0,
		"f90000": 0.0, "f93c00": 1.0, "f93e00": 1.5, "f97bff": 65504.0, "f90001": 5.960464477539063e-8, "f9c400": -4.0, "f97c00": math.Inf(1),
		"fa47c35000": 100000.0, "fb3ff199999999999a": 1.1, "f4": false, "f5": true, "f6": nil, "f7": nil,
		"c11a514b67b0": int64(1363896240), "4401020304": []byte{1, 2, 3, 4}, "60": "", "62c3bc": "ü", "5f42010243030405ff": []byte{1, 2, 3, 4, 5},
		"80": []any{}, "83010203": []any{1.0, 2.0, 3.0}, "9f018202039f0405ffff": []any{1.0, []any{2.0, 3.0}, []any{4.0, 5.0}},
		"a26161016162820203": obj{"a": 1.0, "b": []any{2.0, 3.0}}, "bf6346756ef563416d7421ff": obj{"Fun": true, "Amt": -2.0},
		"7f657374726561646d696e67ff": "streaming", "d82076687474703a2f2f7777772e6578616d706c652e636f6d": "http://www.example.com",
	} {
		b, err := hex.DecodeString(text)
		require.NoError(t, err)
		require.Equal(t, want, fromCBOR(t, b), text)
	}
	for _, text := range []string{"", "18", "19ff", "1c", "3f", "41", "5f4101", "5f6101ff", "5f5f4101ffff", "61", "81", "9f", "9f00", "a1", "a100", "a161", "a16161", "bf6161ff",
		"ff", "f8ff", "fc", "c1", "c1c1c1c1c1c100", "9bffffffffffffffff", "bbffffffffffffffff", "9a7fffffff00"} {
		b, err := hex.DecodeString(text)
		require.NoError(t, err)
		src := &cborSource{data: b}
		tok, err := src.value()
		if err == nil {
			err = skip(src, tok, 0)
		}
		if err == nil {
			err = src.end()
		}
		require.ErrorIs(t, err, errSyntax, text)
	}
	var deep []byte
	for range maxDepth + 10 {
		deep = append(deep, 0x9f)
	}
	require.ErrorIs(t, wellFormed(&cborSource{data: append([]byte{0xa1, 0x61, 'a'}, deep...)}), errSyntax)
}

func TestTimesInBothEncodings(t *testing.T) {
	for ms, want := range map[int64]string{1795407688822: "1795407688.822", 1795407688000: "1795407688", 1795407688820: "1795407688.82", 5: "0.005", -1500: "-1.5"} {
		e := encoder{}
		e.time(time.UnixMilli(ms))
		require.Equal(t, want, string(e.buf))
		v, err := convertTime(token{kind: tokenNumber, num: mustNumber(t, want)})
		require.NoError(t, err)
		require.Equal(t, ms, v.(time.Time).UnixMilli())
		e = encoder{cbor: true}
		e.time(time.UnixMilli(ms))
		require.Equal(t, ms, fromCBOR(t, e.buf))
		v, err = convertTime(token{kind: tokenTime, num: float64(ms)})
		require.NoError(t, err)
		require.Equal(t, ms, v.(time.Time).UnixMilli())
	}
	for _, n := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e300} {
		_, err := convertTime(token{kind: tokenNumber, num: n})
		require.NoError(t, err)
	}
}

func mustNumber(t *testing.T, s string) (f float64) {
	require.NoError(t, json.Unmarshal([]byte(s), &f))
	return f
}

func FuzzCBOR(f *testing.F) {
	f.Add(toCBOR(obj{"StreamName": "s", "Records": []any{obj{"PartitionKey": "k", "Data": []byte{1}}}, "Timestamp": time.UnixMilli(5)}))
	f.Add([]byte{0xbf, 0x61, 'a', 0x9f, 0x01, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, body []byte) {
		compareEncoded(t, "PutRecords", body, true, false)
		compareEncoded(t, "PutRecord", body, true, false)
		if wellFormed(&cborSource{data: body}) != nil {
			return
		}
		for _, op := range []string{"CreateStream", "PutRecords", "SubscribeToShard", "GetShardIterator"} {
			c := &call{op: operations[op], body: body, cbor: true}
			err := c.decode()
			if err == nil {
				continue
			}
			var e *apiError
			require.ErrorAs(t, err, &e, "what is well formed is refused for what it says")
		}
		src := &cborSource{data: body}
		tok, err := src.value()
		require.NoError(t, err)
		build(t, src, tok)
	})
}
