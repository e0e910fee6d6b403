package badgerkv

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// large is a value for the value log.
func large(c byte) []byte { return bytes.Repeat([]byte{c}, 20<<10) }

func batchOf(pairs ...string) *kv.Batch {
	b := &kv.Batch{}
	for i := 0; i < len(pairs); i += 2 {
		b.Set([]byte(pairs[i]), []byte(pairs[i+1]))
	}
	return b
}

// bypass commits a batch that the redo log does not get, as a large one.
func bypass(t *testing.T, s *Store, b *kv.Batch) {
	t.Helper()
	s.txMu.Lock()
	defer s.txMu.Unlock()
	require.NoError(t, s.commitAs(b, false, true))
}

// move copies the value of a key as space reclaiming does, and returns where to.
func move(t *testing.T, s *Store, key string) badgerfile.Pointer {
	t.Helper()
	s.txMu.Lock()
	defer s.txMu.Unlock()
	var version uint64
	var v []byte
	require.NoError(t, s.withItem([]byte(key), func(item *badger.Item) (err error) {
		version = item.Version()
		v, err = item.ValueCopy(nil)
		return err
	}))
	txn, err := s.transaction(batchOf(key, string(v)))
	require.NoError(t, err)
	require.NoError(t, txn.CommitAt(version, nil))
	return placeOf(t, s, key)
}

// lose takes a value from the value log of a directory, as the loss of power does.
func lose(t *testing.T, dir string, p badgerfile.Pointer) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, badgerfile.ValueName(uint64(p.File))), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, p.Size), int64(p.Start))
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// What a process that is killed leaves may have a frame that Badger lacks. The
// version of that frame is missing in Badger's logs then, which is no damage when
// the next process is killed as well.
func TestKilledAgainAfterARecovery(t *testing.T) {
	o := small(t.TempDir())
	o.SyncWrites = true
	s := open(t, o)
	require.NoError(t, set(s, "a", []byte("1")))
	b := batchOf("b", "2")
	_, err := s.redo.ring.Append(s.ts.Load()+1, b)
	require.NoError(t, err)
	dir := killed(t, o.Dir)
	logs, err := numbered(dir, ".mem")
	require.NoError(t, err)
	old, err := os.ReadFile(logs[0].path)
	require.NoError(t, err)

	o.Dir = dir
	s = open(t, o)
	requireValue(t, s, "b", []byte("2"))
	require.Eventually(t, func() bool { return !exists(logs[0].path) }, time.Minute, time.Millisecond)
	again := killed(t, dir)
	// It may have been killed before that log was removed.
	require.NoError(t, os.WriteFile(filepath.Join(again, filepath.Base(logs[0].path)), old, 0o644))

	o.Dir = again
	s = open(t, o)
	requireValue(t, s, "a", []byte("1"))
	requireValue(t, s, "b", []byte("2"))
}

// The same, killed while recovery had written a value and not yet its key.
func TestKilledInARecovery(t *testing.T) {
	o := small(t.TempDir())
	o.SyncWrites = true
	s := open(t, o)
	require.NoError(t, set(s, "a", []byte("1")))
	b := batchOf("b", string(large('2')))
	_, err := s.redo.ring.Append(s.ts.Load()+1, b)
	require.NoError(t, err)
	dir := killed(t, o.Dir)
	ring, err := os.ReadFile(filepath.Join(dir, badgerfile.RedoName))
	require.NoError(t, err)
	logs, err := numbered(dir, ".mem")
	require.NoError(t, err)
	old, err := os.ReadFile(logs[0].path)
	require.NoError(t, err)

	o.Dir = dir
	s = open(t, o)
	requireValue(t, s, "b", large('2'))
	require.Eventually(t, func() bool { return !exists(logs[0].path) }, time.Minute, time.Millisecond)
	again := killed(t, dir)
	logs, err = numbered(again, ".mem")
	require.NoError(t, err)
	require.Len(t, logs, 1)
	fresh, err := os.ReadFile(logs[0].path)
	require.NoError(t, err)
	clear(fresh[badgerfile.LogHeader:])
	require.NoError(t, os.WriteFile(logs[0].path, fresh, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(again, badgerfile.WALName(logs[0].number-1)), old, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(again, badgerfile.RedoName), ring, 0o600))

	o.Dir = again
	s = open(t, o)
	requireValue(t, s, "a", []byte("1"))
	requireValue(t, s, "b", large('2'))
}

