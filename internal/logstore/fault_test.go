package logstore

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// script is a fixed run over three shards. It notes what was acknowledged, and
// continues after failures as a program would that retries nothing.
type script struct {
	acked  map[ID][]string
	maybe  map[ID]map[string]bool // outcome not known
	closed bool                   // shard 0 was split
	trims  uint64                 // counter that shard 2 was trimmed to
}

func (sc *script) put(l *Log, s *Shard, data ...string) {
	switch err := put(l, s, data...); {
	case err == nil:
		sc.acked[s.id] = append(sc.acked[s.id], data...)
	default:
		if sc.maybe[s.id] == nil {
			sc.maybe[s.id] = map[string]bool{}
		}
		for _, d := range data {
			sc.maybe[s.id][d] = true
		}
	}
}

func (sc *script) run(l *Log) {
	ss := shardsOf(l, 3)
	n := 0
	next := func(count, size int) []string { n += count; return numbers(n-count, n, size) }
	for round := range 4 {
		for _, s := range ss {
			if s == ss[0] && sc.closed {
				continue
			}
			sc.put(l, s, next(1, 30)...)
			sc.put(l, s, next(3, 200)...)
			sc.put(l, s, next(40, 500)...)
		}
		if round == 1 {
			mid := ss[2].view().last - 20
			// It may take effect whatever it returns.
			_, sc.trims = ss[2].Trim(ctx, mid), mid
		}
		if round == 2 && !sc.closed {
			_, err := l.Change(ctx, Change{Close: []*Shard{ss[0]}, Create: []Config{{ID: ID{1, 3}, Created: 2000, Base: base}}})
			sc.closed = err == nil
		}
	}
	if s := l.Shard(ID{1, 3}); s != nil {
		sc.put(l, s, next(5, 50)...)
	}
	_ = l.Sync()
}

// check compares what a log opened after the script has with what it must.
func (sc *script) check(t *testing.T, l *Log) {
	for id, acked := range sc.acked {
		s := l.Shard(id)
		require.NotNil(t, s)
		got := contents(t, s)
		var certain []string
		for _, d := range got {
			if !sc.maybe[id][d] {
				certain = append(certain, d)
			}
		}
		if id.Shard == 2 && sc.trims > base && len(certain) < len(acked) {
			// Trimmed from the front, by whole blocks, and never beyond.
			require.True(t, strings.HasSuffix(strings.Join(acked, ","), strings.Join(certain, ",")), "what is left is a suffix")
			require.GreaterOrEqual(t, len(certain), 20)
			continue
		}
		require.Equal(t, acked, certain, "shard %v", id)
	}
}

// TestFaultAtEveryOperation runs the script with the i-th store operation
// failing, for every i until one run gets through, then opens the store again
// as after a crash: whatever was acknowledged is there, in order and whole.
func TestFaultAtEveryOperation(t *testing.T) {
	for n := range 4 {
		applied, sync := n%2 == 0, n < 2
		t.Run(fmt.Sprintf("applied=%v synced=%v", applied, sync), func(t *testing.T) {
			for i := 0; ; i++ {
				store := kvtest.New(kv.NewMemory())
				store.SyncsCommits(sync)
				broken := &faulty{Store: store, failAt: i, applied: applied, keepOpen: true}
				sc := &script{acked: map[ID][]string{}, maybe: map[ID]map[string]bool{}}
				l, err := Open(broken, Options{TailBytes: 32 << 10}, configs(3), Recovery{})
				if err != nil {
					require.True(t, isInjected(err), err)
				} else {
					sc.run(l)
					require.NoError(t, l.Close())
				}
				cs := configs(3)
				cs = append(cs, Config{ID: ID{1, 3}, Created: 2000, Base: base})
				again, err := Open(store, Options{}, cs, Recovery{})
				require.NoError(t, err)
				sc.check(t, again)
				takesMoreAndCloses(t, again)
				if _, failed := broken.operations(); !failed {
					if sync {
						require.Greater(t, i, 20, "the script does enough")
					}
					return
				}
			}
		})
	}
}

