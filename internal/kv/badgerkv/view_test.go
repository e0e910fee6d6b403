package badgerkv

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
	"github.com/shardlog/shardlog/internal/kv/redo"
)

// modes are the ways in which a redo log is used.
func modes(t *testing.T, f func(t *testing.T, o Options)) {
	for _, sync := range []bool{false, true} {
		for _, key := range [][]byte{nil, []byte("0123456789abcdef")} {
			t.Run(fmt.Sprintf("sync %t encrypted %t", sync, key != nil), func(t *testing.T) {
				o := small(t.TempDir())
				o.SyncWrites, o.EncryptionKey = sync, key
				f(t, o)
			})
		}
	}
}

// add commits an entry together with a change of key "k".
func add(t *testing.T, s *Store, entry string) {
	t.Helper()
	b := batchOf("k", entry)
	b.Entry = []byte(entry)
	require.NoError(t, s.Commit(b))
}

// alone commits the same so that the entry has a frame of its own, as with a large batch.
func alone(t *testing.T, s *Store, entry string) {
	t.Helper()
	b := batchOf("k", entry)
	b.Entry = []byte(entry)
	s.txMu.Lock()
	defer s.txMu.Unlock()
	b.Set(entryKey, versionBytes(s.ts.Load()+1))
	require.NoError(t, s.commitAs(b, false, false))
}

// entriesOf returns the entries that a store was opened with.
func entriesOf(t *testing.T, s *Store) (entries []string) {
	t.Helper()
	require.NoError(t, s.Journal().Read(func(_ kv.Position, e []byte) error {
		entries = append(entries, string(e))
		return nil
	}))
	return entries
}

// seen is what a check or repair finds in a directory: entries and damage.
func seen(t *testing.T, o Options) (entries []string, damage []*shardlog.DamageError) {
	t.Helper()
	files, err := Inspect(o.Dir, o.EncryptionKey)
	require.NoError(t, err)
	v, err := OpenView(files, func([]byte) bool { return false })
	require.NoError(t, err)
	defer v.Close()
	for _, e := range v.Entries {
		entries = append(entries, string(e))
	}
	return entries, files.Damage
}

// sums returns what identifies the contents of each file of a directory.
func sums(t *testing.T, dir string) map[string]uint64 {
	t.Helper()
	all := map[string]uint64{}
	for name := range listing(t, dir) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		all[name] = xxhash.Sum64(b)
	}
	return all
}

// A manifest that has lost its last entry may name a table that was merged into
// others and removed. What it was merged into is found, also where that was begun
// earlier than another table which the manifest names.
func TestAManifestThatIsCutBeforeAMerge(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		s, err := begin(o)
		require.NoError(t, err)
		require.NoError(t, set(s, "a", []byte("1")))
		require.NoError(t, s.Close()) // to a table
		_ = open(t, o)                // or the manifest's size is known
		for _, later := range []bool{false, true} {
			o := o
			o.Dir = killed(t, o.Dir)
			path := filepath.Join(o.Dir, badgerfile.ManifestName)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			m, err := badgerfile.ReadManifest(path)
			require.NoError(t, err)
			gone := slices.Max(slices.Collect(maps.Keys(m.Named))) + 1
			if !later {
				gone = 0
			}
			set, err := proto.Marshal(&pb.ManifestChangeSet{Changes: []*pb.ManifestChange{{Id: gone, Op: pb.ManifestChange_CREATE}}})
			require.NoError(t, err)
			b = binary.BigEndian.AppendUint32(b[:8], uint32(len(set)))
			b = binary.BigEndian.AppendUint32(b, crc32.Checksum(set, crc32.MakeTable(crc32.Castagnoli)))
			b = append(b, set...)
			require.NoError(t, os.WriteFile(path, append(b, 0, 0, 0), 0o600)) // the rest is gone

			files, err := Inspect(o.Dir, o.EncryptionKey)
			require.NoError(t, err)
			require.NotEmpty(t, files.Damage)
			v, err := OpenView(files, func([]byte) bool { return false })
			require.NoError(t, err)
			requireValue(t, v, "a", []byte("1"))
			v.Close()
		}
	})
}

