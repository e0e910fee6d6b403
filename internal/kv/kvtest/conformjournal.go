package kvtest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// runJournal checks the promises of kv.Journal. It restarts the journal itself.
func runJournal(t *testing.T, open func(t testing.TB) kv.Store, reopen func(t testing.TB, s kv.Store) kv.Store) {
	tests := []struct {
		name string
		f    func(j *journalTest)
	}{
		{"entries are there when the store is opened again", (*journalTest).testEntries},
		{"restarting replaces the entries", (*journalTest).testRestart},
		{"what is not needed makes room", (*journalTest).testNeeded},
		{"there is room for what Room says", (*journalTest).testRoom},
		{"room that was found is kept", (*journalTest).testRoomIsKept},
		{"entries and commits come from several goroutines", (*journalTest).testConcurrent},
		{"a random history gives what a list has", (*journalTest).testModel},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			j := &journalTest{T: t, s: open(t), reopen: reopen}
			defer func() { require.NoError(t, j.s.Close()) }()
			test.f(j)
		})
	}
}

// journalTest has a store and the entries that its journal must have.
type journalTest struct {
	*testing.T
	s      kv.Store
	reopen func(t testing.TB, s kv.Store) kv.Store

	want []entryAt
	last uint64 // the highest number since the journal was restarted
}

type entryAt struct {
	p kv.Position
	b []byte
}

// added notes an entry.
func (j *journalTest) added(p kv.Position, b []byte) {
	j.Helper()
	require.Greater(j, p.Seq, j.last, "positions grow")
	j.last = p.Seq
	require.Greater(j, j.s.Journal().End().Seq, p.Seq)
	j.want = append(j.want, entryAt{p, bytes.Clone(b)})
}

// add adds an entry, with a batch where the journal takes none without.
func (j *journalTest) add(b []byte) {
	j.Helper()
	cut := len(b) / 3
	head, rest := bytes.Clone(b[:cut]), bytes.Clone(b[cut:])
	if p, ok := j.s.Journal().Append(head, rest); ok {
		clear(head) // they are the caller's again
		clear(rest)
		j.added(p, b)
		return
	}
	j.commit(b)
}

// commit adds an entry with a batch, which has the ops.
func (j *journalTest) commit(b []byte, ops ...kv.Op) {
	j.Helper()
	var batch kv.Batch
	for _, op := range ops {
		batch.Set(op.Key, op.Value)
	}
	require.True(j, j.s.Journal().Room(len(b)))
	batch.Entry = bytes.Clone(b)
	require.NoError(j, j.s.Commit(&batch))
	clear(batch.Entry)
	j.added(batch.At, b)
}

// restart begins the journal with the entries that it is to have.
func (j *journalTest) restart() {
	j.Helper()
	var all [][]byte
	for _, e := range j.want {
		all = append(all, bytes.Clone(e.b))
	}
	places, err := j.s.Journal().Restart(all)
	if errors.Is(err, shardlog.ErrNoSpace) {
		// It has all as before; values have to take what is in some.
		all, j.want = nil, nil
		places, err = j.s.Journal().Restart(nil)
	}
	require.NoError(j, err)
	require.Len(j, places, len(all))
	j.last = 0
	for i := range places {
		clear(all[i])
		require.True(j, i == 0 || places[i].Seq > j.last)
		j.want[i].p, j.last = places[i], places[i].Seq
	}
	require.Greater(j, j.s.Journal().End().Seq, j.last)
}

// again opens the store again and returns the entries that it has, before the journal is
// restarted.
func (j *journalTest) again() (got []entryAt) {
	j.Helper()
	j.s = j.reopen(j.T, j.s)
	for range 2 { // reading changes nothing
		got = nil
		require.NoError(j, j.s.Journal().Read(func(p kv.Position, b []byte) error {
			got = append(got, entryAt{p, b})
			return nil
		}))
	}
	return got
}

