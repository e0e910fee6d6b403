package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

func TestCheckOfASoundDatabase(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		for _, killed := range []bool{false, true} {
			dir := damageTemplate(t, encrypted, killed)
			before := fingerprint(t, dir)
			r, err := Check(t.Context(), dir, damageOptions(encrypted))
			require.NoError(t, err)
			require.Empty(t, r.Findings)
			require.Equal(t, int64(damageRecords), r.Records)
			require.Equal(t, 1, r.Streams)
			require.Equal(t, 1, r.Shards)
			require.Positive(t, r.Blocks)
			require.Equal(t, before, fingerprint(t, dir), "it was written to")

			rep, err := Repair(t.Context(), dir, damageOptions(encrypted))
			require.NoError(t, err)
			require.Empty(t, rep.Old)
			require.Equal(t, before, fingerprint(t, dir), "a sound database was changed")
		}
	}
}

// Check finds each damage that Open refuses, and after a repair the database
// opens, holds what was readable, and is sound.
func TestRepair(t *testing.T) {
	r, _ := newRand(t)
	cases := map[string]int{ // the least number of records that are kept
		"000001.sst cut by a byte": 0, "000002.sst bit": 0, "00001.mem bit": 200, "00001.mem cut": 100, "00001.mem emptied": 200, "00001.mem removed": 200,
		"MANIFEST removed": 300, "MANIFEST emptied": 300, "MANIFEST cut by a byte": 300, "KEYREGISTRY zeroed": 300, "KEYREGISTRY emptied": 300,
		"000003.vlog noise": 200, "000001.vlog removed": 200, "000001.vlog zeroed": 200,
	}
	template := damageTemplate(t, false, true)
	for _, what := range slices.Sorted(maps.Keys(cases)) {
		t.Run(what, func(t *testing.T) {
			file, way, _ := strings.Cut(what, " ")
			if !fileExists(filepath.Join(template, file)) {
				file = lastFile(t, template, "*"+filepath.Ext(file))
			}
			var dir string
			report := new(CheckReport)
			for tries := 0; report.Sound(); tries++ {
				require.Less(t, tries, 5, "it is found nearly always")
				if dir != "" {
					// Drawn where nothing depends on it: an initialization vector that
					// encrypts nothing, or between commits that the redo log has.
					require.Contains(t, []string{"bit", "cut", "noise"}, way, "it is not found")
					require.Equal(t, "whole", openOneDamaged(dir, false))
				}
				dir = filepath.Join(t.TempDir(), "log")
				require.NoError(t, os.CopyFS(dir, os.DirFS(template)))
				_, err := damages[way](r, filepath.Join(dir, file))
				require.NoError(t, err)
				before := fingerprint(t, dir)
				report, err = Check(t.Context(), dir, damageOptions(false))
				require.NoError(t, err)
				require.Equal(t, before, fingerprint(t, dir), "Check has written")
			}

			rep, err := Repair(t.Context(), dir, damageOptions(false))
			require.NoError(t, err, "%v", report.Findings)
			require.DirExists(t, rep.Old)
			found := requireRepaired(t, dir)
			require.GreaterOrEqual(t, found, cases[what], "%v", rep.Before.Findings)
			t.Logf("%d of %d records: %v", found, damageRecords, rep.Before.Findings)
		})
	}
}

