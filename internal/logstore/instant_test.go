package logstore

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// committed is a store whose commits wait for the test, after they were made.
type committed struct {
	kv.Store
	enter, leave chan struct{}
	through      chan struct{} // commits no longer wait when it is closed
}

func (c *committed) Commit(b *kv.Batch) error {
	err := c.Store.Commit(b)
	select {
	case c.enter <- struct{}{}:
		<-c.leave
	case <-c.through:
	}
	return err
}

func openOver(t *testing.T, store kv.Store, n int, o Options) (*Log, []*Shard) {
	t.Helper()
	l, err := Open(store, o, configs(n), Recovery{})
	require.NoError(t, err)
	return l, shardsOf(l, n)
}

// block makes the committer wait in a commit, until the test lets it go.
func (g *gated) block(l *Log) (done chan error) {
	done = make(chan error, 1)
	go func() { done <- l.Do(ctx, func(tx *Tx) error { tx.Set([]byte("x"), []byte("x")); return nil }) }()
	<-g.enter
	return done
}

func newGated(store kv.Store) *gated {
	return &gated{Store: store, enter: make(chan struct{}), leave: make(chan error), through: make(chan struct{})}
}

// waitForCalls waits until the open group has as many appends.
func waitForCalls(l *Log, n int) {
	for {
		l.mu.Lock()
		calls := l.open.calls
		l.mu.Unlock()
		if calls >= n {
			return
		}
		runtime.Gosched()
	}
}

// reopened returns what a new process finds.
func reopened(t *testing.T, store *kvtest.Faulty, n int) [][]string {
	t.Helper()
	store.Revive()
	l, ss := openOver(t, store, n, Options{})
	var all [][]string
	for _, s := range ss {
		all = append(all, contents(t, s))
	}
	require.NoError(t, l.Close())
	return all
}

// An interval of syncs is one of records that the journal alone has, too.
func TestInstantAppendsAreSyncedInTime(t *testing.T) {
	store := &syncing{Store: kvtest.New(kv.NewMemory()), synced: make(chan struct{})}
	l, ss := openOver(t, store, 1, Options{SyncEvery: time.Millisecond})
	for range 3 {
		require.NoError(t, put(l, ss[0], "x"))
		<-store.synced
	}
	require.NoError(t, l.Close())
}

type syncing struct {
	kv.Store
	synced chan struct{}
}

func (s *syncing) Sync() error {
	err := s.Store.Sync()
	s.synced <- struct{}{}
	return err
}

// A record that the journal had no room for waits for a transaction, and those that
// come after it wait with it.
func TestRecordsBehindOneThatWaits(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	gate := newGated(store)
	l, ss := openOver(t, gate, 2, Options{})
	require.NoError(t, put(l, ss[0], "a"))
	other := gate.block(l)
	store.FailAt(1, kvtest.Append, kvtest.Refuse, nil)
	errs := make(chan error, 2)
	go func() { errs <- put(l, ss[0], "b") }()
	waitForCalls(l, 1)
	go func() { errs <- put(l, ss[0], "c") }()
	waitForCalls(l, 2)
	require.NoError(t, put(l, ss[1], "of another shard"))
	require.Equal(t, []string{"a"}, contents(t, ss[0]))
	gate.leave <- nil
	require.NoError(t, <-other)
	<-gate.enter
	gate.leave <- nil
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	require.NoError(t, put(l, ss[0], "d"))
	require.Equal(t, []string{"a", "b", "c", "d"}, contents(t, ss[0]))
	require.NoError(t, l.Close())
	require.Equal(t, [][]string{{"a", "b", "c", "d"}, {"of another shard"}}, reopened(t, store, 2))
}