// check opens the store again: the last entries are those wanted. Those before were not
// needed.
func (j *journalTest) check() {
	j.Helper()
	if j.reopen == nil {
		return
	}
	got := j.again()
	require.GreaterOrEqual(j, len(got), len(j.want))
	for i, e := range got[len(got)-len(j.want):] {
		require.True(j, bytes.Equal(j.want[i].b, e.b), "entry %d of %d is %.20q, not %.20q", i, len(j.want), e.b, j.want[i].b)
		require.Equal(j, j.want[i].p, e.p)
	}
	require.True(j, slices.IsSortedFunc(got, func(a, b entryAt) int { return int(int64(a.p.Seq - b.p.Seq)) }))
}

func (j *journalTest) testEntries() {
	require.NoError(j, j.s.Journal().Read(func(kv.Position, []byte) error { return fmt.Errorf("an entry of an empty store") }))
	j.restart()
	for i, n := range []int{1, 7, 8, 9, 100, 4095, 4096, 4097, 20_000, 100_000} {
		e := bytes.Repeat([]byte{byte(i + 1)}, n)
		j.add(e)
		j.commit(e)
		key := fmt.Appendf(nil, "key %d", i)
		j.commit(append(e, 'x'), kv.Op{Key: key, Value: e})
		require.Equal(j, string(e), get(j, j.s, string(key)))
	}
	used, most := j.s.Journal().Use()
	require.LessOrEqual(j, used, most)
	require.LessOrEqual(j, len(scan(j, j.s, "")), 10, "entries are no values")
	if j.check(); j.reopen != nil {
		require.Len(j, scan(j, j.s, "key"), 10)
	}
	require.NoError(j, j.s.Sync())
	j.restart()
	j.add([]byte("another"))
	j.check()
	j.restart()
}

func (j *journalTest) testRestart() {
	j.restart()
	for round := range 4 {
		for i := range 20 {
			j.add(fmt.Appendf(nil, "%d of round %d", i, round))
		}
		j.check()
		keep := j.want[:0]
		for i, e := range j.want {
			if i%3 != round%3 {
				keep = append(keep, e)
			}
		}
		j.want = keep
		j.restart()
		if round%2 == 0 {
			j.check() // nothing was added
			j.restart()
		}
	}
	j.want = nil
	j.restart()
	if j.reopen != nil {
		require.Empty(j, j.again())
		j.restart()
	}
}

func (j *journalTest) testNeeded() {
	j.restart()
	_, most := j.s.Journal().Use()
	if most == math.MaxInt64 {
		most = 1 << 20 // it keeps nothing
	}
	for i, added := 0, int64(0); added < 3*most; i++ {
		e := bytes.Repeat(fmt.Appendf(nil, "%08d", i), 10_000)
		j.add(e)
		added += int64(len(e))
		if len(j.want) > 6 {
			j.want = slices.Delete(j.want, 0, 1+i%6)
			j.s.Journal().Needed(j.want[0].p)
		}
		if i%50 == 0 {
			require.NoError(j, j.s.Sync())
		}
	}
	j.check()
	j.restart()
	j.want = nil
	j.s.Journal().Needed(j.s.Journal().End())
	require.NoError(j, j.s.Sync())
	j.check()
	j.restart()
}

func (j *journalTest) testRoom() {
	j.restart()
	_, most := j.s.Journal().Use()
	if most == math.MaxInt64 {
		require.True(j, j.s.Journal().Room(1<<20))
		return
	}
	for i := 0; ; i++ { // until nothing fits any more
		e := bytes.Repeat([]byte{byte(i)}, 30_000+i%7*50_000)
		if !j.s.Journal().Room(len(e)) {
			break
		}
		j.commit(e)
		used, now := j.s.Journal().Use()
		require.LessOrEqual(j, used, now)
	}
	if p, ok := j.s.Journal().Append([]byte("a"), bytes.Repeat([]byte("b"), 300_000)); ok {
		require.Fail(j, "an entry where there is no room", "%v", p)
	}
	j.s.Journal().Needed(j.s.Journal().End())
	used, _ := j.s.Journal().Use()
	require.Zero(j, used, "nothing is needed")
	require.NoError(j, j.s.Sync())
	require.True(j, j.s.Journal().Room(100_000))
	j.want = nil
	j.add([]byte("after"))
	j.check()
	j.restart()
}

