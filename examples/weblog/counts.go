package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

// tally is what was counted of one shard, and up to where.
//
// A consumer delivers at least once: after a kill, records come again that
// were handled but not checkpointed. The tally is therefore written together
// with the number of the last record in it, in one file that is replaced as a
// whole, and before the checkpoint; records up to that number are passed over.
// Together that makes the counts exact.
type tally struct {
	Last    shardlog.SequenceNumber `json:"last"`
	Records int                     `json:"records"`
	Status  map[string]int          `json:"status"`
	Clients map[string]int          `json:"clients"`
	Paths   map[string]int          `json:"paths"`
	Bytes   int64                   `json:"bytes"`
}

// counts are the tallies of all shards.
type counts struct {
	dir  string
	sync func() error            // brings what was read from the stream to disk
	fail context.CancelCauseFunc // ends the program

	mu      sync.Mutex
	shards  map[string]*tally
	changed chan struct{} // closed and replaced at each change
}

// openCounts reads the tallies in dir, which need not exist.
func openCounts(dir string, sync func() error, fail context.CancelCauseFunc) (*counts, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	c := &counts{dir: dir, sync: sync, fail: fail, shards: map[string]*tally{}, changed: make(chan struct{})}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		t := newTally()
		if err := json.Unmarshal(b, t); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		name := filepath.Base(f)
		c.shards[name[:len(name)-len(".json")]] = t
	}
	return c, nil
}

func newTally() *tally {
	return &tally{Status: map[string]int{}, Clients: map[string]int{}, Paths: map[string]int{}}
}

// Handle counts a batch; it implements consumer.Handler. The consumer calls it
// for one batch of a shard at a time. An error ends the program: the consumer
// would try again, which does not help against a file that cannot be written.
func (c *counts) Handle(_ context.Context, b *consumer.Batch) error {
	err := c.count(b)
	if err != nil {
		c.fail(err)
	}
	return err
}

func (c *counts) count(b *consumer.Batch) error {
	c.mu.Lock()
	t := c.shards[b.ShardID]
	if t == nil {
		t = newTally()
		c.shards[b.ShardID] = t
	}
	for i := range b.Records {
		r := &b.Records[i]
		if r.Sequence.Compare(t.Last) <= 0 {
			continue // it came again
		}
		if err := t.add(r); err != nil {
			c.mu.Unlock()
			return err
		}
	}
	data, err := json.Marshal(t)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	// The file must not count records that a power loss could still remove from
	// the stream.
	if err := c.sync(); err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(c.dir, b.ShardID+".json"), data); err != nil {
		return err
	}
	c.mu.Lock()
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	return nil
}

func (t *tally) add(r *shardlog.Record) error {
	e, ok := parse(string(r.Data))
	if !ok {
		return fmt.Errorf("%s: record %v is no line of an access log", r.ShardID, r.Sequence)
	}
	t.Last = r.Sequence
	t.Records++
	t.Status[strconv.Itoa(e.Status)]++
	t.Clients[e.Client]++
	// JSON replaces invalid UTF-8. If that were left to the encoder, two paths
	// could become one in the file.
	t.Paths[strings.ToValidUTF8(e.path(), "\uFFFD")]++
	t.Bytes += e.Size
	return nil
}

// replaceFile writes a file so that it has, at any moment and after any crash,
// either its old or its new contents.
func replaceFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // does nothing once it has its name
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil || runtime.GOOS == "windows" {
		return err // Windows does not sync directories
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// check compares the tallies with the stream and with the progress of the
// consumer, which are kept elsewhere: files of different runs in one directory
// would give wrong counts.
func (c *counts) check(ctx context.Context, st *stream.Stream, stored *index) error {
	for id, t := range c.shards {
		if t.Last.Compare(stored.last[id]) > 0 {
			return fmt.Errorf("%s counts records that are not in the stream", filepath.Join(c.dir, id+".json"))
		}
	}
	rows, err := st.Checkpoints().List(ctx, group, st.Name())
	if err != nil {
		return err
	}
	for _, row := range rows {
		var last shardlog.SequenceNumber
		if t := c.shards[row.Shard]; t != nil {
			last = t.Last
		}
		if row.Checkpoint.Kind() == shardlog.KindAfter && row.Checkpoint.Sequence().Compare(last) > 0 {
			return fmt.Errorf("%s is missing or older than the consumer's progress", filepath.Join(c.dir, row.Shard+".json"))
		}
	}
	return nil
}

// waitFor waits until the last record of each shard was counted.
func (c *counts) waitFor(ctx context.Context, last map[string]shardlog.SequenceNumber) error {
	for {
		c.mu.Lock()
		changed, done := c.changed, true
		for id, seq := range last {
			if t := c.shards[id]; t == nil || t.Last.Compare(seq) < 0 {
				done = false
			}
		}
		c.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *counts) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.shards {
		n += t.Records
	}
	return n
}

// group is the consumer group.
const group = "weblog"

// startCounting runs a consumer until the function that it returns is called,
// which waits for the batches that are being counted.
func startCounting(st *stream.Stream, c *counts) (stop func() error, err error) {
	// Larger batches mean fewer files written. With a name that stays, a worker
	// that is started again after a kill need not wait until its old leases
	// have expired.
	cons, err := consumer.New(st, &consumer.Options{Group: group, WorkerID: "counter", MaxBatchRecords: 10_000, MaxBatchBytes: 4 << 20, ShutdownTimeout: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := cons.Run(ctx, c)
		if err != nil {
			c.fail(err)
		}
		done <- err
	}()
	return func() error {
		cancel()
		return <-done
	}, nil
}