// A call for two shards that the journal refuses is stored with its group or not at all,
// whatever is appended before the caller knows.
func TestACallThatTheJournalRefuses(t *testing.T) {
	for n := range 4 {
		fails, runs := n%2 == 0, [][]string{nil, {"0"}}[n/2] // the call begins runs, or would add to some
		t.Run(fmt.Sprintf("fails %t runs %v", fails, runs), func(t *testing.T) {
			store := kvtest.New(kv.NewMemory())
			gate := newGated(store)
			l, ss := openOver(t, gate, 2, Options{})
			for _, s := range ss {
				require.NoError(t, put(l, s, runs...))
			}
			other := gate.block(l)
			store.FailAt(1, kvtest.Append, kvtest.Refuse, nil)
			res := make([]shardlog.PutResult, 4)
			done := make(chan error)
			go func() { done <- appendOverTwo(l, ss, res) }()
			waitForCalls(l, 1)
			require.Len(t, contents(t, ss[0]), len(runs))
			late := &participant{finish: func(error) { require.NoError(t, put(l, ss[1], "e")) }}
			attached := make(chan error)
			go func() {
				attached <- l.AppendWith(ctx, nil, nil, nil, &AppendOptions{Joined: func(_, _ int, attach func(Participant, any)) { attach(late, nil) }})
			}()
			waitForCalls(l, 2)
			gate.leave <- nil
			require.NoError(t, <-other)
			<-gate.enter
			want := [][]string{{"a", "c"}, {"b", "d", "e"}}
			if fails {
				gate.leave <- errInjected
				require.ErrorIs(t, <-attached, errInjected)
				want = [][]string{nil, {"e"}}
			} else {
				gate.leave <- nil
				require.NoError(t, <-attached)
			}
			require.NoError(t, <-done)
			for i := range want {
				want[i] = append(slices.Clip(runs), want[i]...)
			}
			for i := range res {
				if fails {
					require.ErrorIs(t, res[i].Err, errInjected, "record %d", i)
				} else {
					require.NoError(t, res[i].Err, "record %d", i)
				}
			}
			require.Equal(t, want, [][]string{contents(t, ss[0]), contents(t, ss[1])})
			require.NoError(t, l.Close())
			require.Equal(t, want, reopened(t, store, 2))
		})
	}
}

// appendOverTwo appends four records to two shards in one call.
func appendOverTwo(l *Log, ss []*Shard, res []shardlog.PutResult) error {
	return l.Append(ctx, []shardlog.Record{rec("a"), rec("b"), rec("c"), rec("d")}, []*Shard{ss[0], ss[1], ss[0], ss[1]}, res)
}

// A process that is killed in a call for several shards leaves all of its records or none.
func TestACallOverShardsIsWholeAfterAKill(t *testing.T) {
	for _, mode := range []kvtest.Mode{kvtest.Torn, kvtest.TornApplied} {
		for _, runs := range [][]string{nil, {"0"}} { // the call begins runs, or adds to some
			for n, hit := 1, true; hit; n++ {
				store := kvtest.New(kv.NewMemory())
				l, ss := openOver(t, store, 2, Options{})
				for _, s := range ss {
					require.NoError(t, put(l, s, runs...))
				}
				store.FailAt(n, kvtest.Append|kvtest.Commit, mode, nil)
				res := make([]shardlog.PutResult, 4)
				require.NoError(t, appendOverTwo(l, ss, res))
				hit = store.Hit()
				_ = l.Close()
				all := reopened(t, store, 2)
				if res[0].Err == nil || len(all[0]) > len(runs) {
					require.Equal(t, [][]string{append(slices.Clip(runs), "a", "c"), append(slices.Clip(runs), "b", "d")}, all, "mode %v, operation %d", mode, n)
				} else {
					require.Equal(t, [][]string{runs, runs}, all, "mode %v, operation %d", mode, n)
				}
			}
		}
	}
}

type participant struct{ finish func(error) }

func (p *participant) Prepare([]any, *Tx)        {}
func (p *participant) Finish(_ []any, err error) { p.finish(err) }

