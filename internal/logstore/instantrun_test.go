package logstore

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// requireOneAfterAnother checks that each part of the journal's entries, but the first of its
// shard, names what is before it.
func requireOneAfterAnother(t *testing.T, store *kvtest.Faulty) {
	t.Helper()
	last := map[ID]uint64{}
	for _, e := range store.Entries() {
		parts, err := decodeEntry(e)
		require.NoError(t, err)
		for _, p := range parts {
			if before, ok := last[p.id]; ok {
				require.Equal(t, before, p.b.Prev)
			}
			last[p.id] = p.b.End() - 1
		}
	}
}

// bareParts returns how many parts of the journal's entries are in bare form, and how many
// are not.
func bareParts(t *testing.T, store *kvtest.Faulty) (bare, blocks int) {
	t.Helper()
	for _, e := range store.Entries() {
		_, err := decodeEntry(e)
		require.NoError(t, err)
		for len(e) > 0 {
			n := binary.LittleEndian.Uint32(e[8:])
			if n&bareForm != 0 {
				bare++
			} else {
				blocks++
			}
			e = e[partHead+n&^bareForm:]
		}
	}
	return bare, blocks
}

// Records that add to a run are encoded where it is, and become a part where there is none or
// it has no memory for them.
func TestAppendsInPlace(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOver(t, store, 3, Options{})
	require.NoError(t, put(l, ss[0], "0"))
	require.NoError(t, put(l, ss[0], "1", "2"))
	_, err := l.AppendOne(ctx, ss[0], &shardlog.Record{PartitionKey: "k", Data: []byte("3")})
	require.NoError(t, err)
	bare, blocks := bareParts(t, store)
	require.Equal(t, 2, bare)
	require.Equal(t, 1, blocks)

	res := make([]shardlog.PutResult, 4)
	require.NoError(t, appendOverTwo(l, ss, res)) // the second has no run
	bare, blocks = bareParts(t, store)
	require.Equal(t, 3, bare)
	require.Equal(t, 2, blocks)
	again := make([]shardlog.PutResult, 4)
	require.NoError(t, appendOverTwo(l, ss, again))
	bare, _ = bareParts(t, store)
	require.Equal(t, 5, bare)
	for i := range res {
		require.NoError(t, again[i].Err)
		require.Equal(t, ss[i%2].name, again[i].ShardID)
		before, _ := res[i].Sequence.Counter()
		counter, _ := again[i].Sequence.Counter()
		require.Equal(t, uint64(2), counter-before)
	}
	want := [][]string{{"0", "1", "2", "3", "a", "c", "a", "c"}, {"b", "d", "b", "d"}, nil}
	for i := range ss {
		require.Equal(t, want[i], contents(t, ss[i]))
	}
	store.FailAt(1, kvtest.Append|kvtest.Commit, kvtest.Torn, nil) // is killed
	_ = l.Close()
	require.Equal(t, want, reopened(t, store, 3))
}

// A record that does not fit into the memory of a run, and one that is too large for it,
// leave nothing behind of the call that was taken back.
func TestACallThatDoesNotFitInPlace(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOver(t, store, 2, Options{})
	var want [2][]string
	both := func(size int) {
		for i, s := range ss {
			data := []string{fmt.Sprint(len(want[i])), fmt.Sprintf("%0*d", size, 1), "last"}
			require.NoError(t, put(l, s, data...))
			want[i] = append(want[i], data...)
		}
		records, targets := []shardlog.Record{rec("x"), rec(fmt.Sprintf("%0*d", size, 2))}, []*Shard{ss[0], ss[1]}
		res := make([]shardlog.PutResult, 2)
		require.NoError(t, l.Append(ctx, records, targets, res))
		for i := range res {
			require.NoError(t, res[i].Err)
			want[i] = append(want[i], string(records[i].Data))
			require.Equal(t, want[i], contents(t, ss[i]))
		}
	}
	for _, size := range []int{1, 300, 1, 5000, 1, instantPart, 1, 2 * instantBytes, 1} {
		both(size)
	}
	require.NoError(t, l.Close())
	all := reopened(t, store, 2)
	require.Equal(t, want[:], all)
}

// What a call appended is not kept in memory by the log.
func TestACallIsForgotten(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOver(t, store, 50, Options{})
	records := make([]shardlog.Record, len(ss))
	for i := range records {
		records[i] = rec(fmt.Sprint(i))
	}
	for i := range 4 {
		if i == 3 {
			store.FailAt(1, kvtest.Append, kvtest.Refuse, nil)
		}
		require.NoError(t, l.Append(ctx, records, ss, make([]shardlog.PutResult, len(ss))))
		l.mu.Lock()
		require.Empty(t, l.instants)
		for _, a := range l.instants[:cap(l.instants)] {
			require.Zero(t, a)
		}
		for _, p := range l.pieces[:cap(l.pieces)] {
			require.Nil(t, p)
		}
		for _, s := range ss {
			require.Zero(t, s.instant)
		}
		l.mu.Unlock()
	}
	require.NoError(t, l.Close())
}

// A shard that is closed takes no record in place, and the others of the call do.
func TestACallInPlaceWithAClosedShard(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOver(t, store, 2, Options{})
	require.NoError(t, put(l, ss[0], "0"))
	require.NoError(t, put(l, ss[1], "0"))
	_, err := l.Change(ctx, Change{Close: ss[1:]})
	require.NoError(t, err)
	res := make([]shardlog.PutResult, 4)
	require.NoError(t, appendOverTwo(l, ss, res))
	for i := range res {
		if i%2 == 1 {
			require.ErrorIs(t, res[i].Err, shardlog.ErrShardClosed)
		} else {
			require.NoError(t, res[i].Err)
		}
	}
	require.Equal(t, []string{"0", "a", "c"}, contents(t, ss[0]))
	require.Equal(t, []string{"0"}, contents(t, ss[1]))
	require.NoError(t, l.Close())
}

// Where the run has memory for some of a call's records, both parts of the entry follow what is
// before them, and all is counted once; what is taken back is not counted.
func TestACallThatIsPartlyInPlace(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOver(t, store, 1, Options{})
	s := ss[0]
	var want []string
	bytes, both := 0, 0
	for i := range 300 {
		data := numbers(10*i, 10*i+5, 100)
		if i%7 == 3 {
			store.FailAt(1, kvtest.Append, kvtest.Refuse, nil) // the committer writes them
		}
		require.NoError(t, put(l, s, data...))
		for _, d := range data {
			r := rec(d)
			bytes += r.Size()
		}
		want = append(want, data...)
		require.EqualValues(t, len(want), s.Info().RecordsIn)
		require.EqualValues(t, bytes, s.Info().BytesIn)
		if entries := store.Entries(); len(entries) > 0 { // not all of it is in blocks already
			last, err := decodeEntry(entries[len(entries)-1])
			require.NoError(t, err)
			if len(last) == 2 {
				both++
			}
		}
		requireOneAfterAnother(t, store)
	}
	require.Positive(t, both)
	require.Equal(t, want, contents(t, s))
	require.NoError(t, l.Close())
}
