package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/stream"
)

// endpoint is an endpoint of the Kinesis protocol.
type endpoint struct{ name, url string }

// httpWorks are records in a request, and connections.
var httpWorks = []struct{ records, conns int }{{500, 1}, {500, 16}, {1, 1}, {1, 16}}

// http compares our endpoint with those of the flag.
func (res *results) http(want *regexp.Regexp) {
	if *servers == "" || !want.MatchString("http") {
		return
	}
	url, stop := serveOurs()
	defer stop()
	all := []endpoint{{"shardlog", url}}
	for s := range strings.SplitSeq(*servers, ",") {
		name, url, _ := strings.Cut(s, "=")
		all = append(all, endpoint{name, url})
	}
	for _, w := range httpWorks {
		rates := make([][]float64, len(all))
		for range *rounds {
			for i, e := range all {
				rates[i] = append(rates[i], e.put(w.records, w.conns))
			}
		}
		for i, e := range all {
			var q []float64
			for r := range rates[i] {
				q = append(q, rates[0][r]/rates[i][r])
			}
			what := fmt.Sprintf("%d records a request, %d connections", w.records, w.conns)
			fmt.Printf("%-42s %-14s %9s records/s, ours/rival %s\n", what, e.name, si(median(rates[i])), spread(q))
			res.Servers = append(res.Servers, []string{what, e.name, si(median(rates[i])), spread(q)})
		}
	}
}

// serveOurs serves a database in memory, because the other endpoints keep their
// data in memory.
func serveOurs() (url string, stop func()) {
	db := must(stream.Open("", &stream.Options{InMemory: true}))
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	srv := &http.Server{Handler: must(kinesisapi.NewHandler(db, nil)), ReadHeaderTimeout: patience}
	go func() { _ = srv.Serve(l) }() // ends with Close
	return "http://" + l.Addr().String(), func() {
		check(srv.Close())
		check(db.Close())
	}
}

// call sends a request and returns the answer's body.
func call(client *http.Client, url, op string, body []byte) ([]byte, error) {
	r, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Kinesis_20131202."+op)
	r.Header.Set("X-Amz-Date", "20260101T000000Z")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=00")
	res, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.200s", url, op, res.Status, out)
	}
	return out, err
}

var streams atomic.Int64

// put sends prepared requests over a number of connections for a while. Records
// that an endpoint refuses because of its limits do not count.
func (e endpoint) put(records, conns int) float64 {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: conns}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	name := fmt.Sprintf("compare-%d-%d", os.Getpid(), streams.Add(1))
	encode := func(v map[string]any) []byte { return must(json.Marshal(v)) }
	must(call(client, e.url, "CreateStream", encode(map[string]any{"StreamName": name, "ShardCount": 2})))
	for deadline := time.Now().Add(patience); ; {
		out := must(call(client, e.url, "DescribeStreamSummary", encode(map[string]any{"StreamName": name})))
		if bytes.Contains(out, []byte(`ACTIVE"`)) {
			break
		}
		if time.Now().After(deadline) {
			panic(e.name + " does not make the stream")
		}
		time.Sleep(20 * time.Millisecond)
	}
	var entries []map[string]any
	for i := range records {
		entries = append(entries, map[string]any{"Data": make([]byte, dataSize), "PartitionKey": string(keys[i%len(keys)])})
	}
	body := encode(map[string]any{"StreamName": name, "Records": entries})
	d := 700 * time.Millisecond
	if *quick {
		d = 20 * time.Millisecond
	}
	var stored atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range conns {
		wg.Go(func() {
			for first := true; first || time.Since(start) < d; first = false {
				out := must(call(client, e.url, "PutRecords", body))
				stored.Add(int64(bytes.Count(out, []byte(`"SequenceNumber"`))))
			}
		})
	}
	wg.Wait()
	r := rate(int(stored.Load()), start)
	must(call(client, e.url, "DeleteStream", encode(map[string]any{"StreamName": name})))
	return r
}