// Blocks that could not be made are made later, and what is appended meanwhile is
// stored.
func TestBlocksThatCannotBeMade(t *testing.T) {
	smallBlocks(t)
	for _, group := range []bool{true, false} {
		store := kvtest.New(kv.NewMemory())
		l, ss := openOver(t, store, 2, Options{})
		s := ss[0]
		var want []string
		add := func(n, size int) {
			data := numbers(len(want), len(want)+n, size)
			require.NoError(t, put(l, s, data...))
			want = append(want, data...)
		}
		store.FailAt(1, kvtest.Commit, kvtest.Refuse, nil)
		for !store.Hit() {
			add(1, 4000)
			if len(want) > 17 {
				_ = l.settle()
			}
		}
		require.NoError(t, l.settle())
		require.Zero(t, s.Info().BlocksWritten)
		if group {
			add(3, 12_000) // a block, with what waits
			require.NoError(t, l.settle())
			require.Positive(t, s.Info().BlocksWritten)
		}
		for s.view().gathered() > 0 || len(want) < 40 {
			add(1, 4000)
			require.NoError(t, l.settle())
		}
		require.Equal(t, want, contents(t, s))
		add(2, 10)
		require.NoError(t, l.Close())
		require.Equal(t, want, reopened(t, store, 2)[0])
	}
}

// The journal is needed from the first entry of a run on, also if a run that began later
// was published before.
func TestTheJournalIsNeededFromTheFirstEntryOn(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	late := &committed{store, make(chan struct{}), make(chan struct{}), make(chan struct{})}
	l, ss := openOver(t, late, 3, Options{})
	done := make(chan error)
	go func() {
		_, err := l.AppendIf(ctx, ss[0], shardlog.SequenceNumber{}, []shardlog.Record{rec("first")})
		done <- err
	}()
	<-late.enter
	require.NoError(t, put(l, ss[1], "second")) // is readable before
	late.leave <- struct{}{}
	require.NoError(t, <-done)
	close(late.through)
	require.NoError(t, l.Do(ctx, func(tx *Tx) error { tx.Set([]byte("x"), nil); return nil }))
	require.NoError(t, l.Close())
	require.Equal(t, [][]string{{"first"}, {"second"}, nil}, reopened(t, store, 3))
}

// fillJournal appends records of a size to a shard until the journal takes no more of
// them, and returns what is there. The committer is blocked.
func fillJournal(t *testing.T, l *Log, s *Shard, size int) (data []string) {
	t.Helper()
	for {
		used, most := l.journal.Use()
		if used+int64(size)+300 > most/4*3 {
			return data
		}
		d := fmt.Sprintf("%0*d", size, len(data))
		require.NoError(t, put(l, s, d))
		data = append(data, d)
	}
}

// A group for which the journal has no room is committed when the oldest runs are blocks,
// also if they were to become blocks anyway, and if the group has records of the same shard.
func TestAGroupThatNeedsRoom(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	store.LimitJournal(160 << 10)
	gate := newGated(store)
	const n = 12
	l, ss := openOver(t, gate, n, Options{})
	other := gate.block(l)
	want := make([][]string, n)
	want[0] = fillJournal(t, l, ss[0], 5000) // more than a block
	require.Greater(t, ss[0].view().gathered(), flushBytes)
	var records []shardlog.Record
	var targets []*Shard
	for i := range n {
		d := fmt.Sprintf("%07000d", i)
		records, targets, want[i] = append(records, rec(d)), append(targets, ss[i]), append(want[i], d)
	}
	res := make([]shardlog.PutResult, n)
	done, later := make(chan error), make(chan error, 1)
	go func() { done <- l.Append(ctx, records, targets, res) }()
	waitForCalls(l, 1)
	gate.leave <- nil
	require.NoError(t, <-other)
	<-gate.enter
	gate.leave <- nil // the blocks of the first shard
	<-gate.enter
	// The group is on its way: what follows must not overtake it.
	go func() { later <- put(l, ss[0], "later") }()
	for len(later) == 0 {
		l.mu.Lock()
		calls := l.open.calls
		l.mu.Unlock()
		if calls > 0 {
			break
		}
	}
	gate.leave <- nil
	require.NoError(t, <-done)
	for i := range res {
		require.NoError(t, res[i].Err)
	}
	close(gate.through)
	require.NoError(t, <-later)
	want[0] = append(want[0], "later")
	for i, s := range ss {
		require.Equal(t, want[i], contents(t, s))
	}
	require.NoError(t, l.Close())
	require.Equal(t, want, reopened(t, store, n))
}