// A write-ahead log that was cut behind a commit looks sound, and the redo log may show
// that it is not. Of the last commit that cannot be known. After a crash of the system commits may be
// missing where they were not synced.
func TestAWriteAheadLogThatWasCut(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		s := open(t, o)
		const n = 5
		var logs [][]byte
		mem := ""
		for i := range n {
			alone(t, s, fmt.Sprint(i))
			files, err := numbered(o.Dir, ".mem")
			require.NoError(t, err)
			mem = filepath.Base(files[len(files)-1].path)
			b, err := os.ReadFile(files[len(files)-1].path)
			require.NoError(t, err)
			logs = append(logs, b)
		}
		dir := killed(t, o.Dir)
		for kept := range n {
			for _, crashed := range []bool{false, true} {
				o := o
				o.Dir = killed(t, dir)
				require.NoError(t, os.WriteFile(filepath.Join(o.Dir, mem), logs[kept], 0o644))
				if crashed {
					earlierBoot(t, o.Dir)
				}
				entries, damage := seen(t, o)
				before := sums(t, o.Dir)
				s, err := Open(o)
				if kept+2 < n && (o.SyncWrites || !crashed) {
					var d *shardlog.DamageError
					require.ErrorAs(t, err, &d)
					require.ErrorIs(t, err, shardlog.ErrCorrupt)
					require.Len(t, damage, 1)
					require.Equal(t, d.Reason, damage[0].Reason)
					require.Len(t, entries, n-1, "a repair keeps those that were committed")
					require.Equal(t, before, sums(t, o.Dir), "it was written to")
					continue
				}
				require.NoError(t, err)
				require.Empty(t, damage)
				require.Len(t, entriesOf(t, s), kept+1)
				require.Equal(t, entriesOf(t, s), entries)
				requireValue(t, s, "k", []byte(fmt.Sprint(kept)))
				_, err = s.Journal().Restart(nil)
				require.NoError(t, err)
				require.NoError(t, s.Close())
			}
		}
	})
}

// A redo log that is damaged, missing or that of another store is refused while it may have
// what nothing else has, and what else is there is kept by a repair.
func TestADamagedRedoLog(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		s := open(t, o)
		require.NoError(t, set(s, "a", large('1')))
		for i := range 6 {
			if i%2 == 0 {
				add(t, s, fmt.Sprint(i))
			} else {
				alone(t, s, fmt.Sprint(i))
			}
		}
		other := open(t, func() Options { o := o; o.Dir = t.TempDir(); return o }())
		var frames []redo.Frame
		require.NoError(t, s.redo.ring.Read(false, func(f redo.Frame) error { frames = append(frames, f); return nil }))
		third := frames[len(frames)-4].At.At
		all := []string{"0", "1", "2", "3", "4", "5"}
		zero := func(from, n int64) func(t *testing.T, path string) {
			return func(t *testing.T, path string) {
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				require.NoError(t, err)
				_, err = f.WriteAt(make([]byte, n), from)
				require.NoError(t, err)
				require.NoError(t, f.Close())
			}
		}
		dir := killed(t, o.Dir)
		for _, c := range []struct {
			what   string
			damage func(t *testing.T, path string)
			kept   []string
		}{
			{"a frame", zero(third, 40), []string{"0", "1", "3", "4", "5"}},
			{"identity", zero(0, 20), all},
			{"states", zero(redo.Page, 2*redo.Page), all},
			{"head", zero(0, 3*redo.Page), all},
			{"cut", func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, third)) }, []string{"0", "1"}},
			{"emptied", func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 0)) }, nil},
			{"missing", func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }, nil},
			{"foreign", func(t *testing.T, path string) {
				b, err := os.ReadFile(filepath.Join(other.opts.Dir, badgerfile.RedoName))
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(path, b, 0o600))
			}, nil},
		} {
			for _, crashed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s crashed %t", c.what, crashed), func(t *testing.T) {
					o := o
					o.Dir = killed(t, dir)
					c.damage(t, filepath.Join(o.Dir, badgerfile.RedoName))
					if crashed {
						earlierBoot(t, o.Dir)
					}
					entries, damage := seen(t, o)
					before := sums(t, o.Dir)
					s, err := Open(o)
					if c.what == "a frame" && crashed && !o.SyncWrites {
						// A crash takes frames that were not synced.
						require.NoError(t, err)
						require.Empty(t, damage)
						require.Equal(t, []string{"0", "1"}, entries)
						require.Equal(t, entries, entriesOf(t, s))
						require.NoError(t, s.Close())
						return
					}
					var d *shardlog.DamageError
					require.ErrorAs(t, err, &d)
					require.Equal(t, filepath.Join(o.Dir, badgerfile.RedoName), d.Path)
					require.NotEmpty(t, damage)
					require.Equal(t, c.kept, entries)
					require.Equal(t, before, sums(t, o.Dir), "it was written to")
				})
			}
		}
	})
}

