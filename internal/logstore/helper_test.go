package logstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

var ctx = context.Background()

const base = 5

// configs describes n shards of stream 1.
func configs(n int) (cs []Config) {
	for i := range n {
		cs = append(cs, Config{ID: ID{1, uint32(i)}, Created: 1000, Base: base})
	}
	return cs
}

// latest are the logs that openOn opened last on each store.
var latest sync.Map

// rest waits until the committer of a log has nothing to do. From then on the store is
// as a process that is killed leaves it.
func rest(l *Log) {
	for {
		l.mu.Lock()
		resting := l.idle && l.open.empty() && len(l.flush) == 0 || l.stopping
		l.mu.Unlock()
		if resting {
			return
		}
		runtime.Gosched()
	}
}

// openOn opens a log with n shards on a store that stays when it is closed. One that was
// opened on it before comes to rest first.
func openOn(t testing.TB, store kv.Store, n int, o Options) (*Log, []*Shard) {
	t.Helper()
	if before, ok := latest.Load(store); ok {
		rest(before.(*Log))
	}
	l, err := Open(&faulty{Store: store, failAt: -1, keepOpen: true}, o, configs(n), Recovery{})
	require.NoError(t, err)
	latest.Store(store, l)
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		latest.CompareAndDelete(store, l)
	})
	return l, shardsOf(l, n)
}

func shardsOf(l *Log, n int) (ss []*Shard) {
	for i := range n {
		ss = append(ss, l.Shard(ID{1, uint32(i)}))
	}
	return ss
}

// rec makes a record whose data is s.
func rec(s string) shardlog.Record { return shardlog.Record{PartitionKey: "k", Data: []byte(s)} }

// put appends records to one shard and returns the first error.
func put(l *Log, s *Shard, data ...string) error {
	rs, ts := make([]shardlog.Record, len(data)), make([]*Shard, len(data))
	for i := range data {
		rs[i], ts[i] = rec(data[i]), s
	}
	res := make([]shardlog.PutResult, len(data))
	if err := l.Append(ctx, rs, ts, res); err != nil {
		return err
	}
	for i := range res {
		if res[i].Err != nil {
			return res[i].Err
		}
	}
	return nil
}

// contents reads a shard from its horizon on.
func contents(t testing.TB, s *Shard) (data []string) {
	t.Helper()
	var last shardlog.SequenceNumber
	for r, err := range s.Records(ctx, shardlog.TrimHorizon()) {
		require.NoError(t, err)
		require.Positive(t, r.Sequence.Compare(last), "sequence numbers grow")
		last = r.Sequence
		data = append(data, string(r.Data))
	}
	return data
}

// numbers returns the decimal numbers from..to-1 as text, padded to size.
func numbers(from, to, size int) (data []string) {
	for i := from; i < to; i++ {
		data = append(data, fmt.Sprintf("%0*d", max(size, 1), i))
	}
	return data
}

func isInjected(err error) bool { return errors.Is(err, errInjected) }

// arrivalOf returns when the record with the number arrived, in seconds.
func arrivalOf(n shardlog.SequenceNumber) int64 {
	t, _ := n.Arrival()
	return t.Unix()
}

// synced returns a store that makes each commit durable, so that its journal takes
// entries only with one.
func synced() *kvtest.Faulty {
	store := kvtest.New(kv.NewMemory())
	store.SyncsCommits(true)
	return store
}

// toSlots moves the entries of the journal to where earlier versions had them.
func toSlots(t testing.TB, store *kvtest.Faulty) {
	var s Slots
	for _, e := range store.Entries() {
		require.NoError(t, s.Values(e, func(key, value []byte) error {
			var b kv.Batch
			b.Set(key, value)
			return store.Commit(&b)
		}))
	}
	store.ChangeEntries(nil)
}

// settle returns when the blocks are made that are due now, or could not be made.
func (l *Log) settle() error {
	for flushing := true; flushing; {
		if err := l.awaitPublished(); err != nil {
			return err
		}
		flushing = false
		l.mu.Lock()
		for _, s := range l.shards {
			flushing = flushing || s.flushing
		}
		l.mu.Unlock()
	}
	return nil
}

// builderOf returns a block of one record.
func builderOf(counter uint64, r *shardlog.Record) block.Block {
	var b block.Builder
	b.Init(counter, 0)
	b.Append(r, 1_000_000)
	return b.Finish(counter - 1)
}