// What was removed makes room in the journal.
func TestRoomOfWhatIsRemoved(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	store.LimitJournal(128 << 10)
	const n = 12
	l, ss := openOver(t, store, n, Options{})
	keepRuns(l)
	fillJournal(t, l, ss[0], 5000)
	require.NoError(t, ss[0].Trim(ctx, ss[0].view().last+1))
	require.Zero(t, ss[0].view().gathered())
	var records []shardlog.Record
	for range n {
		records = append(records, rec(strings.Repeat("x", 7000)))
	}
	res := make([]shardlog.PutResult, n)
	require.NoError(t, l.Append(ctx, records, ss, res))
	for i := range res {
		require.NoError(t, res[i].Err)
	}
	require.NoError(t, l.Close())
}

// keepRuns makes no block of a shard because of the size of its runs.
func keepRuns(l *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.shards {
		s.flushAt = 1 << 30
	}
}

// A shard that is written to now and then keeps the journal from being given back. It
// gets a block before the journal is full, although another one takes all the
// bytes, and gets its blocks in time.
func TestAQuietShardDoesNotFillTheJournal(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	store.LimitJournal(2 << 20)
	l, ss := openOver(t, store, 2, Options{})
	require.NoError(t, put(l, ss[1], "quiet"))
	for i := range 3000 {
		require.NoError(t, put(l, ss[0], fmt.Sprintf("%01000d", i)))
		if i%20 == 0 {
			require.NoError(t, l.settle())
		}
		used, most := store.Journal().Use()
		require.LessOrEqual(t, used, most*5/8)
	}
	require.Positive(t, ss[1].Info().BlocksWritten)
	require.NoError(t, l.Close())
}

// The memory for a record is that of the record, whatever a group had before.
func TestMemoryOfAnAppendAfterALargeGroup(t *testing.T) {
	l, ss := openOver(t, kvtest.New(kv.NewMemory()), 1, Options{})
	require.NoError(t, put(l, ss[0], numbers(0, 20, 10_000)...))
	require.NoError(t, put(l, ss[0], "small"))
	require.NoError(t, put(l, ss[0], "small"))
	l.mu.Lock()
	require.Less(t, ss[0].expectedBytes, 1000)
	l.mu.Unlock()
	require.NoError(t, l.Close())
}

// What was gathered in the journal is in runs of the size of a block when it is opened
// again.
func TestRunsOfALogThatIsOpened(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOver(t, store, 1, Options{})
	var entries [][]byte
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprintf("%020000d", i))
		require.NoError(t, put(l, ss[0], want[i]))
		e, err := ss[0].Read(ctx, shardlog.ReadRequest{From: shardlog.At(ss[0].sequence(base+1+uint64(i), 0)), MaxRecords: 1})
		require.NoError(t, err)
		var b = builderOf(base+1+uint64(i), &e.Records[0])
		entries = append(entries, appendEntry(nil, ss[0].id, &b))
	}
	require.NoError(t, l.Close())
	store = kvtest.New(kv.NewMemory())
	store.ChangeEntries(entries)
	l, ss = openOver(t, store, 1, Options{})
	require.Equal(t, want, contents(t, ss[0]))
	v := ss[0].view()
	for _, b := range v.runs() {
		require.LessOrEqual(t, b.Len(), blockBytes+20_100)
	}
	require.Greater(t, len(v.runs()), 2)
	require.NoError(t, l.Close())
}

