package logstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// counter is a participant that stores how many of its updates are stored.
type counter struct {
	key            []byte
	staged, n      int
	failed, stages int
}

func (c *counter) Prepare(updates []any, tx *Tx) {
	c.stages++
	c.staged = c.n + len(updates)
	tx.Set(c.key, []byte(fmt.Sprint(c.staged)))
}

func (c *counter) Finish(updates []any, err error) {
	if err != nil {
		c.failed += len(updates)
		return
	}
	c.n = c.staged
}

// appendWith appends one record with an update of c.
func appendWith(ctx context.Context, l *Log, s *Shard, c *counter, data string, o AppendOptions) error {
	o.Joined = func(_, _ int, attach func(Participant, any)) { attach(c, data) }
	res := make([]shardlog.PutResult, 1)
	if err := l.AppendWith(ctx, []shardlog.Record{rec(data)}, []*Shard{s}, res, &o); err != nil {
		return err
	}
	return res[0].Err
}

func TestParticipantsAreStoredWithTheirRecords(t *testing.T) {
	gate := &gated{Store: synced(), enter: make(chan struct{}), leave: make(chan error)}
	l, err := Open(gate, Options{}, configs(1), Recovery{})
	require.NoError(t, err)
	s := l.Shard(ID{1, 0})
	a, b := &counter{key: []byte("za")}, &counter{key: []byte("zb")}
	results := make(chan error, 3)
	enqueue := func(c *counter, data string) {
		l.mu.Lock()
		before := l.open.calls
		l.mu.Unlock()
		go func() { results <- appendWith(ctx, l, s, c, data, AppendOptions{}) }()
		for {
			l.mu.Lock()
			n := l.open.calls
			l.mu.Unlock()
			if n > before {
				return
			}
		}
	}
	put := func(leave error) {
		t.Helper()
		go func() { results <- appendWith(ctx, l, s, a, "first", AppendOptions{}) }()
		<-gate.enter
		// These come into the next group together.
		enqueue(a, "second")
		enqueue(b, "third")
		gate.leave <- leave
	}
	put(nil)
	<-gate.enter
	gate.leave <- nil
	for range 3 {
		require.NoError(t, <-results)
	}
	require.Equal(t, &counter{key: []byte("za"), staged: 2, n: 2, stages: 2}, a)
	require.Equal(t, &counter{key: []byte("zb"), staged: 1, n: 1, stages: 1}, b)
	v, err := l.Get([]byte("za"))
	require.NoError(t, err)
	require.Equal(t, "2", string(v))

	put(errInjected)
	for range 3 {
		require.ErrorIs(t, <-results, errInjected)
	}
	require.Equal(t, &counter{key: []byte("za"), staged: 3, n: 2, stages: 3, failed: 2}, a)
	require.Equal(t, &counter{key: []byte("zb"), staged: 1, n: 1, stages: 1, failed: 1}, b, "given up with the group before")
	v, err = l.Get([]byte("za"))
	require.NoError(t, err)
	require.Equal(t, "2", string(v))
	require.Equal(t, []string{"first", "second", "third"}, contents(t, s))
	go func() { require.NoError(t, l.Close()); results <- nil }()
	<-results
}

// limitsOf looks at each commit.
type limitsOf struct {
	kv.Store
	check func(b *kv.Batch)
}

func (s *limitsOf) Commit(b *kv.Batch) error {
	s.check(b)
	return s.Store.Commit(b)
}

// However many there are at a time, transactions stay within their bounds, and other
// operations get their turn.
func TestManyParticipants(t *testing.T) {
	largest, ops := 0, 0
	store := &limitsOf{Store: kvtest.New(kv.NewMemory()), check: func(b *kv.Batch) {
		participants := 0
		for i := range b.Ops {
			if b.Ops[i].Key[0] == 'z' {
				participants++
			}
		}
		largest, ops = max(largest, participants), max(ops, len(b.Ops))
		if b.Inline > 2*maxInline {
			panic("a transaction is too large")
		}
	}}
	l, err := Open(store, Options{}, configs(2), Recovery{})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 600 {
		wg.Go(func() {
			c := &counter{key: []byte(fmt.Sprint("z", i))}
			for range 5 {
				require.NoError(t, appendWith(ctx, l, l.Shard(ID{1, uint32(i % 2)}), c, "x", AppendOptions{InlineBytes: 30 + i%200}))
			}
			require.Equal(t, 5, c.n)
		})
		if i%20 == 0 {
			wg.Go(func() {
				require.NoError(t, l.Do(ctx, func(tx *Tx) error { tx.Set([]byte{'y', byte(i)}, []byte("x")); return nil }))
			})
		}
	}
	wg.Wait()
	require.LessOrEqual(t, largest, maxParticipants)
	require.Greater(t, largest, 10, "they share transactions")
	require.NoError(t, l.Close())
}