// Changes that Badger has on disk are not taken from the redo log, where an entry may keep
// their frame: Badger may have forgotten since that the key was deleted.
func TestDurableChangesAreNotApplied(t *testing.T) {
	o := small(t.TempDir())
	o.SyncWrites = true
	s := open(t, o)
	add(t, s, "needed")
	// A frame of which Badger knows nothing any more.
	_, err := s.redo.ring.Append(s.ts.Add(1), batchOf("a", "1"))
	require.NoError(t, err)
	require.NoError(t, set(s, "b", []byte("2")))
	require.NoError(t, s.Sync())
	o.Dir = killed(t, o.Dir)
	entries, damage := seen(t, o)
	require.Empty(t, damage)
	require.Equal(t, []string{"needed"}, entries)
	_, err = viewOf(t, o.Dir).Get([]byte("a"))
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	s = open(t, o)
	_, err = s.Get([]byte("a"))
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	requireValue(t, s, "b", []byte("2"))
}

// What the journal was begun with is on disk, whatever the durability: it is given back when
// what takes its place is there, too.
func TestWhatTheJournalWasBegunWithStaysDurable(t *testing.T) {
	o := small(t.TempDir())
	s, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	j := s.Journal()
	places, err := j.Restart([][]byte{make([]byte, releaseBytes), make([]byte, 100)})
	require.NoError(t, err)
	add := func() {
		_, ok := j.Append(make([]byte, releaseBytes/2), nil)
		require.True(t, ok)
		require.NoError(t, set(s, "block", []byte("1")))
	}
	add()
	j.Needed(places[1])
	require.GreaterOrEqual(t, s.redo.ring.Before(places[1]), int64(releaseBytes), "the second one is needed")
	require.Less(t, s.redo.ring.Mark().Base, s.ts.Load())
	add()
	j.Needed(j.End())
	require.Zero(t, s.redo.ring.Before(j.End()))
	require.Equal(t, s.ts.Load(), s.redo.ring.Mark().Base, "Badger's files were synced before")
	// What came later was promised to nobody.
	add()
	add()
	j.Needed(j.End())
	require.Zero(t, s.redo.ring.Before(j.End()))
	require.Less(t, s.redo.ring.Mark().Base, s.ts.Load())
}

// A repair finds the entries of a damaged store also if what was lost says which redo log it
// has: the inventory knows it, too.
func TestARedoLogWhoseOwnerForgotIt(t *testing.T) {
	o := small(t.TempDir())
	s := open(t, o)
	for i := range 3 {
		add(t, s, fmt.Sprint(i))
	}
	b := &kv.Batch{}
	b.Delete(redoKey)
	b.Delete(entryKey)
	require.NoError(t, s.Commit(b))
	dir := killed(t, o.Dir)
	require.NoError(t, os.Remove(filepath.Join(dir, badgerfile.ManifestName)))
	for _, foreign := range []bool{false, true} {
		o := o
		o.Dir = killed(t, dir)
		want := []string{"0", "1"} // of the last one it is not known whether it was committed
		if foreign {
			ring, err := redo.Create(redo.Options{Path: filepath.Join(o.Dir, badgerfile.RedoName), ID: redo.ID{1}})
			require.NoError(t, err)
			_, err = ring.Begin(redo.Mark{}, nil, redo.Words, [][]byte{[]byte("another store's")})
			require.NoError(t, err)
			require.NoError(t, ring.Close())
			want = nil
		}
		entries, damage := seen(t, o)
		require.NotEmpty(t, damage)
		require.Equal(t, want, entries)
	}
}

// A store that was filled without a journal, as Restore does, leaves nothing to recover.
func TestAStoreThatWasFilled(t *testing.T) {
	o := small(t.TempDir())
	o.Restoring = true
	s, err := Open(o)
	require.NoError(t, err)
	require.NoError(t, set(s, "a", large('1')))
	require.NoError(t, s.Sync())
	require.NoError(t, s.Close())
	mark, err := redo.Examine(filepath.Join(o.Dir, badgerfile.RedoName))
	require.NoError(t, err)
	require.True(t, mark.Clean)
	require.Equal(t, s.ts.Load(), mark.Base)
	o.Restoring = false
	s = open(t, o)
	requireValue(t, s, "a", large('1'))
}