// What was written since the redo log was advanced is in it as well.
func TestNewestFilesComeBackFromTheRedoLog(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		o := damageOptions(encrypted)
		src := filepath.Join(t.TempDir(), "log")
		db := openDB(t, src, o)
		st := create(t, db, "s", Config{})
		const records = 16 // less than half of the ring
		for i := range records {
			_, err := st.Put(t.Context(), damageRecord(i))
			require.NoError(t, err)
		}
		dir := kvtest.Killed(t, src)
		require.NoError(t, os.Remove(filepath.Join(dir, lastFile(t, dir, "*.vlog"))))
		report, err := Check(t.Context(), dir, o)
		require.NoError(t, err)
		require.Empty(t, report.Findings)
		require.EqualValues(t, records, report.Records)
		require.Positive(t, report.Blocks)
		db, err = Open(dir, o)
		require.NoError(t, err)
		st, err = db.Stream(t.Context(), "s")
		require.NoError(t, err)
		found, faults, _ := readDamaged(t.Context(), st)
		require.Empty(t, faults)
		require.Equal(t, records, found)
		require.NoError(t, db.Close())
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// requireRepaired opens a repaired database and returns how many records it has.
func requireRepaired(t *testing.T, dir string) int {
	t.Helper()
	db, err := Open(dir, damageOptions(false))
	require.NoError(t, err)
	st, err := db.Stream(t.Context(), "s")
	if errors.Is(err, shardlog.ErrNotFound) {
		require.NoError(t, db.Close())
		return 0 // the table that was damaged had the stream itself
	}
	require.NoError(t, err)
	found, faults, last := readDamaged(t.Context(), st)
	require.False(t, strings.Contains(faults, "is not as it was"), faults)
	res, err := st.Put(t.Context(), shardlog.Record{PartitionKey: "k"})
	require.NoError(t, err)
	require.Positive(t, res.Sequence.Compare(last))
	require.GreaterOrEqual(t, counterOf(res.Sequence), uint64(damageRecords), "a number is given out again")
	require.NoError(t, db.Close())
	return found
}

// A repair that is killed at any moment leaves the old database or one that the
// next call completes, and Open never takes it for another.
func TestRepairThatIsKilledIsCarriedOn(t *testing.T) {
	template := damageTemplate(t, false, false)
	require.NoError(t, os.Remove(filepath.Join(template, "MANIFEST")))
	r := rand.New(rand.NewSource(1))
	for stop := range 12 {
		t.Run(fmt.Sprint(stop), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "log")
			require.NoError(t, os.CopyFS(dir, os.DirFS(template)))
			// The steps of a repair, ended in the middle of moving files.
			c, err := newChecker(t.Context(), dir, nil)
			require.NoError(t, err)
			require.NoError(t, c.run())
			o, err := damageOptions(false).withDefaults(dir)
			require.NoError(t, err)
			_, err = c.copyTo(filepath.Join(dir, repairedName), o)
			require.NoError(t, err)
			c.view.Close()
			p := &fileSwap{dir: dir, report: &RepairReport{}}
			old := filepath.Join(dir, oldPrefix+"1")
			require.NoError(t, os.Mkdir(old, 0o755))
			if stop > 0 {
				require.NoError(t, p.note("out "+filepath.Base(old)))
				moveSome(t, dir, old, r, stop < 6)
			}
			if stop >= 6 {
				require.NoError(t, p.note("in "+filepath.Base(old)))
				moveSome(t, filepath.Join(dir, repairedName), dir, r, true)
			}
			_, err = Open(dir, damageOptions(false))
			require.ErrorIs(t, err, shardlog.ErrCorrupt)
			_, err = Repair(t.Context(), dir, damageOptions(false))
			require.NoError(t, err)
			require.Equal(t, damageRecords, requireRepaired(t, dir))
			require.NoDirExists(t, filepath.Join(dir, repairedName))
		})
	}
}

// moveSome moves the files of a database, or only some of them.
func moveSome(t *testing.T, from, to string, r *rand.Rand, some bool) {
	t.Helper()
	entries, err := os.ReadDir(from)
	require.NoError(t, err)
	for _, e := range entries {
		if !e.IsDir() && !strings.HasPrefix(e.Name(), "REPAIRING") && (!some || r.Intn(2) == 0) {
			require.NoError(t, os.Rename(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())))
		}
	}
}

func TestCheckRefusals(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "log")
	none := filepath.Join(t.TempDir(), "none")
	for _, f := range []func() error{
		func() error { _, err := Check(ctx, none, nil); return err },
		func() error { _, err := Repair(ctx, none, nil); return err },
	} {
		err := f()
		require.ErrorIs(t, err, shardlog.ErrNotFound)
		require.ErrorIs(t, err, os.ErrNotExist)
		require.NotErrorIs(t, err, shardlog.ErrLocked)
		require.NoDirExists(t, none)
	}
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	_, err := Check(ctx, file, nil)
	require.Error(t, err)
	require.NotErrorIs(t, err, shardlog.ErrLocked)
	db, err := Open(dir, damageOptions(true))
	require.NoError(t, err)
	_, err = Check(ctx, dir, damageOptions(true))
	require.ErrorIs(t, err, shardlog.ErrLocked)
	_, err = Repair(ctx, dir, damageOptions(true))
	require.ErrorIs(t, err, shardlog.ErrLocked)
	require.NoError(t, db.Close())
	_, err = Check(ctx, dir, damageOptions(false))
	require.ErrorIs(t, err, shardlog.ErrInvalid, "without the key")
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = Check(ended, dir, damageOptions(true))
	require.True(t, errors.Is(err, context.Canceled), "%v", err)
	_, err = Check(ctx, t.TempDir(), nil)
	require.ErrorIs(t, err, shardlog.ErrNotFound)
}
