package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// journaled is how many records journalOnly leaves in the journal.
const journaled = 40

// journalOnly makes a database of which records are in the journal alone, and returns what a kill
// leaves of it.
func journalOnly(t *testing.T, o *Options) (killed string) {
	t.Helper()
	src := filepath.Join(t.TempDir(), "log")
	db := openDB(t, src, o)
	st := create(t, db, "s", Config{})
	for i := range journaled {
		put(t, st, "k", fmt.Sprint(i))
	}
	killed = kvtest.Killed(t, src)
	r, err := Check(t.Context(), killed, o)
	require.NoError(t, err)
	require.Empty(t, r.Findings)
	require.Zero(t, r.Blocks)
	require.EqualValues(t, journaled, r.Records)
	return killed
}

// forModes calls f for each durability, encrypted and not.
func forModes(t *testing.T, f func(t *testing.T, o *Options)) {
	for _, d := range []Durability{SyncAlways, SyncInterval, SyncNever} {
		for _, encrypted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v encrypted %t", d, encrypted), func(t *testing.T) {
				o := damageOptions(encrypted)
				o.Durability = d
				f(t, o)
			})
		}
	}
}

// numbersIn returns the data of what can be read of stream "s", and what cannot be.
func numbersIn(t *testing.T, db *DB) (all []string, faults int) {
	t.Helper()
	st, err := db.Stream(t.Context(), "s")
	require.NoError(t, err)
	from := shardlog.TrimHorizon()
	for more := true; more; {
		more = false
		for r, err := range st.Records(t.Context(), damageShard, from) {
			var corrupt *shardlog.CorruptError
			if errors.As(err, &corrupt) {
				from, more, faults = corrupt.Next, true, faults+1
				break
			}
			require.NoError(t, err)
			all = append(all, string(r.Data))
		}
	}
	return all, faults
}

// without returns the numbers below n but some.
func without(n int, some ...int) (all []string) {
	for i := range n {
		if len(some) == 0 || i < some[0] || i > some[len(some)-1] {
			all = append(all, fmt.Sprint(i))
		}
	}
	return all
}

// A repair keeps what only the journal has, whatever else is damaged.
func TestRepairKeepsTheJournal(t *testing.T) {
	forModes(t, func(t *testing.T, o *Options) {
		dir := journalOnly(t, o)
		require.NoError(t, os.Remove(filepath.Join(dir, "MANIFEST")))
		_, err := Open(dir, o)
		require.ErrorIs(t, err, shardlog.ErrCorrupt)
		rep, err := Repair(t.Context(), dir, o)
		require.NoError(t, err)
		require.EqualValues(t, journaled, rep.Before.Records)
		r, err := Check(t.Context(), dir, o)
		require.NoError(t, err)
		require.Empty(t, r.Findings)
		require.Positive(t, r.JournalEntries)
		require.EqualValues(t, journaled, r.Records)
		for range 2 {
			db, err := Open(dir, o)
			require.NoError(t, err)
			all, faults := numbersIn(t, db)
			require.Zero(t, faults)
			require.Equal(t, without(journaled), all)
			require.NoError(t, db.Close())
		}
	})
}

// A journal with a damaged entry is refused, and a repair keeps all others. What is missing
// is reported to readers.
func TestADamagedEntryOfTheJournal(t *testing.T) {
	forModes(t, func(t *testing.T, o *Options) {
		dir := journalOnly(t, o)
		path := filepath.Join(dir, badgerfile.RedoName)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		const frame = "SLRF"
		var places []int
		for at := 4 * 4096; at+40 < len(b); at += 8 {
			if string(b[at+8:at+12]) == frame && binary.LittleEndian.Uint32(b[at+36:]) > 0 {
				places = append(places, at)
			}
		}
		require.GreaterOrEqual(t, len(places), journaled)
		b[places[len(places)-10]+44] ^= 1 // record 30
		require.NoError(t, os.WriteFile(path, b, 0o600))
		before := fingerprint(t, dir)

		_, err = Open(dir, o)
		var d *shardlog.DamageError
		require.ErrorAs(t, err, &d)
		require.Equal(t, path, d.Path)
		r, err := Check(t.Context(), dir, o)
		require.NoError(t, err)
		require.Equal(t, path, r.Findings[0].Path)
		require.True(t, r.Findings[0].Refused)
		require.EqualValues(t, journaled-1, r.Records)
		require.Equal(t, before, fingerprint(t, dir), "it was written to")

		_, err = Repair(t.Context(), dir, o)
		require.NoError(t, err)
		for range 2 {
			db, err := Open(dir, o)
			require.NoError(t, err)
			all, faults := numbersIn(t, db)
			require.Equal(t, 1, faults)
			require.Equal(t, without(journaled, 30), all)
			require.NoError(t, db.Close())
		}
	})
}

