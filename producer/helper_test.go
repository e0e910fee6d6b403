package producer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// fakeSink keeps the records, except where on makes it fail.
type fakeSink struct {
	mu     sync.Mutex
	stored []shardlog.Record
	calls  []call
	// on answers each call of PutRecords, numbered from 0; nil stores all.
	on func(ctx context.Context, n int, records []shardlog.Record) ([]shardlog.PutResult, error)
}

// call is one call of PutRecords.
type call struct {
	names []string
	at    time.Time
}

// Capabilities promise the order of a request, which on may break.
func (s *fakeSink) Capabilities() shardlog.Capabilities {
	return shardlog.Capabilities{KeyRanges: true, OrderedRequest: true, Headers: true}
}

func (s *fakeSink) Shards(context.Context) ([]shardlog.ShardInfo, error) { return nil, nil }

func (s *fakeSink) PutRecords(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	s.mu.Lock()
	n := len(s.calls)
	c := call{at: time.Now()}
	for i := range records {
		c.names = append(c.names, string(records[i].Data))
	}
	s.calls = append(s.calls, c)
	on := s.on
	s.mu.Unlock()
	if on != nil {
		return on(ctx, n, records)
	}
	return s.store(records), nil
}

// store stores records whose index is not in except.
func (s *fakeSink) store(records []shardlog.Record, except ...int) []shardlog.PutResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	res := make([]shardlog.PutResult, len(records))
next:
	for i, r := range records {
		for _, j := range except {
			if i == j {
				continue next
			}
		}
		r.Data = bytes.Clone(r.Data)
		s.stored = append(s.stored, r)
		res[i] = shardlog.PutResult{ShardID: "shardId-000000000000", Sequence: shardlog.NewSequenceNumber(1, 0, uint64(len(s.stored)), 1)}
	}
	return res
}

// failing stores all but the records at the indexes, which get err.
func (s *fakeSink) failing(records []shardlog.Record, err error, at ...int) []shardlog.PutResult {
	res := s.store(records, at...)
	for _, i := range at {
		res[i] = shardlog.PutResult{Err: err}
	}
	return res
}

func (s *fakeSink) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := []string{}
	for i := range s.stored {
		names = append(names, string(s.stored[i].Data))
	}
	return names
}

func (s *fakeSink) requests() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out [][]string
	for _, c := range s.calls {
		out = append(out, c.names)
	}
	return out
}

// sleep waits as a sink that respects its context does.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var errThrottled = &shardlog.Error{Op: "put", Err: shardlog.ErrThroughputExceeded}

func throttled(after time.Duration) error {
	return &shardlog.Error{Op: "put", RetryAfter: after, Err: shardlog.ErrThroughputExceeded}
}

// rec is a record of a key with its name as data.
func rec(key, name string) shardlog.Record {
	return shardlog.Record{PartitionKey: key, Data: []byte(name)}
}

func newProducer(t *testing.T, sink shardlog.Sink, opts *producer.Options) *producer.Producer {
	t.Helper()
	p, err := producer.New(sink, opts)
	require.NoError(t, err)
	return p
}

// outcomes collects the arguments of callbacks, by name, and their order.
type outcomes struct {
	mu    sync.Mutex
	order []string
	errs  map[string]error
	res   map[string]producer.Result
}

func (o *outcomes) callback(name string) func(producer.Result, error) {
	return func(r producer.Result, err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.errs == nil {
			o.errs, o.res = make(map[string]error), make(map[string]producer.Result)
		}
		if _, twice := o.errs[name]; twice {
			panic("two results for " + name)
		}
		o.order = append(o.order, name)
		o.errs[name], o.res[name] = err, r
	}
}

func (o *outcomes) err(t *testing.T, name string) error {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	err, ok := o.errs[name]
	require.True(t, ok, "no result for %s", name)
	return err
}

func (o *outcomes) list() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string{}, o.order...)
}

// put puts a record without waiting and collects its result.
func (o *outcomes) put(t *testing.T, p *producer.Producer, key, name string) {
	t.Helper()
	require.NoError(t, p.PutAsync(context.Background(), rec(key, name), o.callback(name)))
}

// requireNoGoroutines fails if goroutines of the package are left.
func requireNoGoroutines(t *testing.T) {
	t.Helper()
	var left string
	require.Eventually(t, func() bool {
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		left = ""
		for _, g := range strings.Split(string(buf), "\n\n") {
			if strings.Contains(g, "producer.(*Producer)") {
				left += g + "\n\n"
			}
		}
		return left == ""
	}, 5*time.Second, time.Millisecond, "goroutines are left")
	require.Empty(t, left)
}

func numbered(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return names
}

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// exit ends the goroutine, as a call of t.FailNow inside a sink does.
func exit() { runtime.Goexit() }

// counterOf returns the counter of a number that NewSequenceNumber made.
func counterOf(n shardlog.SequenceNumber) uint64 {
	c, _ := n.Counter()
	return c
}
