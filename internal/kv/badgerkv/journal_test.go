package badgerkv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
	"github.com/shardlog/shardlog/internal/kv/redo"
)

func appendEntry(t testing.TB, s *Store, e string) kv.Position {
	t.Helper()
	p, ok := s.Journal().Append([]byte(e), nil)
	require.True(t, ok)
	return p
}

// reopen opens a store, and leaves it to the test to begin its journal.
func reopen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// Entries that an earlier process has synced stay until what makes them superfluous is on disk
// as well, though nobody calls Sync in this one.
func TestEntriesOfAnEarlierProcessAreGivenBackAfterASync(t *testing.T) {
	o := small(t.TempDir())
	o.RedoMax = redo.MinSize
	s, err := begin(o)
	require.NoError(t, err)
	appendEntry(t, s, "synced")
	require.NoError(t, s.Close())

	var syncs atomic.Int64
	o.Disk = System()
	o.Disk.Sync = func(f *os.File) error {
		syncs.Add(1)
		return datasync(f)
	}
	s = reopen(t, o)
	require.Equal(t, []string{"synced"}, entriesOf(t, s))
	places, err := s.Journal().Restart([][]byte{[]byte("synced")})
	require.NoError(t, err)
	require.NoError(t, set(s, "a", []byte("has it")))
	s.Journal().Needed(s.Journal().End())
	before := syncs.Load()
	fill := func(until func() bool) {
		for i := 0; !until(); i++ {
			require.Less(t, i, 100_000)
			if _, ok := s.Journal().Append(make([]byte, 1000), nil); !ok {
				s.Journal().Needed(s.Journal().End())
				require.True(t, s.Journal().Room(1000))
			}
		}
	}
	fill(func() bool {
		moved := s.redo.ring.Start().Seq > places[0].Seq
		return moved
	})
	require.Greater(t, syncs.Load(), before)
	// From then on nobody needs a sync.
	s.redo.advancing.Lock() // one that is under way has ended
	before = syncs.Load()
	s.redo.advancing.Unlock()
	end := s.Journal().End().Seq
	fill(func() bool {
		s.Journal().Needed(s.Journal().End())
		return s.redo.ring.Start().Seq > end+1000
	})
	require.Equal(t, before, syncs.Load())
	// What was synced is given back after another one.
	e := appendEntry(t, s, "synced")
	require.NoError(t, s.Sync())
	before = syncs.Load()
	s.Journal().Needed(s.Journal().End())
	fill(func() bool { return s.redo.ring.Start().Seq > e.Seq })
	require.Greater(t, syncs.Load(), before)
}

// A process that is killed before it begins the journal leaves it as the power loss before
// has: that frames are missing in front of others is still no damage.
func TestKilledBeforeTheJournalIsBegun(t *testing.T) {
	o := small(t.TempDir())
	s := open(t, o)
	var places []kv.Position
	for i := range 5 {
		places = append(places, appendEntry(t, s, fmt.Sprint("entry ", i)))
	}
	o.Dir = killed(t, o.Dir)
	f, err := os.OpenFile(filepath.Join(o.Dir, badgerfile.RedoName), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 16), places[2].At)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	earlierBoot(t, o.Dir)
	for range 3 {
		s = reopen(t, o)
		require.Equal(t, []string{"entry 0", "entry 1"}, entriesOf(t, s))
		o.Dir = killed(t, o.Dir)
	}
	s = reopen(t, o)
	_, err = s.Journal().Restart([][]byte{[]byte("entry 0"), []byte("entry 1")})
	require.NoError(t, err)
	appendEntry(t, s, "entry 2")
	o.Dir = killed(t, o.Dir)
	inv, err := badgerfile.ReadInventory(o.Dir)
	require.NoError(t, err)
	require.True(t, inv.SameBoot())
	require.Equal(t, []string{"entry 0", "entry 1", "entry 2"}, entriesOf(t, reopen(t, o)))
}

