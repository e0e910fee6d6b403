package kvtest

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// Run checks that the stores that open returns keep the promises of kv.Store.
// Each must be empty, with a journal that was not restarted; Run closes it. Reopen opens
// the store again as another process would find it, which the first one may have
// closed or not, and returns it; nil for a store that keeps nothing.
func Run(t *testing.T, open func(t testing.TB) kv.Store, reopen func(t testing.TB, s kv.Store) kv.Store) {
	tests := []struct {
		name string
		f    func(t *testing.T, s kv.Store)
	}{
		{"values are set, overwritten and deleted", testValues},
		{"values of every size come back", testSizes},
		{"keys of any bytes are distinguished", testKeys},
		{"of two changes to one key the later holds", testLaterChangeHolds},
		{"a scan has the keys with the prefix in order", testScan},
		{"many values are got in order", testGetMany},
		{"a snapshot stays as it was", testSnapshot},
		{"snapshots of one moment are closed one by one", testSnapshotsOfOneMoment},
		{"keys are not kept", testKeysAreNotKept},
		{"what is returned is the caller's", testReturnedValuesAreOwn},
		{"readers and the writer do not disturb each other", testConcurrency},
		{"random changes give what a map has", testModel},
		{"nothing works after Close", testClosed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			defer func() { require.NoError(t, s.Close()) }()
			_, err := s.Journal().Restart(nil)
			require.NoError(t, err)
			test.f(t, s)
		})
	}
	runJournal(t, open, reopen)
}

func set(t testing.TB, s kv.Store, key, value string) {
	t.Helper()
	var b kv.Batch
	b.Set([]byte(key), []byte(value))
	require.NoError(t, s.Commit(&b))
}

func get(t testing.TB, s interface {
	Get([]byte) ([]byte, error)
}, key string) string {
	t.Helper()
	v, err := s.Get([]byte(key))
	require.NoError(t, err)
	return string(v)
}

func scan(t testing.TB, s interface {
	Scan([]byte, func([]byte, int64) bool) error
}, prefix string) (keys []string) {
	t.Helper()
	require.NoError(t, s.Scan([]byte(prefix), func(k []byte, _ int64) bool {
		keys = append(keys, string(k))
		return true
	}))
	return keys
}

func testValues(t *testing.T, s kv.Store) {
	_, err := s.Get([]byte("a"))
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	set(t, s, "a", "1")
	require.Equal(t, "1", get(t, s, "a"))
	set(t, s, "a", "2")
	require.Equal(t, "2", get(t, s, "a"))
	var b kv.Batch
	b.Delete([]byte("a"))
	b.Delete([]byte("never there"))
	require.NoError(t, s.Commit(&b))
	_, err = s.Get([]byte("a"))
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	require.Empty(t, scan(t, s, ""))
	set(t, s, "a", "3")
	require.Equal(t, "3", get(t, s, "a"))
	require.NoError(t, s.Commit(&kv.Batch{}), "an empty batch")
	require.NoError(t, s.Sync())
	require.GreaterOrEqual(t, s.Usage().Commits, int64(4))
}

func testSizes(t *testing.T, s kv.Store) {
	sizes := []int{0, 1, 1000, 1023, 1024, 1025, 8191, 8192, 8193, 65 << 10, 1 << 20, 5 << 20}
	want := map[int][]byte{}
	var b kv.Batch
	for i, n := range sizes {
		want[i] = bytes.Repeat([]byte{byte(i + 1)}, n)
		b.Set([]byte{'s', byte(i)}, want[i])
	}
	require.NoError(t, s.Commit(&b))
	for i := range sizes {
		v, err := s.Get([]byte{'s', byte(i)})
		require.NoError(t, err)
		require.True(t, bytes.Equal(want[i], v), "%d bytes", sizes[i])
	}
	i := 0
	require.NoError(t, s.Scan([]byte("s"), func(_ []byte, size int64) bool {
		// About the size: an engine may count a header of its own.
		require.InDelta(t, sizes[i], size, 64+float64(sizes[i])/10)
		i++
		return true
	}))
	require.Len(t, sizes, i)
}

func testKeys(t *testing.T, s kv.Store) {
	keys := []string{"\x00", "\x00\x00", "\x00\xff", "a", "a\x00", "a\x00b", "ab", "b", "\xff", "\xff\xff", "\xff\xff\x00"}
	for i, k := range keys {
		set(t, s, k, fmt.Sprint(i))
	}
	for i, k := range keys {
		require.Equal(t, fmt.Sprint(i), get(t, s, k))
	}
	require.Equal(t, keys, scan(t, s, ""))
	require.Equal(t, []string{"\xff", "\xff\xff", "\xff\xff\x00"}, scan(t, s, "\xff"))
	require.Equal(t, []string{"a", "a\x00", "a\x00b", "ab"}, scan(t, s, "a"))
	require.Equal(t, []string{"a\x00", "a\x00b"}, scan(t, s, "a\x00"))
}

