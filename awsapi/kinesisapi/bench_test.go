package kinesisapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
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

// bare decodes a PutRecords and answers it, and does nothing else: what a
// handler can be at best.
type bare struct {
	op  string
	env *awswire.Env // for its options
}

func bareEnv() *awswire.Env {
	return &awswire.Env{Bodies: awswire.NewBodies(1<<24, 1<<28, time.Minute)}
}

func (n bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c := newCall(n.op, awswire.JSON11, body)
	c.Env, c.W, c.R = n.env, w, r
	if err != nil || !c.Op.Fast(&c.Call) {
		w.WriteHeader(400)
		return
	}
	defer c.put.run.release()
	e := &c.Out
	e.Open()
	if n.op == "PutRecord" {
		e.TextField("ShardId", "shardId-000000000000")
		e.TextField("SequenceNumber", strings.Repeat("4", 56))
	} else {
		e.IntField("FailedRecordCount", 0)
		e.Key("Records")
		e.List()
		for range c.put.len() {
			e.Open()
			e.TextField("SequenceNumber", strings.Repeat("4", 56))
			e.TextField("ShardId", "shardId-000000000000")
			e.Close()
		}
		e.EndList()
	}
	e.Close()
	c.Reply(200)
}

type putCase struct {
	name, op string
	body     []byte
	records  int
}

func puts() []putCase {
	single := []byte(`{"Data":"` + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("x"), 100)) + `","PartitionKey":"key-000000000001","StreamName":"s"}`)
	return []putCase{
		{"500x100", "PutRecords", putBody(500, 100), 500},
		{"500x1024", "PutRecords", putBody(500, 1024), 500},
		{"1x100", "PutRecord", single, 1},
	}
}

// BenchmarkHTTP measures requests with ready bodies over the loopback, and
// a bare handler for comparison. ReportMetric gives records a second.
func BenchmarkHTTP(b *testing.B) {
	db, err := stream.Open("", &stream.Options{InMemory: true})
	require.NoError(b, err)
	defer db.Close()
	_, err = db.Create(b.Context(), "s", stream.Config{Shards: 4, RetentionBytes: 256 << 20})
	require.NoError(b, err)
	h, err := NewHandler(db, nil)
	require.NoError(b, err)
	defer h.Close()
	for _, c := range puts() {
		for _, conns := range []int{1, 16} {
			for name, handler := range map[string]http.Handler{"bare": bare{c.op, bareEnv()}, "shardlog": h} {
				b.Run(fmt.Sprintf("%s/%dconns/%s", c.name, conns, name), func(b *testing.B) { benchHTTP(b, handler, c.op, c.body, c.records, conns) })
			}
		}
	}
}

func benchHTTP(b *testing.B, handler http.Handler, op string, body []byte, records, conns int) {
	l := newLoad(b, handler, op, body, conns)
	defer l.close()
	for b.Loop() {
		l.work <- struct{}{}
	}
	l.drain(b)
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
}

// load sends one request over and over, on so many connections.
type load struct {
	srv   *http.Server
	tr    *http.Transport
	work  chan struct{}
	done  chan error
	conns int
}

func newLoad(b *testing.B, handler http.Handler, op string, body []byte, conns int) *load {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	l := &load{srv: &http.Server{Handler: handler}, tr: &http.Transport{MaxIdleConnsPerHost: conns},
		work: make(chan struct{}, conns), done: make(chan error, conns), conns: conns}
	go func() { _ = l.srv.Serve(lis) }()
	send := func() error {
		r, err := http.NewRequest("POST", "http://"+lis.Addr().String(), bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", typeJSON)
		r.Header.Set("X-Amz-Target", targetPrefix+op)
		r.Header.Set("X-Amz-Date", "20260101T000000Z")
		r.Header.Set("Authorization", testAuth)
		res, err := (&http.Client{Transport: l.tr}).Do(r)
		if err != nil {
			return err
		}
		if _, err = io.Copy(io.Discard, res.Body); err == nil && res.StatusCode != 200 {
			err = fmt.Errorf("status %s", res.Status)
		}
		return errors.Join(err, res.Body.Close())
	}
	for range conns {
		go func() {
			var failed error
			for range l.work {
				if err := send(); err != nil {
					failed = err
				}
			}
			l.done <- failed
		}()
	}
	return l
}

// drain waits until everything was answered; nothing can be sent after it.
func (l *load) drain(b *testing.B) {
	close(l.work)
	for range l.conns {
		require.NoError(b, <-l.done)
	}
}

func (l *load) close() {
	l.tr.CloseIdleConnections()
	_ = l.srv.Close()
}

// during counts the requests of a slice of time.
func (l *load) during(d time.Duration) (n float64) {
	began := time.Now()
	for time.Since(began) < d {
		l.work <- struct{}{}
		n++
	}
	return n / time.Since(began).Seconds()
}

// BenchmarkBesideBare reports how much of a bare handler's throughput the
// endpoint has. Both are measured in turns, in slices of 50 ms, and the median
// of the pairs counts, because a machine is seldom alone.
func BenchmarkBesideBare(b *testing.B) {
	for _, c := range puts() {
		for _, conns := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/%dconns", c.name, conns), func(b *testing.B) {
				e := newEndpoint(b, nil)
				_, err := e.db.Create(b.Context(), "s", stream.Config{Shards: 4, RetentionBytes: 256 << 20})
				require.NoError(b, err)
				ours, least := newLoad(b, e.h, c.op, c.body, conns), newLoad(b, bare{c.op, bareEnv()}, c.op, c.body, conns)
				defer ours.close()
				defer least.close()
				const slice = 50 * time.Millisecond
				ours.during(slice)
				least.during(slice)
				var ratios []float64
				for b.Loop() {
					for range 20 {
						a := ours.during(slice)
						ratios = append(ratios, a/least.during(slice))
					}
				}
				ours.drain(b)
				least.drain(b)
				slices.Sort(ratios)
				b.ReportMetric(ratios[len(ratios)/2], "of-bare")
			})
		}
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

// BenchmarkPutRecords measures whole requests without a network.
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