func TestWhatAppendWithRefuses(t *testing.T) {
	l, ss := openOn(t, kvtest.New(kv.NewMemory()), 2, Options{})
	c := &counter{key: []byte("z")}
	why := errors.New("why")
	require.ErrorIs(t, appendWith(ctx, l, ss[0], c, "x", AppendOptions{Check: func() error { return why }}), why)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, appendWith(ended, l, ss[0], c, "x", AppendOptions{}), context.Canceled)
	_, err := l.Change(ctx, Change{Close: []*Shard{ss[0]}})
	require.NoError(t, err)
	require.ErrorIs(t, appendWith(ctx, l, ss[0], c, "x", AppendOptions{Atomic: true}), shardlog.ErrShardClosed)
	require.Zero(t, c.stages)
	// A closed shard refuses its records only; whole calls are refused whole.
	records, targets := []shardlog.Record{rec("a"), rec("b")}, []*Shard{ss[0], ss[1]}
	for _, whole := range []bool{true, false} {
		res := make([]shardlog.PutResult, 2)
		arrivals := make([]int64, 2)
		err := l.AppendWith(ctx, records, targets, res, &AppendOptions{Atomic: whole, Arrivals: arrivals})
		if whole {
			require.ErrorIs(t, err, shardlog.ErrShardClosed)
			require.Empty(t, contents(t, ss[1]))
			continue
		}
		require.NoError(t, err)
		require.ErrorIs(t, res[0].Err, shardlog.ErrShardClosed)
		require.NoError(t, res[1].Err)
		require.Equal(t, []string{"b"}, contents(t, ss[1]))
		require.Equal(t, arrivalOf(res[1].Sequence), arrivals[1]/1000)
	}
	res := make([]shardlog.PutResult, 1)
	require.NoError(t, l.AppendWith(ctx, records[:1], targets[:1], res, &AppendOptions{}))
	require.ErrorIs(t, res[0].Err, shardlog.ErrShardClosed, "nothing joins a group, and nobody waits for it")
}

// What does not fit into one group is stored with the next one, unless it is atomic.
func TestAppendWithOverSeveralGroups(t *testing.T) {
	commits := 0
	store := &limitsOf{Store: kvtest.New(kv.NewMemory()), check: func(b *kv.Batch) {
		if len(b.Ops) > 0 && b.Bytes > 1<<20 {
			commits++
		}
	}}
	l, err := Open(store, Options{}, configs(1), Recovery{})
	require.NoError(t, err)
	var records []shardlog.Record
	var targets []*Shard
	for range 11 {
		records, targets = append(records, rec(string(make([]byte, 1<<20)))), append(targets, l.Shard(ID{1, 0}))
	}
	for whole, want := range map[bool]int{true: 1, false: 3} {
		commits = 0
		c := &counter{key: []byte("z")}
		covered := 0
		err := l.AppendWith(ctx, records, targets, make([]shardlog.PutResult, 11), &AppendOptions{Atomic: whole, Joined: func(from, to int, attach func(Participant, any)) {
			require.Equal(t, covered, from)
			covered = to
			attach(c, nil)
		}})
		require.NoError(t, err)
		require.Equal(t, 11, covered)
		require.Equal(t, want, c.n)
		require.Equal(t, want, commits)
	}
	require.NoError(t, l.Close())
}

func TestFinallyIsCalledOnce(t *testing.T) {
	store := &faulty{Store: kvtest.New(kv.NewMemory()), failAt: -1}
	l, err := Open(store, Options{}, configs(1), Recovery{})
	require.NoError(t, err)
	n := 0
	finally := func() { n++ }
	set := func(tx *Tx) error { tx.Set([]byte("z"), []byte("x")); return nil }
	require.NoError(t, l.DoFinally(ctx, set, finally))
	require.Equal(t, 1, n)
	require.ErrorIs(t, l.DoFinally(ctx, func(*Tx) error { return errInjected }, finally), errInjected)
	require.Equal(t, 2, n)
	store.mu.Lock()
	store.failAt = store.n
	store.mu.Unlock()
	require.ErrorIs(t, l.DoFinally(ctx, set, finally), errInjected)
	require.Equal(t, 3, n)
	require.NoError(t, l.Close())
	require.ErrorIs(t, l.DoFinally(ctx, set, finally), shardlog.ErrClosed)
	require.Equal(t, 4, n)
}

func TestLostAndIDs(t *testing.T) {
	l, ss := openOn(t, kvtest.New(kv.NewMemory()), 1, Options{})
	s := ss[0]
	put := func(id string, size int) shardlog.SequenceNumber {
		seq, err := l.AppendOne(ctx, s, &shardlog.Record{PartitionKey: "k", Data: make([]byte, size), DedupID: id})
		require.NoError(t, err)
		return seq
	}
	var seqs []shardlog.SequenceNumber
	for i, size := range []int{100 << 10, 10, 200 << 10, 10, 10} {
		seqs = append(seqs, put([]string{"a", "", "c", "d", "e"}[i], size))
	}
	got := map[string]shardlog.SequenceNumber{}
	note := func(id []byte, seq shardlog.SequenceNumber, ms int64) {
		require.Equal(t, arrivalOf(seq), ms/1000)
		got[string(id)] = seq
	}
	require.NoError(t, s.ScanDedupIDs(0, note))
	require.Equal(t, map[string]shardlog.SequenceNumber{"a": seqs[0], "c": seqs[2], "d": seqs[3], "e": seqs[4]}, got)
	clear(got)
	require.NoError(t, s.ScanDedupIDs(s.view().lastMs+1, note))
	require.Empty(t, got)
	for _, seq := range seqs {
		require.False(t, s.Lost(counterOf(seq)))
	}
	require.True(t, s.Lost(counterOf(seqs[4])+1))
	require.NoError(t, s.Trim(ctx, counterOf(seqs[1])))
	require.False(t, s.Lost(counterOf(seqs[0])), "retention removed it")
}