// A backup has the records that only the journal has.
func TestABackupHasTheJournal(t *testing.T) {
	forModes(t, func(t *testing.T, o *Options) {
		db := openDB(t, journalOnly(t, o), o)
		st, err := db.Stream(t.Context(), "s")
		require.NoError(t, err)
		put(t, st, "k", fmt.Sprint(journaled))
		data := backup(t, db)
		last := put(t, st, "k", "later").Sequence
		dir := filepath.Join(t.TempDir(), "restored")
		require.NoError(t, Restore(t.Context(), dir, bytes.NewReader(data), o))
		r, err := Check(t.Context(), dir, o)
		require.NoError(t, err)
		require.Empty(t, r.Findings)
		require.EqualValues(t, journaled+1, r.Records)
		restored := openDB(t, dir, o)
		all, faults := numbersIn(t, restored)
		require.Zero(t, faults)
		require.Equal(t, without(journaled+1), all)
		st2, err := restored.Stream(t.Context(), "s")
		require.NoError(t, err)
		require.Positive(t, put(t, st2, "k", "more").Sequence.Compare(last), "a number is given out again")
	})
}

// A write-ahead log that ends exactly behind a commit looks like one that was
// never longer. What is missing is in the redo log where commits are synced. Otherwise
// the journal shows that there were commits, but for the last one, and a
// repair keeps their records.
func TestALogThatIsCutBehindATransaction(t *testing.T) {
	for _, d := range []Durability{SyncAlways, SyncNever} {
		t.Run(d.String(), func(t *testing.T) {
			ctx := context.Background()
			o := damageOptions(false)
			o.Durability = d
			src := filepath.Join(t.TempDir(), "log")
			db := openDB(t, src, o)
			st := create(t, db, "s", Config{})
			l, err := db.Checkpoints().Create(ctx, checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: damageShard}})
			require.NoError(t, err)
			mem := lastFile(t, src, "*.mem")
			var logs [][]byte
			const records = 6
			var last shardlog.SequenceNumber
			for i := range records {
				tx := db.Begin()
				tx.Put(st, shardlog.Record{PartitionKey: "k", Data: fmt.Append(nil, i)})
				l.Epoch++
				tx.Checkpoint(l)
				res, err := tx.Commit(ctx)
				require.NoError(t, err)
				l, last = res.Checkpoints[0], res.Records[0].Sequence
				b, err := os.ReadFile(filepath.Join(src, mem))
				require.NoError(t, err)
				logs = append(logs, b)
			}
			dir := kvtest.Killed(t, src)
			for kept, b := range logs {
				cut := filepath.Join(t.TempDir(), "cut")
				require.NoError(t, os.CopyFS(cut, os.DirFS(dir)))
				require.NoError(t, os.WriteFile(filepath.Join(cut, mem), b, 0o644))
				want, wantEpoch := records, uint64(records)
				if d == SyncNever {
					want, wantEpoch = kept+1, uint64(kept+1)
				}
				if want+1 < records {
					_, err := Open(cut, o)
					var damaged *shardlog.DamageError
					require.ErrorAs(t, err, &damaged)
					r, err := Check(ctx, cut, o)
					require.NoError(t, err)
					require.Len(t, r.Findings, 1)
					require.True(t, r.Findings[0].Refused)
					_, err = Repair(ctx, cut, o)
					require.NoError(t, err)
					want = records - 1
				}
				db, err := Open(cut, o)
				require.NoError(t, err)
				all, faults := numbersIn(t, db)
				require.Zero(t, faults)
				require.Equal(t, without(want), all)
				row, err := db.Checkpoints().Get(ctx, l.Key)
				require.NoError(t, err)
				require.Equal(t, wantEpoch, row.Epoch)
				st, err := db.Stream(ctx, "s")
				require.NoError(t, err)
				require.Greater(t, counterOf(put(t, st, "k", "more").Sequence), counterOf(last))
				require.NoError(t, db.Close())
			}
		})
	}
}
