package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/stream"
)

const targetPrefix = "Kinesis_20131202."

// Sides of works over HTTP.
const (
	decoderSide = "decoder that only answers"
	reusingSide = "the same, with memory reused"
	usNever     = us + ", never synced"
	usAlways    = us + ", always synced"
	usMemory    = us + ", in memory"
)

// request is what the connections of a work send.
type request struct {
	// records in a PutRecords; 1 means PutRecord.
	records, size, conns int
}

func (r request) op() string {
	if r.records == 1 {
		return "PutRecord"
	}
	return "PutRecords"
}

func (r request) String() string {
	size := fmt.Sprintf("%d B", r.size)
	if r.size == large.size {
		size = "1 KiB"
	}
	if r.records == 1 {
		return fmt.Sprintf("PutRecord %s, %d connections", size, r.conns)
	}
	return fmt.Sprintf("PutRecords %d x %s, %d connections", r.records, size, r.conns)
}

// An endpoint is served for a work; stop checks that it stored so many records,
// unless it is another's.
type endpoint struct {
	name string
	// ours are served by this process, and end with it.
	ours  bool
	serve func() (url string, stop func(stored int64))
}

// endpoints are ours, the decoder, and those of others. These are left out where
// many records come in on many connections: some would take minutes.
func endpoints(others bool) []endpoint {
	all := []endpoint{
		{decoderSide, true, func() (string, func(int64)) { return serveDecoder(&decoder{}) }},
		{reusingSide, true, func() (string, func(int64)) {
			return serveDecoder(&decoder{&sync.Pool{New: func() any { return &scratch{} }}})
		}},
		{usNever, true, func() (string, func(int64)) { return serveOurs(&stream.Options{Durability: stream.SyncNever}) }},
		{usAlways, true, func() (string, func(int64)) { return serveOurs(&stream.Options{Durability: stream.SyncAlways}) }},
		{usMemory, true, func() (string, func(int64)) { return serveOurs(&stream.Options{InMemory: true}) }},
	}
	if *servers == "" || !others {
		return all
	}
	for s := range strings.SplitSeq(*servers, ",") {
		name, url, _ := strings.Cut(s, "=")
		all = append(all, endpoint{name, false, func() (string, func(int64)) { return url, func(int64) {} }})
	}
	return all
}

// httpWorks are the endpoint with ready requests, and with the AWS SDK as client.
func httpWorks() (all []work) {
	for _, r := range []request{{500, 100, 1}, {500, 100, 16}, {500, 1024, 16}, {1, 100, 16}} {
		w := work{name: "ready " + r.String()}
		for _, e := range endpoints(r.records == 1 || r.conns == 1) {
			w.sides = append(w.sides, side{e.name, func() metrics { return e.measure(r, r.ready) }})
		}
		all = append(all, w)
	}
	for _, r := range []request{{500, 100, 1}, {500, 100, 16}, {1, 100, 16}} {
		w := work{name: "SDK " + r.String()}
		for _, e := range endpoints(r.records == 1 || r.conns == 1) {
			w.sides = append(w.sides, side{e.name, func() metrics { return e.measure(r, r.sdk) }})
		}
		all = append(all, w)
	}
	w := work{name: "SDK GetRecords, 16 connections"}
	for _, e := range endpoints(true)[2:] {
		w.sides = append(w.sides, side{e.name, func() metrics { return e.read(16) }})
	}
	return append(all, w)
}

// serve serves a handler on a port of its own.
func serve(h http.Handler) (url string, stop func()) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	srv := &http.Server{Handler: h, ReadHeaderTimeout: patience}
	go func() { _ = srv.Serve(l) }() // ends with Close
	return "http://" + l.Addr().String(), func() { check(srv.Close()) }
}

func serveDecoder(d *decoder) (url string, stop func(int64)) {
	url, end := serve(d)
	return url, func(int64) { end() }
}

// serveOurs serves a database in a directory, or in memory.
func serveOurs(o *stream.Options) (url string, stop func(int64)) {
	dir, remove := "", func() {}
	if !o.InMemory {
		dir, remove = tempDir()
	}
	db := must(stream.Open(dir, o))
	h := must(kinesisapi.NewHandler(db, nil))
	url, end := serve(h)
	return url, func(stored int64) {
		end()
		var records int64
		for _, st := range must(db.Streams(ctx)) {
			for _, s := range st.Stats().Shards {
				records += s.Records
			}
		}
		if records != stored {
			panic(fmt.Sprintf("%d records are stored, %d were acknowledged", records, stored))
		}
		check(h.Close())
		check(db.Close())
		remove()
	}
}