// The entry of a batch that Badger refuses does not count, also not when the next one that is
// committed gets its version.
func TestTheEntryOfARefusedBatch(t *testing.T) {
	for _, sync := range []bool{true, false} {
		o := small(t.TempDir())
		o.SyncWrites = sync
		s := open(t, o)
		s.redo.largest = 1 // both go to Badger alone
		b := batchOf("", "a key that is empty")
		b.Entry = []byte("refused")
		require.Error(t, s.Commit(b))
		b = batchOf("a", "1")
		b.Entry = []byte("committed")
		require.NoError(t, s.Commit(b))
		o.Dir = killed(t, o.Dir)
		require.Equal(t, []string{"committed"}, entriesOf(t, reopen(t, o)))
	}
}

// brokenRing is a file of which the operations fail when the test wants it.
type brokenRing struct {
	redo.File
	fails func(op string) error
}

func (f brokenRing) WriteAt(b []byte, at int64) (int, error) {
	if err := f.fails("write"); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, at)
}

func (f brokenRing) Sync() error {
	if err := f.fails("sync"); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f brokenRing) Map(n int64) ([]byte, error) {
	if err := f.fails("map"); err != nil {
		return nil, err
	}
	return f.File.Map(n)
}

func (f brokenRing) Allocate(to int64) error {
	if err := f.fails("allocate"); err != nil {
		return err
	}
	return f.File.Allocate(to)
}

func onBrokenRing(o *Options, fails func(op string) error) {
	o.Disk = System()
	o.Disk.OpenRedo = func(path string) (redo.File, error) {
		f, err := redo.OpenFile(path)
		return brokenRing{f, fails}, err
	}
}

// An entry that cannot be written is not acknowledged, and stops the store: nothing waits for
// room that will not come.
func TestAnEntryThatCannotBeWrittenStopsTheStore(t *testing.T) {
	o := small(t.TempDir())
	broken := false
	onBrokenRing(&o, func(op string) error {
		if op == "map" {
			return redo.ErrNotMapped
		}
		if broken {
			return errors.New("input/output error")
		}
		return nil
	})
	s, err := begin(o)
	require.NoError(t, err)
	appendEntry(t, s, "written")
	broken = true
	_, ok := s.Journal().Append([]byte("not written"), nil)
	require.False(t, ok)
	broken = false
	_, ok = s.Journal().Append([]byte("not written"), nil)
	require.False(t, ok)
	b := batchOf("a", "1")
	b.Entry = []byte("not written")
	require.ErrorIs(t, s.Commit(b), shardlog.ErrStorage)
	require.ErrorIs(t, set(s, "a", nil), shardlog.ErrStorage)
	require.ErrorIs(t, s.Sync(), shardlog.ErrStorage)
	require.ErrorIs(t, s.Close(), shardlog.ErrStorage)
	o.Disk = nil
	require.Equal(t, []string{"written"}, entriesOf(t, reopen(t, o)))
}

// A store whose redo log cannot be begun is not used, and has what it had. A full disk is one.
func TestAJournalThatCannotBeBegun(t *testing.T) {
	for _, test := range []struct {
		op       string
		err, get error
	}{
		{"map", errFullDisk, shardlog.ErrNoSpace},
		{"map", errors.New("input/output error"), shardlog.ErrStorage},
		{"sync", errors.New("input/output error"), shardlog.ErrStorage},
	} {
		o := small(t.TempDir())
		s := open(t, o)
		appendEntry(t, s, "kept")
		o.Dir = killed(t, o.Dir)
		begun := false
		onBrokenRing(&o, func(op string) error {
			if begun && op == test.op {
				return test.err
			}
			return nil
		})
		s, err := Open(o)
		require.NoError(t, err)
		begun = true
		_, err = s.Journal().Restart([][]byte{[]byte("kept")})
		require.ErrorIs(t, err, test.get)
		_, ok := s.Journal().Append([]byte("x"), nil)
		require.False(t, ok)
		_ = s.Close()
		o.Disk = nil
		require.Equal(t, []string{"kept"}, entriesOf(t, reopen(t, o)))
	}
}