// A group fails, and nothing of what the journal took before, also if it takes more for
// the same shards right after. Numbers are not used again.
func TestAFailedGroupAndInstantAppends(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	gate := newGated(store)
	l, ss := openOver(t, gate, 2, Options{})
	s := ss[0]
	first, err := l.AppendOne(ctx, s, &shardlog.Record{PartitionKey: "k", Data: []byte("a")})
	require.NoError(t, err)
	failed := make(chan error, 3)
	go func() {
		_, err := l.AppendIf(ctx, s, first, []shardlog.Record{rec("b")})
		failed <- err
	}()
	<-gate.enter
	go func() { failed <- put(l, s, "c") }() // behind a group
	waitForCalls(l, 1)
	for range 10 {
		require.NoError(t, put(l, ss[1], "o"))
	}
	go func() {
		failed <- l.Append(ctx, []shardlog.Record{rec("o"), rec("d")}, []*Shard{ss[1], s}, make([]shardlog.PutResult, 2))
	}()
	waitForCalls(l, 2)
	gate.leave <- errInjected
	errs := []error{<-failed, <-failed, <-failed}
	require.Contains(t, errs, error(nil), "of a call of two shards each record has its error")
	injected := 0
	for _, err := range errs {
		if errors.Is(err, errInjected) {
			injected++
		}
	}
	require.Equal(t, 2, injected)
	next, err := l.AppendOne(ctx, s, &shardlog.Record{PartitionKey: "k", Data: []byte("e")})
	require.NoError(t, err)
	require.Equal(t, counterOf(first)+4, counterOf(next))
	require.NoError(t, put(l, ss[1], "p"))
	want := [][]string{{"a", "e"}, append(strings.Split(strings.Repeat("o", 10), ""), "p")}
	for i := range ss {
		require.Equal(t, want[i], contents(t, ss[i]))
	}
	close(gate.through)
	_, err = l.AppendIf(ctx, s, next, []shardlog.Record{rec("f")})
	require.NoError(t, err)
	want[0] = append(want[0], "f")
	require.NoError(t, l.Close())
	require.Equal(t, want, reopened(t, store, 2))
}

