package kinesisapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

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
				c := &call{op: operations["PutRecords"], body: body}
				if !c.op.fast(c) {
					b.Fatal("not taken")
				}
				c.releaseArena()
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
				c := &call{op: operations["PutRecords"], body: encoded, cbor: true}
				if !c.op.fast(c) {
					b.Fatal("not taken")
				}
			}
		})
		b.Run(fmt.Sprintf("general/%d", size), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				c := &call{op: operations["PutRecords"], body: body}
				require.NoError(b, wellFormed(c.source()))
				require.NoError(b, c.decode())
				_, err := c.slowPut()
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

// bare decodes a PutRecords and answers it, and does nothing else: what a
// handler can be at best.
type bare struct{ op string }

func (n bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c := &call{op: operations[n.op], body: body, w: w, r: r}
	if err != nil || !c.op.fast(c) {
		w.WriteHeader(400)
		return
	}
	defer c.releaseArena()
	e := &c.out
	e.open()
	if n.op == "PutRecord" {
		e.strField("ShardId", "shardId-000000000000")
		e.strField("SequenceNumber", strings.Repeat("4", 56))
	} else {
		e.intField("FailedRecordCount", 0)
		e.key("Records")
		e.list()
		for range c.put.records {
			e.open()
			e.strField("SequenceNumber", strings.Repeat("4", 56))
			e.strField("ShardId", "shardId-000000000000")
			e.close()
		}
		e.endList()
	}
	e.close()
	c.reply(200)
}

// BenchmarkHTTP measures requests with ready bodies over the loopback, beside
// a bare handler. ReportMetric gives records a second.
func BenchmarkHTTP(b *testing.B) {
	db, err := stream.Open("", &stream.Options{InMemory: true})
	require.NoError(b, err)
	defer db.Close()
	_, err = db.Create(b.Context(), "s", stream.Config{Shards: 4, RetentionBytes: 256 << 20})
	require.NoError(b, err)
	h, err := NewHandler(db, nil)
	require.NoError(b, err)
	defer h.Close()
	single := []byte(`{"Data":"` + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("x"), 100)) + `","PartitionKey":"key-000000000001","StreamName":"s"}`)
	for _, c := range []struct {
		name, op string
		body     []byte
		records  int
	}{
		{"500x100", "PutRecords", putBody(500, 100), 500},
		{"500x1024", "PutRecords", putBody(500, 1024), 500},
		{"1x100", "PutRecord", single, 1},
	} {
		for _, conns := range []int{1, 16} {
			for name, handler := range map[string]http.Handler{"bare": bare{c.op}, "shardlog": h} {
				b.Run(fmt.Sprintf("%s/%dconns/%s", c.name, conns, name), func(b *testing.B) { benchHTTP(b, handler, c.op, c.body, c.records, conns) })
			}
		}
	}
}

func benchHTTP(b *testing.B, handler http.Handler, op string, body []byte, records, conns int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	srv := &http.Server{Handler: handler}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: conns}}
	defer client.CloseIdleConnections()
	work, done := make(chan struct{}, conns), make(chan error, conns)
	for range conns {
		go func() {
			var failed error
			for range work {
				r, err := http.NewRequest("POST", "http://"+l.Addr().String(), bytes.NewReader(body))
				if err == nil {
					r.Header.Set("Content-Type", typeJSON)
					r.Header.Set("X-Amz-Target", targetPrefix+op)
					r.Header.Set("X-Amz-Date", "20260101T000000Z")
					r.Header.Set("Authorization", testAuth)
					var res *http.Response
					if res, err = client.Do(r); err == nil {
						_, err = io.Copy(io.Discard, res.Body)
						_ = res.Body.Close()
						if res.StatusCode != 200 {
							err = fmt.Errorf("status %s", res.Status)
						}
					}
				}
				if err != nil {
					failed = err
				}
			}
			done <- failed
		}()
	}
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	for range conns {
		require.NoError(b, <-done)
	}
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
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