func testLaterChangeHolds(t *testing.T, s kv.Store) {
	var b kv.Batch
	b.Set([]byte("a"), []byte("1"))
	b.Set([]byte("a"), []byte("2"))
	b.Set([]byte("b"), []byte("1"))
	b.Delete([]byte("b"))
	b.Delete([]byte("c"))
	b.Set([]byte("c"), []byte("3"))
	require.NoError(t, s.Commit(&b))
	require.Equal(t, "2", get(t, s, "a"))
	require.Equal(t, "3", get(t, s, "c"))
	require.Equal(t, []string{"a", "c"}, scan(t, s, ""))
}

func testScan(t *testing.T, s kv.Store) {
	var b kv.Batch
	var want []string
	for i := range 500 {
		k := fmt.Sprintf("k%04d", i)
		want = append(want, k)
		b.Set([]byte(k), []byte("v"))
	}
	b.Set([]byte("j"), nil)
	b.Set([]byte("l"), nil)
	require.NoError(t, s.Commit(&b))
	require.Equal(t, want, scan(t, s, "k"))
	require.Equal(t, want[10:20], scan(t, s, "k001"))
	require.Empty(t, scan(t, s, "k9"))
	n := 0
	require.NoError(t, s.Scan([]byte("k"), func([]byte, int64) bool { n++; return n < 7 }))
	require.Equal(t, 7, n)
}

func testGetMany(t *testing.T, s kv.Store) {
	var b kv.Batch
	var keys [][]byte
	for i := range 100 {
		k := fmt.Appendf(nil, "k%03d", i)
		keys = append(keys, k)
		switch {
		case i%3 == 0: // missing
		case i%3 == 1:
			b.Set(k, nil)
		default:
			b.Set(k, bytes.Repeat([]byte{byte(i)}, 100*i))
		}
	}
	require.NoError(t, s.Commit(&b))
	i := 0
	require.NoError(t, s.GetMany(keys, func(at int, v []byte) bool {
		require.Equal(t, i, at)
		switch {
		case i%3 == 0:
			require.Nil(t, v)
		case i%3 == 1:
			require.NotNil(t, v, "an empty value is one")
			require.Empty(t, v)
		default:
			require.True(t, bytes.Equal(bytes.Repeat([]byte{byte(i)}, 100*i), v))
		}
		i++
		return true
	}))
	require.Equal(t, 100, i)
	n := 0
	require.NoError(t, s.GetMany(keys, func(int, []byte) bool { n++; return n < 5 }))
	require.Equal(t, 5, n)
	one := [][]byte{[]byte("nowhere")}
	require.NoError(t, s.GetMany(one, func(_ int, v []byte) bool { require.Nil(t, v); n++; return true }))
	require.Equal(t, 6, n)
}

func testSnapshot(t *testing.T, s kv.Store) {
	big := string(bytes.Repeat([]byte("x"), 20<<10))
	set(t, s, "a", "1")
	set(t, s, "b", big)
	set(t, s, "c", "1")
	snap, err := s.Snapshot()
	require.NoError(t, err)
	set(t, s, "a", "2")
	set(t, s, "d", "2")
	var b kv.Batch
	b.Delete([]byte("b"))
	require.NoError(t, s.Commit(&b))
	require.Equal(t, "1", get(t, snap, "a"))
	require.Equal(t, big, get(t, snap, "b"))
	_, err = snap.Get([]byte("d"))
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	require.Equal(t, []string{"a", "b", "c"}, scan(t, snap, ""))
	require.Equal(t, []string{"a", "c", "d"}, scan(t, s, ""))
	later, err := s.Snapshot()
	require.NoError(t, err)
	require.Equal(t, []string{"a", "c", "d"}, scan(t, later, ""))
	snap.Close()
	require.Equal(t, "2", get(t, later, "a"))
	later.Close()
	require.Equal(t, "2", get(t, s, "a"))
}

func testSnapshotsOfOneMoment(t *testing.T, s kv.Store) {
	set(t, s, "a", "1")
	one, err := s.Snapshot()
	require.NoError(t, err)
	two, err := s.Snapshot()
	require.NoError(t, err)
	one.Close()
	set(t, s, "a", "2")
	_, _, err = s.Reclaim(0, 0)
	require.NoError(t, err)
	require.Equal(t, "1", get(t, two, "a"))
	two.Close()
}