// call sends a request and returns the answer's body.
func call(url, op string, body any) ([]byte, error) {
	r, err := http.NewRequest("POST", url, bytes.NewReader(must(json.Marshal(body))))
	if err != nil {
		return nil, err
	}
	for k, v := range headers(op) {
		r.Header.Set(k, v)
	}
	res, err := (&http.Client{Timeout: time.Minute}).Do(r)
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

func headers(op string) map[string]string {
	return map[string]string{
		"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": targetPrefix + op, "X-Amz-Date": "20260101T000000Z",
		"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=00",
	}
}

// createStream makes a stream of four shards and waits until it can be used.
func (e endpoint) createStream(url string) (name string) {
	name = fmt.Sprintf("compare-%d-%d", os.Getpid(), time.Now().UnixNano())
	if e.name == decoderSide || e.name == reusingSide {
		return name
	}
	must(call(url, "CreateStream", map[string]any{"StreamName": name, "ShardCount": 4}))
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		out := must(call(url, "DescribeStreamSummary", map[string]any{"StreamName": name}))
		if bytes.Contains(out, []byte(`ACTIVE"`)) {
			return name
		}
		if time.Now().After(end) {
			panic(e.name + " does not make the stream")
		}
	}
}

// sender sends a request and returns how many records were stored; those that an
// endpoint refuses because of its limits do not count.
type sender func() (stored int, err error)

// measure has connections send requests for a while.
func (e endpoint) measure(r request, client func(url, name string) (new func() sender, closeAll func())) metrics {
	url, stop := e.serve()
	name := e.createStream(url)
	newSender, closeAll := client(url, name)
	d, _ := bounds()
	rate, cpu, total := inLoops(r.conns, d, newSender)
	closeAll()
	stop(total)
	e.forget(url, name)
	m := metrics{"rate": rate}
	if e.ours {
		m["cpu"] = cpu * float64(r.records)
	}
	return m
}

// forget deletes the stream of an endpoint that stays.
func (e endpoint) forget(url, name string) {
	if !e.ours {
		must(call(url, "DeleteStream", map[string]any{"StreamName": name}))
	}
}

// inLoops has each connection send a first request, which counts for the total
// alone, and then others for a while. Cpu is how many microseconds of the
// processor's time this process took for a record.
func inLoops(conns int, d time.Duration, newSender func() sender) (rate, cpu float64, total int64) {
	var stored, first atomic.Int64
	var ready, wg sync.WaitGroup
	ready.Add(conns)
	begin := make(chan time.Time)
	for range conns {
		wg.Go(func() {
			send := newSender()
			first.Add(int64(must(send())))
			ready.Done()
			start := <-begin
			for once := true; once || time.Since(start) < d; once = false {
				stored.Add(int64(must(send())))
			}
		})
	}
	ready.Wait()
	start, used := time.Now(), cpuTime()
	for range conns {
		begin <- start
	}
	wg.Wait()
	n := float64(stored.Load())
	return n / time.Since(start).Seconds(), float64(cpuTime()-used) / 1e3 / n, first.Load() + stored.Load()
}

// body is the request for a stream.
func (r request) body(name string) []byte {
	var entries []map[string]any
	for i, rec := range newMaker(0, shape{size: r.size}).batch(r.records) {
		entries = append(entries, map[string]any{"Data": rec.data, "PartitionKey": keys[i%len(keys)]})
	}
	if r.records == 1 {
		entries[0]["StreamName"] = name
		return must(json.Marshal(entries[0]))
	}
	return must(json.Marshal(map[string]any{"StreamName": name, "Records": entries}))
}

// ready sends bytes that were made before: even the client of net/http takes
// longer than a quick server.
func (r request) ready(at, name string) (newSender func() sender, closeAll func()) {
	host := must(url.Parse(at)).Host
	body := r.body(name)
	head := "POST / HTTP/1.1\r\nHost: " + host + fmt.Sprintf("\r\nContent-Length: %d\r\n", len(body))
	for k, v := range headers(r.op()) {
		head += k + ": " + v + "\r\n"
	}
	whole := append([]byte(head+"\r\n"), body...)
	return func() sender { return (&connection{host: host, request: whole, records: r.records}).send }, func() {}
}

// connection sends one request over and over.
type connection struct {
	net.Conn
	in      *bufio.Reader
	host    string
	request []byte
	records int
	answer  bytes.Buffer
	// full is the size of an answer in which all records were counted: in one of
	// the same size they are as well.
	full int
}

func (c *connection) send() (stored int, err error) {
	if c.Conn == nil { // at first, and where a server closes them
		if c.Conn, err = net.Dial("tcp", c.host); err != nil {
			return 0, err
		}
		c.in = bufio.NewReaderSize(c, 64<<10)
	}
	if _, err := c.Write(c.request); err != nil {
		return 0, err
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, err
	}
	c.answer.Reset()
	if _, err := c.answer.ReadFrom(res.Body); err != nil {
		return 0, err
	}
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %.200s", res.Status, c.answer.Bytes())
	}
	if res.Close {
		_ = c.Close() // the server has
		c.Conn = nil
	}
	if n := c.answer.Len(); n == c.full {
		return c.records, nil
	}
	stored = bytes.Count(c.answer.Bytes(), []byte(`"SequenceNumber"`))
	if stored == c.records {
		c.full = c.answer.Len()
	}
	return stored, nil
}