// Appends and the end of a shard are in one order: what was acknowledged is before the
// last number, and nothing comes after.
func TestClosingAShardWhileRecordsAreAppended(t *testing.T) {
	for round := range 30 {
		store := kvtest.New(kv.NewMemory())
		l, ss := openOver(t, store, 2, Options{})
		s := ss[0]
		var wg sync.WaitGroup
		acked := make([][]shardlog.SequenceNumber, 4)
		for w := range acked {
			wg.Go(func() {
				for {
					r := rec(fmt.Sprint(w))
					seq, err := l.AppendOne(ctx, s, &r)
					if errors.Is(err, shardlog.ErrShardClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					acked[w] = append(acked[w], seq)
				}
			})
		}
		for s.view().last < base+uint64(1+round*7) {
			runtime.Gosched()
		}
		var last uint64
		_, err := l.Change(ctx, Change{Close: []*Shard{s}, Apply: func(*Tx) error { last = s.LastCounter(); return nil }})
		require.NoError(t, err)
		wg.Wait()
		v := s.view()
		require.True(t, v.closed)
		require.Equal(t, last, v.last)
		n := 0
		for _, seqs := range acked {
			n += len(seqs)
			for _, seq := range seqs {
				require.LessOrEqual(t, counterOf(seq), last)
			}
		}
		require.Len(t, contents(t, s), n)
		require.NoError(t, l.Close())
		cs := configs(2)
		cs[0].Closed, cs[0].Last = true, last
		l, err = Open(store, Options{}, cs, Recovery{})
		require.NoError(t, err)
		require.Len(t, contents(t, l.Shard(ID{1, 0})), n)
		require.NoError(t, l.Close())
	}
}

// Readers that take no lock see a run that grows, is trimmed and becomes blocks as it was at
// one moment.
func TestViewsWhileARunGrows(t *testing.T) {
	l, ss := openOver(t, kvtest.New(kv.NewMemory()), 1, Options{TailBytes: 100 << 10})
	s := ss[0]
	const n = 6000
	var readers sync.WaitGroup
	for i := range 3 {
		readers.Go(func() {
			last, total := uint64(0), uint64(0)
			for last < base+n {
				v := s.view()
				size := int64(0)
				for _, e := range v.blocks {
					size += int64(e.size)
				}
				parts := v.allParts()
				for i, p := range parts {
					size += int64(p.size)
					if i > 0 && p.first() < parts[i-1].end {
						t.Errorf("part %d begins at %d, and one before it ends at %d", i, p.first(), parts[i-1].end)
					}
				}
				if v.last < last || v.total < total || size != v.bytes {
					t.Errorf("last %d after %d, total %d after %d, bytes %d and %d", v.last, last, v.total, total, v.bytes, size)
				}
				last, total = v.last, v.total
				if v.run.b.IsZero() {
					continue
				}
				if v.run.b.End() != v.last+1 || parts[len(parts)-1].end != v.last+1 || v.run.ord+uint64(v.run.b.Count) != v.total {
					t.Errorf("the run ends at %d, its parts at %d, and the view at %d", v.run.b.End(), parts[len(parts)-1].end, v.last)
				}
				it, err := v.run.b.Seek(max(v.run.b.First, v.last+1-min(v.last, uint64(10+i*40))))
				var item block.Item
				for err == nil && it.Counter() < v.run.b.End() {
					_, err = it.Next(&item)
				}
				if err != nil || !it.Done() {
					t.Errorf("reading the run up to %d: %v", v.last, err)
				}
			}
		})
	}
	for i := range n {
		r := rec(strings.Repeat("x", i%200))
		if i%1000 > 500 {
			r.DedupID = fmt.Sprint(i)
		}
		_, err := l.AppendOne(ctx, s, &r)
		require.NoError(t, err)
		if i%701 == 700 {
			require.NoError(t, s.Trim(ctx, s.view().last-300))
		}
	}
	readers.Wait()
	require.NoError(t, l.Close())
}

// What cannot become blocks stays in the journal as long as that has room, and what is
// acknowledged is bounded by it.
func TestRecordsThatCannotBecomeBlocksAreBounded(t *testing.T) {
	for _, limit := range []int64{1 << 20, 0} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			store := kvtest.New(kv.NewMemory())
			store.LimitJournal(limit)
			full := func(*kv.Batch) error { return shardlog.ErrNoSpace }
			l, ss := openOver(t, store, 4, Options{})
			store.BeforeCommit(full)
			want := make([][]string, len(ss))
			for i := 0; ; i++ {
				d := fmt.Sprintf("%010000d", i)
				if err := put(l, ss[i%4], d); err != nil {
					require.ErrorIs(t, err, shardlog.ErrNoSpace)
					break
				}
				want[i%4] = append(want[i%4], d)
				require.Less(t, i, 5000)
			}
			l.mu.Lock()
			require.LessOrEqual(t, l.gathered, int64(2*maxJournal+instantBytes))
			require.True(t, limit == 0 || l.gathered < limit)
			l.mu.Unlock()
			store.BeforeCommit(nil)
			for i, s := range ss {
				require.NoError(t, put(l, s, "again"))
				want[i] = append(want[i], "again")
			}
			require.NoError(t, l.settle())
			require.NoError(t, l.Close())
			require.Equal(t, want, reopened(t, store, 4))
			require.Zero(t, store.Refused())
		})
	}
}

// What a store that has died would still take is not acknowledged.
func TestNothingIsAcknowledgedWhenTheStoreHasDied(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOver(t, deaf{store}, 1, Options{})
	require.NoError(t, put(l, ss[0], "a"))
	store.FailAt(1, kvtest.Commit, kvtest.Torn, nil)
	require.ErrorIs(t, l.Do(ctx, func(tx *Tx) error { tx.Set([]byte("x"), nil); return nil }), shardlog.ErrStorage)
	require.ErrorIs(t, put(l, ss[0], "b"), shardlog.ErrStorage)
	require.Equal(t, []string{"a"}, contents(t, ss[0]))
	require.NoError(t, l.Close())
}

// deaf is a store whose journal does not know the outcome of commits.
type deaf struct{ kv.Store }

func (deaf) Journal() kv.Journal { return kv.NewMemory().Journal() }
