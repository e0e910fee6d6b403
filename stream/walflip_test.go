package stream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// A bit that is wrong in the middle of the write-ahead log of a killed writer
// hides all that follows it. Opening such a database reports that, and what is
// lost, and leaves it as it is.
func TestAFlippedBitInTheWriteAheadLogIsTold(t *testing.T) {
	r, _ := newRand(t)
	template := damageTemplate(t, false, true)
	mem := lastFile(t, template, "*.mem")
	whole, err := os.ReadFile(filepath.Join(template, mem))
	require.NoError(t, err)
	written := len(whole)
	for written > 0 && whole[written-1] == 0 {
		written--
	}
	for _, at := range []int{40, written / 4, written / 2, written - 200, written - 3, 20 + r.Intn(written-20), 20 + r.Intn(written-20)} {
		dir := filepath.Join(t.TempDir(), "log")
		require.NoError(t, os.CopyFS(dir, os.DirFS(template)))
		b := append([]byte(nil), whole...)
		b[at] ^= 1 << r.Intn(8)
		require.NoError(t, os.WriteFile(filepath.Join(dir, mem), b, 0o644))
		before := fingerprint(t, dir)
		_, err := Open(dir, damageOptions(false))
		var damaged *shardlog.DamageError
		require.ErrorAs(t, err, &damaged, "a bit at %d of %d", at, written)
		require.ErrorIs(t, err, shardlog.ErrCorrupt)
		require.Equal(t, filepath.Join(dir, mem), damaged.Path)
		require.LessOrEqual(t, damaged.Offset, int64(at))
		require.NotEmpty(t, damaged.Lost)
		require.NotEmpty(t, damaged.Remedy)
		require.Equal(t, before, fingerprint(t, dir), "it was written to")
	}
}

// lastFile returns the name of the last file of a pattern.
func lastFile(t *testing.T, dir, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return filepath.Base(files[len(files)-1])
}

// Numbers continue far above those that a writer gave out that did not close the
// database, whatever the durability: readers may have seen them.
func TestNumbersAreSkippedAfterEveryUncleanEnd(t *testing.T) {
	ctx := context.Background()
	for _, d := range []Durability{SyncAlways, SyncInterval, SyncNever} {
		t.Run(d.String(), func(t *testing.T) {
			o := smallOptions()
			o.Durability = d
			src := filepath.Join(t.TempDir(), "log")
			db, err := Open(src, o)
			require.NoError(t, err)
			st, err := db.Create(ctx, "s", Config{})
			require.NoError(t, err)
			first, err := st.Put(ctx, shardlog.Record{PartitionKey: "k"})
			require.NoError(t, err)
			dir := kvtest.Killed(t, src)
			require.NoError(t, db.Close())

			for _, c := range []struct {
				dir     string
				skipped bool
			}{{src, false}, {dir, true}} {
				db, err := Open(c.dir, o)
				require.NoError(t, err)
				st, err := db.Stream(ctx, "s")
				require.NoError(t, err)
				next, err := st.Put(ctx, shardlog.Record{PartitionKey: "k"})
				require.NoError(t, err)
				step := counterOf(next.Sequence) - counterOf(first.Sequence)
				if c.skipped {
					require.GreaterOrEqual(t, step, uint64(1)<<32)
				} else {
					require.Equal(t, uint64(1), step)
				}
				require.Len(t, readAll(t, st, damageShard), 2)
				require.NoError(t, db.Close())
			}
		})
	}
}

// A directory without a manifest is one of which part is missing, not a new one.
func TestADirectoryWithoutAManifestIsNotNew(t *testing.T) {
	for _, removed := range [][]string{{"MANIFEST"}, {"MANIFEST", "SHARDLOG"}, {"MANIFEST", "KEYREGISTRY", "SHARDLOG"}} {
		dir := damageTemplate(t, false, false)
		for _, name := range removed {
			require.NoError(t, os.Remove(filepath.Join(dir, name)))
		}
		before := fingerprint(t, dir)
		_, err := Open(dir, damageOptions(false))
		var damaged *shardlog.DamageError
		require.ErrorAs(t, err, &damaged)
		require.Equal(t, "MANIFEST", filepath.Base(damaged.Path))
		require.Equal(t, before, fingerprint(t, dir))
	}
}

// Without the inventory the structure of the files shows most of it.
func TestDamageIsToldWithoutTheInventory(t *testing.T) {
	for _, c := range []struct {
		pattern string
		damage  string
	}{{"*.sst", "cut by a byte"}, {"*.sst", "extended"}, {"*.sst", "removed"}, {"MANIFEST", "cut by a byte"}, {"MANIFEST", "cut"}, {"KEYREGISTRY", "emptied"}} {
		t.Run(fmt.Sprintf("%s %s", c.pattern, c.damage), func(t *testing.T) {
			r, _ := newRand(t)
			dir := damageTemplate(t, false, false)
			require.NoError(t, os.Remove(filepath.Join(dir, "SHARDLOG")))
			_, err := damages[c.damage](r, filepath.Join(dir, lastFile(t, dir, c.pattern)))
			require.NoError(t, err)
			before := fingerprint(t, dir)
			_, err = Open(dir, damageOptions(false))
			var damaged *shardlog.DamageError
			require.ErrorAs(t, err, &damaged)
			require.Equal(t, before, fingerprint(t, dir))
		})
	}
}

