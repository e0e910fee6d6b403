package logstore

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// Blocks of runs that cannot be stored leave the shard as it was: what is appended
// afterwards is stored, and so are the runs, later.
func TestAppendsAfterBlocksThatCouldNotBeStored(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 1, Options{})
	fail := true
	failed := make(chan struct{}, 1)
	store.BeforeCommit(func(b *kv.Batch) error {
		for i := range b.Ops {
			if fail && IsBlock(b.Ops[i].Key) {
				fail = false
				failed <- struct{}{}
				return shardlog.ErrNoSpace
			}
		}
		return nil
	})
	var want []string
	add := func(n int) {
		for range n {
			d := fmt.Sprintf("%01000d", len(want))
			require.NoError(t, put(l, ss[0], d))
			want = append(want, d)
		}
	}
	add(flushBytes/1000 + 1)
	<-failed
	add(1)
	for _, d := range numbers(0, 10, 40_000) { // each a block
		require.NoError(t, put(l, ss[0], d))
		want = append(want, d)
	}
	add(2 * flushBytes / 1000)
	requireContents(t, want, ss[0])
	_, again := openOn(t, store, 1, Options{})
	requireContents(t, want, again[0])
}

// afterCommit calls f when a commit with an entry is over, and not published yet.
type afterCommit struct {
	*kvtest.Faulty
	f func()
}

func (s *afterCommit) Commit(b *kv.Batch) error {
	err := s.Faulty.Commit(b)
	if f := s.f; f != nil && b.Entry != nil {
		s.f = nil
		f()
	}
	return err
}

// The entry of a transaction is needed although another one, which was added while the
// transaction was published, is the first that the log has noted.
func TestAnEntryThatIsOlderThanTheFirstRun(t *testing.T) {
	store := &afterCommit{Faulty: kvtest.New(kv.NewMemory())}
	l, ss := openOn(t, store, 2, Options{})
	store.f = func() { require.NoError(t, put(l, ss[1], "newer")) }
	res := make([]shardlog.PutResult, 1)
	require.NoError(t, l.AppendWith(ctx, []shardlog.Record{rec("older")}, ss[:1], res, &AppendOptions{Atomic: true}))
	require.NoError(t, res[0].Err)
	_, again := openOn(t, store, 2, Options{})
	requireContents(t, []string{"older"}, again[0])
	requireContents(t, []string{"newer"}, again[1])
}

// Entries that wait for a sync until they are removed are no reason for small blocks of
// what came after them.
func TestBlocksWhileEntriesWaitForASync(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	store.LimitJournal(8 << 20)
	l, ss := openOver(t, store, 16, Options{})
	require.NoError(t, l.Sync())
	record := strings.Repeat("x", 1000)
	for i := range 5000 {
		require.NoError(t, put(l, ss[i%len(ss)], record))
		require.NoError(t, l.settle())
	}
	for _, s := range ss {
		in := s.Info()
		require.LessOrEqual(t, in.BlocksWritten, in.Bytes/flushBytes)
	}
	require.NoError(t, l.Close())
}
