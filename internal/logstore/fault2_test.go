package logstore

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// groups appends records to two shards in one call, so that they are stored
// together or not at all, and drops a third shard along the way.
type groups struct {
	acked, maybe []string
	dropped      bool // acknowledged
	trimmed      uint64
	last         [2]shardlog.SequenceNumber
}

func (g *groups) run(l *Log) {
	ss := shardsOf(l, 3)
	for i := range 30 {
		d := fmt.Sprintf("%0*d", 20+i%4*3000, i)
		res := make([]shardlog.PutResult, 4)
		err := l.Append(ctx, []shardlog.Record{rec(d), rec(d), rec(d), rec(d)}, []*Shard{ss[0], ss[1], ss[0], ss[1]}, res)
		if err == nil {
			err = res[0].Err
		}
		if err != nil {
			g.maybe = append(g.maybe, d)
		} else {
			g.acked = append(g.acked, d)
			g.last = [2]shardlog.SequenceNumber{res[2].Sequence, res[3].Sequence}
		}
		if i < 10 && ss[2] != nil {
			_ = put(l, ss[2], d)
		}
		if i == 15 && ss[2] != nil {
			g.dropped = l.Drop(ctx, ss[2], func(tx *Tx) error { tx.Set([]byte("dropped"), []byte("1")); return nil }) == nil
		}
		if i == 20 {
			upto := ss[0].view().blocks
			if len(upto) > 1 && ss[0].Trim(ctx, upto[0].end()) == nil {
				g.trimmed = upto[0].end()
			}
		}
	}
}

func (g *groups) check(t *testing.T, store *kvtest.Faulty) {
	cs := configs(3)
	_, err := store.Get([]byte("dropped"))
	if gone := err == nil; gone || g.dropped {
		require.True(t, gone, "an acknowledged drop holds")
		cs = cs[:2]
	}
	l, err := Open(store, Options{}, cs, Recovery{})
	require.NoError(t, err)
	one, two := contents(t, l.Shard(ID{1, 0})), contents(t, l.Shard(ID{1, 1}))
	require.True(t, slices.Equal(one, two[len(two)-len(one):]), "a group is there whole or not at all")
	require.True(t, g.trimmed > 0 || len(one) == len(two) || len(one) < len(two))
	var certain []string
	for i := 0; i < len(two); i += 2 {
		require.Equal(t, two[i], two[i+1])
		if !slices.Contains(g.maybe, two[i]) {
			certain = append(certain, two[i])
		}
	}
	require.Equal(t, g.acked, certain)
	if g.last[0].IsSet() {
		for i, last := range g.last {
			s := l.Shard(ID{1, uint32(i)})
			require.GreaterOrEqual(t, s.Info().Last.Compare(last), 0)
			before := s.Info().Last
			seq, err := l.AppendOne(ctx, s, &shardlog.Record{PartitionKey: "k"})
			require.NoError(t, err)
			require.Positive(t, seq.Compare(before))
		}
	}
	if len(cs) == 2 {
		// What is left of the dropped shard goes in the background.
		require.Eventually(t, func() bool {
			left := 0
			err := store.Scan(appendID(nil, prefixBlock, ID{1, 2}), func([]byte, int64) bool { left++; return true })
			return err == nil && left == 0
		}, 10*time.Second, time.Millisecond)
	}
	require.NoError(t, l.Close())
	require.NoError(t, store.CheckValues())
	require.Zero(t, store.Refused())
}

func TestGroupsAreWholeAfterAFaultAtEveryCommit(t *testing.T) {
	smallBlocks(t)
	modes := []kvtest.Mode{kvtest.Refuse, kvtest.Torn, kvtest.TornApplied}
	for n := range 2 * len(modes) {
		mode, sync := modes[n/2], n%2 == 0
		t.Run(fmt.Sprintf("mode %d synced=%v", mode, sync), func(t *testing.T) {
			for i := 1; ; i++ {
				store := kvtest.New(kv.NewMemory())
				store.SyncsCommits(sync)
				l, err := Open(store, Options{TailBytes: 20 << 10}, configs(3), Recovery{})
				require.NoError(t, err)
				store.FailAt(i, kvtest.Commit, mode, nil)
				g := &groups{}
				g.run(l)
				hit := store.Hit()
				store.Revive()
				require.NoError(t, l.Close())
				g.check(t, store)
				if !hit {
					require.Empty(t, g.maybe)
					require.True(t, g.dropped)
					require.NotZero(t, g.trimmed)
					if sync {
						require.Greater(t, i, 30)
					}
					return
				}
			}
		})
	}
}

// An open whose every read may fail changes nothing that the next one misses.
func TestAFaultAtEveryReadOfOpening(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, err := Open(store, Options{}, configs(3), Recovery{})
	require.NoError(t, err)
	g := &groups{}
	g.run(l)
	require.NoError(t, l.Close())
	for i := 1; ; i++ {
		store.FailAt(i, kvtest.Get|kvtest.Scan, kvtest.Refuse, nil)
		l, err := Open(store, Options{}, configs(2), Recovery{Unsynced: i%2 == 0})
		hit := store.Hit()
		store.Revive()
		if err == nil {
			require.NoError(t, l.Close())
		}
		if !hit {
			require.Greater(t, i, 3)
			break
		}
	}
	l, err = Open(store, Options{}, configs(2), Recovery{})
	require.NoError(t, err)
	require.Len(t, contents(t, l.Shard(ID{1, 1})), 60)
	require.NoError(t, l.Close())
}