// TestFaultAtEveryChange is TestFaultAtEveryOperation for what changes the store, with
// the entries that go to the journal alone, which may be short of room.
func TestFaultAtEveryChange(t *testing.T) {
	modes := map[string]kvtest.Mode{"refused": kvtest.Refuse, "torn": kvtest.Torn, "torn and applied": kvtest.TornApplied}
	for name, mode := range modes {
		for _, kinds := range []kvtest.Op{kvtest.Append, kvtest.Commit | kvtest.Append} {
			for _, limit := range []int64{0, 48 << 10} {
				t.Run(fmt.Sprintf("%s %d limit %d", name, kinds, limit), func(t *testing.T) {
					for i := 1; ; i++ {
						store := kvtest.New(kv.NewMemory())
						store.LimitJournal(limit)
						sc := &script{acked: map[ID][]string{}, maybe: map[ID]map[string]bool{}}
						l, err := Open(store, Options{TailBytes: 32 << 10}, configs(3), Recovery{})
						require.NoError(t, err)
						store.FailAt(i, kinds, mode, nil)
						sc.run(l)
						hit := store.Hit()
						_ = l.Close()
						store.Revive()
						if mode == kvtest.Refuse {
							sc.maybe = nil // what failed is not there
						}
						cs := append(configs(3), Config{ID: ID{1, 3}, Created: 2000, Base: base})
						again, err := Open(store, Options{}, cs, Recovery{Unclean: true})
						require.NoError(t, err)
						sc.check(t, again)
						takesMoreAndCloses(t, again)
						require.NoError(t, store.CheckValues())
						require.Zero(t, store.Refused())
						if !hit {
							require.Greater(t, i, 10, "the script does enough")
							break
						}
					}
				})
			}
		}
	}
}

func TestAFailedGroupFailsTheOneThatFollowsIt(t *testing.T) {
	gate := &gated{Store: synced(), enter: make(chan struct{}), leave: make(chan error)}
	l, err := Open(gate, Options{}, configs(1), Recovery{})
	require.NoError(t, err)
	s := l.Shard(ID{1, 0})
	first, second := make(chan error), make(chan error)
	go func() { first <- put(l, s, "a") }()
	<-gate.enter // "a" is being committed
	l.mu.Lock()
	assigned := s.sequence(s.lastAssigned, s.lastMs)
	l.mu.Unlock()
	go func() {
		_, err := l.AppendIf(ctx, s, assigned, []shardlog.Record{rec("b")})
		second <- err
	}()
	for {
		l.mu.Lock()
		n := l.open.calls
		l.mu.Unlock()
		if n > 0 {
			break
		}
	}
	gate.leave <- errInjected
	require.ErrorIs(t, <-first, errInjected)
	require.ErrorIs(t, <-second, errInjected, "it was accepted because of a record that is not there")
	go func() { <-gate.enter; gate.leave <- nil }()
	require.NoError(t, put(l, s, "c"))
	require.Equal(t, []string{"c"}, contents(t, s))
	require.Greater(t, counterOf(s.Info().Last), counterOf(assigned)+1, "numbers given out are not used again")
	require.NoError(t, l.Close())
}

// gated is a store whose commits wait for the test to choose their outcome.
type gated struct {
	kv.Store
	enter   chan struct{}
	leave   chan error
	through chan struct{} // commits no longer wait when it is closed; may be nil
}

func (g *gated) Commit(b *kv.Batch) error {
	select {
	case g.enter <- struct{}{}:
	case <-g.through:
		return g.Store.Commit(b)
	}
	if err := <-g.leave; err != nil {
		return err
	}
	return g.Store.Commit(b)
}

func TestCancelledWhileCommitting(t *testing.T) {
	gate := &gated{Store: synced(), enter: make(chan struct{}), leave: make(chan error)}
	l, err := Open(gate, Options{}, configs(1), Recovery{})
	require.NoError(t, err)
	s := l.Shard(ID{1, 0})
	c, cancel := context.WithCancel(ctx)
	done := make(chan error)
	go func() {
		res := make([]shardlog.PutResult, 1)
		if err := l.Append(c, []shardlog.Record{rec("a")}, []*Shard{s}, res); err != nil {
			done <- err
		}
		done <- res[0].Err
	}()
	<-gate.enter
	cancel()
	err = <-done
	require.ErrorIs(t, err, shardlog.ErrUnknownOutcome)
	require.ErrorIs(t, err, context.Canceled)
	gate.leave <- nil
	go func() { <-gate.enter; gate.leave <- nil }()
	require.NoError(t, put(l, s, "b"))
	require.Equal(t, []string{"a", "b"}, contents(t, s), "it was stored all the same")
	res := make([]shardlog.PutResult, 1)
	require.ErrorIs(t, l.Append(c, []shardlog.Record{rec("c")}, []*Shard{s}, res), context.Canceled)
	require.Equal(t, []string{"a", "b"}, contents(t, s), "nothing is written for a context that has ended")
	require.NoError(t, l.Close())
}

// takesMoreAndCloses requires that a log takes records again, with numbers above all before.
func takesMoreAndCloses(t *testing.T, l *Log) {
	t.Helper()
	s := l.Shard(ID{1, 1})
	last := s.Info().Last
	require.NoError(t, put(l, s, "after"))
	require.Positive(t, s.Info().Last.Compare(last))
	require.NoError(t, l.Close())
}
