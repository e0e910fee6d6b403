package kinesisapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

// putBody returns a PutRecords as SDKs write it.
func putBody(n, size int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"Records":[`)
	data := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("x"), size))
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"Data":"%s","PartitionKey":"key-%012d"}`, data, i%64)
	}
	b.WriteString(`],"StreamName":"s"}`)
	return b.Bytes()
}

// BenchmarkDecodePutRecords compares the fast way, the general way and
// encoding/json on the same body.
func BenchmarkDecodePutRecords(b *testing.B) {
	for _, size := range []int{100, 1024} {
		body := putBody(500, size)
		b.Run(fmt.Sprintf("fast/%d", size), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				c := newCall("PutRecords", awswire.JSON11, body)
				if !c.Op.Fast(&c.Call) {
					b.Fatal("not taken")
				}
				c.put.run.release()
			}
		})
		entries := []any{}
		for i := range 500 {
			entries = append(entries, obj{"Data": bytes.Repeat([]byte("x"), size), "PartitionKey": fmt.Sprintf("key-%012d", i%64)})
		}
		encoded := toCBOR(obj{"StreamName": "s", "Records": entries})
		b.Run(fmt.Sprintf("fast-cbor/%d", size), func(b *testing.B) {
			b.SetBytes(int64(len(encoded)))
			for b.Loop() {
				c := newCall("PutRecords", awswire.CBOR11, encoded)
				if !c.Op.Fast(&c.Call) {
					b.Fatal("not taken")
				}
				c.put.run.release()
			}
		})
		b.Run(fmt.Sprintf("general/%d", size), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				c := newCall("PutRecords", awswire.JSON11, body)
				require.NoError(b, awswire.WellFormed(c.Protocol.Reader(body)))
				require.NoError(b, c.Decode())
				_, err := generalPut(c)
				require.NoError(b, err)
			}
		})
		b.Run(fmt.Sprintf("encoding-json/%d", size), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				var in struct {
					StreamName string
					Records    []struct {
						Data            []byte
						PartitionKey    string
						ExplicitHashKey string
					}
				}
				require.NoError(b, json.Unmarshal(body, &in))
			}
		})
	}
}

// BenchmarkGetRecords measures reading pages of 500 records of 100 bytes
// without a network.
func BenchmarkGetRecords(b *testing.B) {
	e := newEndpoint(b, nil)
	e.create("s", 1)
	for range 20 {
		require.Equal(b, 200, e.do(newRequest("PutRecords", typeJSON, putBody(500, 100))).Code)
	}
	body, err := json.Marshal(obj{"ShardIterator": e.iterator("s", "0", "TRIM_HORIZON"), "Limit": 10000})
	require.NoError(b, err)
	for b.Loop() {
		e.do(newRequest("GetRecords", typeJSON, body))
	}
	b.ReportMetric(float64(b.N*10000)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkPutRecords measures whole requests without a network. With one, and
// compared with a handler that only decodes, they are works of benchmarks/compare.
func BenchmarkPutRecords(b *testing.B) {
	for _, n := range []int{1, 500} {
		b.Run(fmt.Sprintf("%dx100", n), func(b *testing.B) {
			e := newEndpoint(b, nil)
			_, err := e.db.Create(b.Context(), "s", stream.Config{Shards: 1, RetentionBytes: 256 << 20})
			require.NoError(b, err)
			body := putBody(n, 100)
			for b.Loop() {
				if w := e.do(newRequest("PutRecords", typeJSON, body)); w.Code != 200 {
					b.Fatal(w.Body.String())
				}
			}
		})
	}
}

// BenchmarkSignedPutRecords measures whole requests whose signature is verified,
// without a network.
func BenchmarkSignedPutRecords(b *testing.B) {
	for _, n := range []int{1, 500} {
		b.Run(fmt.Sprintf("%dx100", n), func(b *testing.B) {
			e := newEndpoint(b, &Options{Credentials: map[string]string{signKey: signSecret}})
			_, err := e.db.Create(b.Context(), "s", stream.Config{Shards: 1, RetentionBytes: 256 << 20})
			require.NoError(b, err)
			body := putBody(n, 100)
			signed := newRequest("PutRecords", typeJSON, body)
			sign(signed, body, time.Now(), signSecret)
			for b.Loop() {
				r := newRequest("PutRecords", typeJSON, body)
				r.Header = signed.Header
				if w := e.do(r); w.Code != 200 {
					b.Fatal(w.Body.String())
				}
			}
		})
	}
}