func (j *journalTest) testRoomIsKept() {
	rnd := Rand(j)
	j.restart()
	_, most := j.s.Journal().Use()
	most = min(most, 2<<20)
	for i := range 120 {
		e := bytes.Repeat([]byte{byte(i)}, 1+rnd.Intn(int(most)/3))
		if j.s.Journal().Room(len(e)) {
			for range rnd.Intn(200) {
				small := bytes.Repeat([]byte{byte(i)}, 1+rnd.Intn(20_000))
				p, ok := j.s.Journal().Append(small[:1], small[1:])
				if !ok {
					break
				}
				j.added(p, small)
			}
			b := kv.Batch{Entry: e}
			require.NoError(j, j.s.Commit(&b), "commit %d", i)
			j.added(b.At, e)
		}
		if rnd.Intn(3) == 0 {
			j.need(rnd)
		}
	}
	j.check()
}

func (j *journalTest) testConcurrent() {
	j.restart()
	const each = 150
	var mu sync.Mutex
	var all []entryAt
	note := func(p kv.Position, b []byte) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, entryAt{p, b})
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			last := uint64(0)
			for i := range each {
				e := bytes.Repeat(fmt.Appendf(nil, "%d/%d.", w, i), 1+i%40)
				p, ok := j.s.Journal().Append(e[:3], e[3:])
				if !ok {
					continue
				}
				if p.Seq <= last {
					j.Errorf("position %d after %d", p.Seq, last)
				}
				last = p.Seq
				note(p, e)
			}
		})
	}
	for i := range each {
		e := bytes.Repeat(fmt.Appendf(nil, "c/%d.", i), 1+i%40)
		b := kv.Batch{}
		if i%2 == 0 {
			b.Set(fmt.Appendf(nil, "k%03d", i), e)
		}
		require.True(j, j.s.Journal().Room(len(e)))
		b.Entry = bytes.Clone(e)
		require.NoError(j, j.s.Commit(&b))
		note(b.At, e)
		if i%40 == 0 {
			require.NoError(j, j.s.Sync())
		}
		_, _ = j.s.Journal().Use()
		_ = j.s.Journal().End()
	}
	wg.Wait()
	slices.SortFunc(all, func(a, b entryAt) int { return int(int64(a.p.Seq - b.p.Seq)) })
	for i := range all {
		require.True(j, i == 0 || all[i].p.Seq > all[i-1].p.Seq, "a position is used twice")
	}
	j.want = all
	j.last = all[len(all)-1].p.Seq
	j.check()
	require.Len(j, scan(j, j.s, "k"), each/2)
	j.restart()
}

func (j *journalTest) testModel() {
	rnd := Rand(j)
	j.restart()
	keys := map[string]string{}
	for i := range 400 {
		e := bytes.Repeat(fmt.Appendf(nil, "%d,", i), 1+rnd.Intn(1<<rnd.Intn(14)))
		for !j.s.Journal().Room(len(e)) {
			require.NotEmpty(j, j.want, "a journal without entries has no room")
			j.need(rnd)
			require.NoError(j, j.s.Sync())
		}
		switch n := rnd.Intn(30); {
		case n < 15:
			j.add(e)
		case n < 22:
			k := fmt.Sprint("k", rnd.Intn(20))
			keys[k] = fmt.Sprint(i)
			j.commit(e, kv.Op{Key: []byte(k), Value: []byte(keys[k])})
		case n < 25:
			j.commit(e)
		case n < 27:
			j.need(rnd)
		case n == 27:
			require.NoError(j, j.s.Sync())
		case n == 28 && rnd.Intn(3) == 0:
			j.check()
			for k, v := range keys {
				if j.reopen != nil {
					require.Equal(j, v, get(j, j.s, k))
				}
			}
			if rnd.Intn(3) > 0 {
				j.restart()
			} else if j.reopen != nil {
				j.check() // killed before
				j.restart()
			}
		}
	}
	j.check()
}

// need says that some of the first entries are not needed any more.
func (j *journalTest) need(rnd *rand.Rand) {
	if n := rnd.Intn(len(j.want) + 1); n < len(j.want) {
		j.want = slices.Clone(j.want[n:])
		j.s.Journal().Needed(j.want[0].p)
	} else {
		j.want = nil
		j.s.Journal().Needed(j.s.Journal().End())
	}
}