// Each attempt to begin the ring has a key of its own: the numbers of its frames are those of
// the attempt before.
func TestEachAttemptToBeginHasAKey(t *testing.T) {
	o := small(t.TempDir())
	o.EncryptionKey = make([]byte, 32)
	o.RedoMax = 4 * redo.MinSize
	seen := map[string]bool{}
	note := func(s *Store) {
		v, err := s.getAt(newest, redoKey)
		require.NoError(t, err)
		i, err := decodeIdentity(v)
		require.NoError(t, err)
		secret := i.secrets[s.redo.ring.Generation()+1]
		require.Len(t, secret, redoSecret)
		require.False(t, seen[string(secret)])
		seen[string(secret)] = true
	}
	var kept [][]byte
	for i := range 3 {
		fails := false
		o := o
		onBrokenRing(&o, func(op string) error {
			if fails && op == "sync" {
				return errors.New("input/output error")
			}
			return nil
		})
		s, err := Open(o)
		require.NoError(t, err)
		fails = true
		_, err = s.Journal().Restart(append(kept, fmt.Append(nil, "attempt ", i)))
		require.ErrorIs(t, err, shardlog.ErrStorage)
		note(s)
		require.Error(t, s.Close())
	}
	// The same in one process, when there was no room.
	s := reopen(t, o)
	for len(kept) < 20 {
		kept = append(kept, make([]byte, redo.MinSize/16))
	}
	_, err := s.redo.beginRing(s, kept)
	require.ErrorIs(t, err, redo.ErrFull)
	note(s)
	_, err = s.Journal().Restart(kept)
	require.NoError(t, err)
	require.False(t, seen[string(s.redo.id.secrets[s.redo.ring.Generation()])])
	require.Len(t, s.redo.id.secrets, 1)
}

// errFullDisk is what a full disk says.
var errFullDisk = &os.PathError{Op: "fallocate", Path: "REDO", Err: syscall.ENOSPC}

// An entry that is larger than the redo log may be has room if nothing else is
// in it, and is there when the store is opened again.
func TestAnEntryLargerThanTheRedoLog(t *testing.T) {
	for _, sync := range []bool{true, false} {
		o := small(t.TempDir())
		o.SyncWrites, o.RedoMax = sync, redo.MinSize
		s, err := begin(o)
		require.NoError(t, err)
		e := make([]byte, 9<<20) // of 16 MiB
		e[len(e)-1] = 1
		b := batchOf("a", "1")
		b.Entry = []byte("before")
		require.NoError(t, s.Commit(b))
		require.False(t, s.Journal().Room(len(e)), "what is there is needed")
		s.Journal().Needed(s.Journal().End())
		require.True(t, s.Journal().Room(len(e)))
		b = batchOf("b", "2")
		b.Entry = e
		require.NoError(t, s.Commit(b))
		o.Dir = killed(t, o.Dir)
		require.NoError(t, s.Close())
		s = reopen(t, o)
		found := entriesOf(t, s)
		require.Equal(t, string(e), found[len(found)-1])
		// There is no room for two of them: a log makes blocks of it.
		_, err = s.Journal().Restart([][]byte{e})
		require.ErrorIs(t, err, shardlog.ErrNoSpace)
		require.Equal(t, found, entriesOf(t, s), "it is as it was")
		_, err = s.Journal().Restart(nil)
		require.NoError(t, err)
		require.NoError(t, set(s, "c", nil))
	}
}

// What advances the redo log does not do so while it is begun: it would name a place of the
// ring before.
func TestNothingAdvancesARedoLogThatIsBegun(t *testing.T) {
	o := small(t.TempDir())
	var s *Store
	writes := 0
	onBrokenRing(&o, func(string) error {
		if s != nil && !s.redo.begun.Load() {
			writes++
			free := s.redo.advancing.TryLock()
			require.False(t, free)
		}
		return nil
	})
	var err error
	s, err = Open(o)
	require.NoError(t, err)
	_, err = s.Journal().Restart([][]byte{[]byte("entry")})
	require.NoError(t, err)
	require.NotZero(t, writes)
	require.NoError(t, s.Close())
}

// What an earlier process has left is there until the journal is begun.
func TestNothingIsGivenBackBeforeTheJournalIsBegun(t *testing.T) {
	o := small(t.TempDir())
	s, err := begin(o)
	require.NoError(t, err)
	e := strings.Repeat("e", 2*releaseBytes)
	appendEntry(t, s, e)
	require.NoError(t, s.Close())
	s = reopen(t, o)
	s.Journal().Needed(s.Journal().End())
	require.Equal(t, []string{e}, entriesOf(t, s))
}