func testKeysAreNotKept(t *testing.T, s kv.Store) {
	key := []byte("first")
	var b kv.Batch
	b.Set(key, []byte("1"))
	require.NoError(t, s.Commit(&b))
	copy(key, "other")
	b.Reset()
	b.Set(key, []byte("2"))
	require.NoError(t, s.Commit(&b))
	b.Reset()
	require.Equal(t, []string{"first", "other"}, scan(t, s, ""))
	require.Equal(t, "1", get(t, s, "first"))
}

func testReturnedValuesAreOwn(t *testing.T, s kv.Store) {
	for _, n := range []int{10, 100 << 10} {
		want := bytes.Repeat([]byte("x"), n)
		set(t, s, "a", string(want))
		v, err := s.Get([]byte("a"))
		require.NoError(t, err)
		clear(v)
		v, err = s.Get([]byte("a"))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, v))
	}
}

func testConcurrency(t *testing.T, s kv.Store) {
	const keys, rounds = 50, 60
	value := func(i, r int) []byte { return fmt.Appendf(nil, "%d/%d/%s", i, r, bytes.Repeat([]byte("."), i*100)) }
	commit := func(r int) {
		var b kv.Batch
		for i := range keys {
			b.Set(fmt.Appendf(nil, "k%02d", i), value(i, r))
		}
		require.NoError(t, s.Commit(&b))
	}
	commit(0)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := make([]int, keys)
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				i := n % keys
				v, err := s.Get(fmt.Appendf(nil, "k%02d", i))
				var gotKey, r int
				if err == nil {
					_, err = fmt.Sscanf(string(v), "%d/%d/", &gotKey, &r)
				}
				if err != nil || gotKey != i || r < last[i] || !bytes.Equal(v, value(i, r)) {
					t.Errorf("key %d: got %.20q after round %d: %v", i, v, last[i], err)
					return
				}
				last[i] = r
				if i == 0 {
					seen := 0
					if err := s.Scan([]byte("k"), func([]byte, int64) bool { seen++; return true }); err != nil || seen != keys {
						t.Errorf("%d keys: %v", seen, err)
						return
					}
				}
			}
		})
	}
	for r := 1; r <= rounds; r++ {
		commit(r)
		snap, err := s.Snapshot()
		require.NoError(t, err)
		require.Equal(t, string(value(7, r)), get(t, snap, "k07"))
		snap.Close()
		require.NoError(t, s.Sync())
	}
	close(done)
	wg.Wait()
}

func testModel(t *testing.T, s kv.Store) {
	rnd := Rand(t)
	model := map[string]string{}
	key := func() string { return fmt.Sprintf("%c%02d", 'a'+rnd.Intn(3), rnd.Intn(40)) }
	for range 150 {
		var b kv.Batch
		for range 1 + rnd.Intn(30) {
			k := key()
			if rnd.Intn(3) == 0 {
				b.Delete([]byte(k))
				delete(model, k)
				continue
			}
			v := fmt.Sprintf("%d%s", rnd.Int(), bytes.Repeat([]byte("v"), rnd.Intn(12)*1000))
			b.Set([]byte(k), []byte(v))
			model[k] = v
		}
		require.NoError(t, s.Commit(&b))
	}
	var keys []string
	for k, v := range model {
		keys = append(keys, k)
		require.Equal(t, v, get(t, s, k))
	}
	slices.Sort(keys)
	require.Equal(t, keys, scan(t, s, ""))
}

func testClosed(t *testing.T, s kv.Store) {
	set(t, s, "a", "1")
	snap, err := s.Snapshot()
	require.NoError(t, err)
	snap.Close()
	require.NoError(t, s.Close())
	var b kv.Batch
	b.Set([]byte("a"), []byte("2"))
	require.ErrorIs(t, s.Commit(&b), shardlog.ErrClosed)
	_, err = s.Get([]byte("a"))
	require.ErrorIs(t, err, shardlog.ErrClosed)
	require.ErrorIs(t, s.GetMany([][]byte{[]byte("a")}, func(int, []byte) bool { return true }), shardlog.ErrClosed)
	require.ErrorIs(t, s.Scan(nil, func([]byte, int64) bool { return true }), shardlog.ErrClosed)
	_, err = s.Snapshot()
	require.ErrorIs(t, err, shardlog.ErrClosed)
	_ = s.Usage()
	_, ok := s.Journal().Append([]byte("a"), []byte("b"))
	require.False(t, ok)
	b.Reset()
	b.Entry = []byte("c")
	require.ErrorIs(t, s.Commit(&b), shardlog.ErrClosed)
	require.NoError(t, s.Close(), "closing twice")
}
