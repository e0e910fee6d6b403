//go:build !race

// The race detector finds a read in Badger's value log GC that meets commits; it
// is harmless, and not ours.

package badgerkv

import (
	"bytes"
	"fmt"
	mrand "math/rand"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/kv"
)

// The system is asked to write a file in steps, which are smaller where the sync of
// the full file comes soon.
func TestThePagerWritesInStepsBehindTheWriter(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct{ ahead, flushed, at, want int64 }{
		{2 * mib, 0, 5 * mib, 0},
		{2 * mib, 0, 6 * mib, 4 * mib},
		{2 * mib, 4 * mib, 9 * mib, 4 * mib},
		{0, 4 * mib, 9 * mib, 9*mib - populateStep},
		{2 * mib, 54 * mib, 60 * mib, 60*mib - populateStep},
		{2 * mib, 59 * mib, 60 * mib, 59 * mib},
		{2 * mib, 62 * mib, 64 * mib, 64*mib - populateStep},
	} {
		f := pagedFile{limit: 64 * mib, ahead: c.ahead, flushed: c.flushed}
		require.Equal(t, c.want, f.behind(c.at), "%+v", c)
	}
}

// A store that syncs each commit is written in the same steps, and nothing of it
// is populated.
func TestASyncedFileIsWrittenAsItFills(t *testing.T) {
	o := small(t.TempDir())
	o.ValueLogFile, o.SyncWrites = 16<<20, true
	s := open(t, o)
	if s.pager == nil {
		require.ErrorContains(t, (mapping{}).populate(0, 0), "invalid argument", "a system before 5.14")
		return
	}
	want := map[string][]byte{}
	rnd := mrand.New(mrand.NewSource(1))
	for i := range 80 { // more than one file
		k := fmt.Sprint("k", i)
		want[k] = value(rnd, 512<<10)
		require.NoError(t, set(s, k, want[k]))
		for len(s.pager.kick) > 0 { // it follows
			runtime.Gosched()
		}
	}
	s.pager.close() // so that its fields may be looked at
	require.Positive(t, s.pager.flushes)
	require.Zero(t, s.pager.populated)
	s.pager = nil
	for k, v := range want {
		requireValue(t, s, k, v)
	}
}

// The pager takes pages out of the mapping that is being written to. Nothing
// may be lost of it, also for those who read meanwhile, and while files fill
// up, grow beyond their size for a large value, and are reclaimed.
func TestThePagerChangesNothing(t *testing.T) {
	o := small(t.TempDir())
	o.ValueLogFile = 16 << 20
	s := open(t, o)
	if s.pager == nil {
		require.ErrorContains(t, (mapping{}).populate(0, 0), "invalid argument", "a system before 5.14")
		return
	}
	content := func(n int, size int) []byte {
		var seed [32]byte
		seed[0], seed[1] = byte(n), byte(n>>8)
		b := make([]byte, size)
		_, _ = rand.NewChaCha8(seed).Read(b)
		return b
	}
	const keep = 40 // values that live
	key := func(n int) []byte { return fmt.Appendf(nil, "k%04d", n) }
	size := func(n int) int {
		if n%50 == 49 {
			return 15 << 20 // reaches beyond the end of a file
		}
		return 512 << 10
	}
	var newest, dead int64
	var mu sync.Mutex
	state := func() (int64, int64) { mu.Lock(); defer mu.Unlock(); return newest, dead }
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // reads what lives
		for {
			select {
			case <-stop:
				return
			default:
			}
			if n, _ := state(); n > 0 {
				i := int(n) - 1 - rand.IntN(min(int(n), keep/2))
				if v, err := s.Get(key(i)); err == nil && !bytes.Equal(v, content(i, size(i))) {
					t.Errorf("value %d is not what was written", i)
					return
				}
			}
		}
	})
	wg.Go(func() { // reclaims what is dead
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			_, d := state()
			if _, _, err := s.Reclaim(keep<<19, d); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for n := range 250 {
		var b kv.Batch
		b.Set(key(n), content(n, size(n)))
		if n >= keep {
			b.Delete(key(n - keep))
		}
		require.NoError(t, s.Commit(&b))
		mu.Lock()
		newest++
		if n >= keep {
			dead += int64(size(n - keep))
		}
		mu.Unlock()
	}
	close(stop)
	wg.Wait()
	for n := 250 - keep; n < 250; n++ {
		requireValue(t, s, string(key(n)), content(n, size(n)))
	}
	s.pager.close() // so that its fields may be looked at
	require.Positive(t, s.pager.flushes)
	require.Positive(t, s.pager.populated)
	s.pager = nil
}