// A damaged registry of keys is not taken for a wrong key, nor a wrong key for
// damage.
func TestDamageOfTheKeyRegistryIsNotBlamedOnTheKey(t *testing.T) {
	dir := damageTemplate(t, false, false)
	path := filepath.Join(dir, "KEYREGISTRY")
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	b := append([]byte(nil), whole...)
	b[20] ^= 4
	require.NoError(t, os.WriteFile(path, b, 0o644))
	_, err = Open(dir, damageOptions(false))
	var damaged *shardlog.DamageError
	require.ErrorAs(t, err, &damaged)
	require.False(t, errors.Is(err, shardlog.ErrInvalid), "%v", err)
	require.NoError(t, os.WriteFile(path, whole, 0o644))

	_, err = Open(dir, damageOptions(true))
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	require.NotErrorIs(t, err, shardlog.ErrCorrupt)
	db, err := Open(dir, damageOptions(false))
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

// Small records are in the redo log, whatever the write-ahead log has lost; see also
// TestALogThatIsCutBehindATransaction.
func TestALogThatIsCutBehindACommit(t *testing.T) {
	for _, d := range []Durability{SyncAlways, SyncNever} {
		t.Run(d.String(), func(t *testing.T) {
			ctx := context.Background()
			o := damageOptions(false)
			o.Durability = d
			src := filepath.Join(t.TempDir(), "log")
			db, err := Open(src, o)
			require.NoError(t, err)
			st, err := db.Create(ctx, "s", Config{})
			require.NoError(t, err)
			mem := lastFile(t, src, "*.mem")
			var logs [][]byte
			var last shardlog.SequenceNumber
			const records = 10
			for range records {
				res, err := st.Put(ctx, shardlog.Record{PartitionKey: "k", Data: []byte("small")})
				require.NoError(t, err)
				last = res.Sequence
				b, err := os.ReadFile(filepath.Join(src, mem))
				require.NoError(t, err)
				logs = append(logs, b)
			}
			dir := kvtest.Killed(t, src)
			require.NoError(t, db.Close())
			for _, b := range logs {
				cut := filepath.Join(t.TempDir(), "cut")
				require.NoError(t, os.CopyFS(cut, os.DirFS(dir)))
				require.NoError(t, os.WriteFile(filepath.Join(cut, mem), b, 0o644))
				db, err := Open(cut, o)
				require.NoError(t, err)
				st, err := db.Stream(ctx, "s")
				require.NoError(t, err)
				require.Len(t, readAll(t, st, damageShard), records)
				res, err := st.Put(ctx, shardlog.Record{PartitionKey: "k"})
				require.NoError(t, err)
				require.Greater(t, counterOf(res.Sequence), counterOf(last))
				require.NoError(t, db.Close())
			}
		})
	}
}

// Without its data keys nothing of an encrypted database can be read. That is
// said, and no new keys are put in the place of the old ones, which may come back.
func TestAnEncryptedDatabaseWithoutItsRegistry(t *testing.T) {
	ctx := context.Background()
	for _, killed := range []bool{false, true} {
		dir := damageTemplate(t, true, killed)
		path := filepath.Join(dir, "KEYREGISTRY")
		registry, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.Remove(path))
		before := fingerprint(t, dir)
		for _, o := range []*Options{damageOptions(true), damageOptions(false)} {
			var damaged *shardlog.DamageError
			_, err = Open(dir, o)
			require.ErrorIs(t, err, shardlog.ErrCorrupt)
			require.ErrorAs(t, err, &damaged)
			require.NotEmpty(t, damaged.Lost)
			require.Contains(t, damaged.Remedy, "backup")
			_, err = Repair(ctx, dir, o)
			require.ErrorIs(t, err, shardlog.ErrCorrupt)
			require.ErrorAs(t, err, &damaged)
			require.Equal(t, before, fingerprint(t, dir), "it was written to")
		}
		require.NoError(t, os.WriteFile(path, registry, 0o644))
		db, err := Open(dir, damageOptions(true))
		require.NoError(t, err)
		st, err := db.Stream(ctx, "s")
		require.NoError(t, err)
		require.Len(t, readAll(t, st, damageShard), damageRecords)
		require.NoError(t, db.Close())
	}
}

// What only looks like a file of the database is refused by name before the
// storage engine fails over it, and a file may be a link.
func TestForeignFilesAndLinks(t *testing.T) {
	dir := damageTemplate(t, false, false)
	for _, name := range []string{"foo.vlog", "foo.mem", "000099.vlog", "00099.mem"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.Mkdir(path, 0o755))
		_, err := Open(dir, damageOptions(false))
		var damaged *shardlog.DamageError
		require.ErrorAs(t, err, &damaged, name)
		require.Equal(t, path, damaged.Path)
		require.NoError(t, os.Remove(path))
	}
	require.NoError(t, os.Rename(filepath.Join(dir, "000001.vlog"), dir+".elsewhere"))
	require.NoError(t, os.Symlink(dir+".elsewhere", filepath.Join(dir, "000001.vlog")))
	db, err := Open(dir, damageOptions(false))
	require.NoError(t, err)
	require.NoError(t, db.Close())
}