// As long as the system runs nothing is lost of what a process has written. So a
// value that cannot be read is damaged, and its batch is not taken back.
func TestDamageIsNoTornBatch(t *testing.T) {
	o := small(t.TempDir())
	o.SyncWrites = true
	s := open(t, o)
	require.NoError(t, set(s, "a", large('1')))
	bypass(t, s, batchOf("a", string(large('2')), "b", "2"))
	p := placeOf(t, s, "a")
	o.Dir = killed(t, o.Dir)
	lose(t, o.Dir, p)

	s = open(t, o)
	requireValue(t, s, "b", []byte("2"))
	_, err := s.Get([]byte("a"))
	require.ErrorIs(t, err, shardlog.ErrCorrupt)
}

// viewOf returns what a check and a repair see of a directory.
func viewOf(t *testing.T, dir string) *View {
	t.Helper()
	files, err := Inspect(dir, nil)
	require.NoError(t, err)
	v, err := OpenView(files, func([]byte) bool { return false })
	require.NoError(t, err)
	t.Cleanup(v.Close)
	return v
}

// The copy that space reclaiming has made of a value is lost in a power loss; the
// value is found where it was, also if the batch that had it is not in the redo
// log, or if the batch behind it is torn. Where commits are not synced that goes for values that
// were synced before.
func TestLostCopies(t *testing.T) {
	o := small(t.TempDir())
	o.SyncWrites = true
	t.Run("of a large batch", func(t *testing.T) {
		o := o
		o.Dir = t.TempDir()
		s := open(t, o)
		bypass(t, s, batchOf("a", string(large('1')), "b", "1"))
		p := move(t, s, "a")
		o.Dir = killed(t, o.Dir)
		lose(t, o.Dir, p)
		earlierBoot(t, o.Dir)
		// A check and a repair before find it as well.
		requireValue(t, viewOf(t, o.Dir), "a", large('1'))

		s = open(t, o)
		requireValue(t, s, "a", large('1'))
		requireValue(t, s, "b", []byte("1"))
	})
	t.Run("below a torn batch", func(t *testing.T) {
		o := o
		o.Dir = t.TempDir()
		s := open(t, o)
		require.NoError(t, set(s, "a", large('1')))
		require.NoError(t, s.Sync())
		p := move(t, s, "a")
		b := batchOf("b", string(large('2')))
		b.Delete([]byte("a"))
		bypass(t, s, b)
		torn := placeOf(t, s, "b")
		o.Dir = killed(t, o.Dir)
		lose(t, o.Dir, p)
		lose(t, o.Dir, torn)
		earlierBoot(t, o.Dir)

		s = open(t, o)
		requireValue(t, s, "a", large('1'))
		_, err := s.Get([]byte("b"))
		require.ErrorIs(t, err, shardlog.ErrNotFound)
	})
	t.Run("where commits are not synced", func(t *testing.T) {
		for _, synced := range []bool{true, false} {
			o := o
			o.Dir, o.SyncWrites = t.TempDir(), false
			s := open(t, o)
			require.NoError(t, set(s, "a", large('1')))
			if synced {
				require.NoError(t, s.Sync())
			}
			p := move(t, s, "a")
			o.Dir = killed(t, o.Dir)
			lose(t, o.Dir, p)
			earlierBoot(t, o.Dir)

			v := viewOf(t, o.Dir)
			got, err := v.Original([]byte("a")) // a repair keeps it
			require.NoError(t, err)
			require.Equal(t, large('1'), got)
			if synced {
				requireValue(t, v, "a", large('1'))
			} else {
				_, err = v.Get([]byte("a"))
				require.ErrorIs(t, err, shardlog.ErrCorrupt) // a check reports it
			}
			s = open(t, o)
			if synced {
				requireValue(t, s, "a", large('1'))
				continue
			}
			// Nobody was promised that it survives.
			_, err = s.Get([]byte("a"))
			require.ErrorIs(t, err, shardlog.ErrCorrupt)
		}
	})
}
