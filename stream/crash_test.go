package stream

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/once"
)

// Every change of a database is cut off after each of its commits in turn; it
// opens again each time, with everything that was acknowledged before.
func TestCrashAtEveryCommitOf(t *testing.T) {
	for name, op := range map[string]func(db *DB, st *Stream) error{
		"create": func(db *DB, _ *Stream) error {
			_, err := db.Create(context.Background(), "new", Config{Shards: 600})
			return err
		},
		"delete": func(db *DB, _ *Stream) error { return db.Delete(context.Background(), "victim") },
		"split": func(_ *DB, st *Stream) error {
			_, err := st.Split(context.Background(), shardID(1), shardlog.HashKey{})
			return err
		},
		"merge": func(_ *DB, st *Stream) error {
			_, err := st.Merge(context.Background(), shardID(1), shardID(2))
			return err
		},
		"reshard up":    func(_ *DB, st *Stream) error { return st.Reshard(context.Background(), 250) },
		"reshard down":  func(_ *DB, st *Stream) error { return st.Reshard(context.Background(), 1) },
		"set retention": func(_ *DB, st *Stream) error { return st.SetRetention(context.Background(), time.Hour, 1<<30) },
		"set tags":      func(_ *DB, st *Stream) error { return st.SetTags(context.Background(), map[string]string{"a": "b"}) },
		"set limits":    func(_ *DB, st *Stream) error { return st.SetLimits(context.Background(), KinesisLimits()) },
		"close":         func(db *DB, _ *Stream) error { return db.Close() },
		"put": func(_ *DB, st *Stream) error {
			_, err := st.Put(context.Background(), shardlog.Record{PartitionKey: "late", Data: []byte("late")})
			return err
		},
		"set dedup window": func(_ *DB, st *Stream) error { return st.SetDedupWindow(context.Background(), time.Hour) },
		"open producer":    func(_ *DB, st *Stream) error { _, err := st.OpenProducer(context.Background(), "p"); return err },
		"request": func(_ *DB, st *Stream) error {
			req := numberedRequest("before", st.producers.Find("before").Info().Epoch, 0, 1)
			req.Records[0].PartitionKey = "late"
			return firstError(st.PutRequest(context.Background(), req))
		},
		"transaction": func(db *DB, st *Stream) error {
			tx := db.Begin()
			tx.Put(st, keyed("late", "late"))
			tx.Checkpoint(checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: "late"}})
			_, err := tx.Commit(context.Background())
			return err
		},
		"checkpoint": func(db *DB, _ *Stream) error {
			_, err := db.Checkpoints().Create(context.Background(), checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: "late"}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				require.Less(t, n, 100)
				if completed := crashAt(t, n, n%2 == 0, op); completed {
					break
				}
			}
		})
	}
}

// crashAt makes a database, cuts op off at its n-th commit, and looks at what
// is left. It returns true when op needs fewer commits.
func crashAt(t *testing.T, n int, applied bool, op func(*DB, *Stream) error) bool {
	store := newSurviving()
	db := store.open(t, nil)
	st := create(t, db, "s", Config{Shards: 4, Retention: Forever})
	victim := create(t, db, "victim", Config{Shards: 4, Retention: Forever})
	for i := range 40 {
		put(t, st, fmt.Sprint(i), strings.Repeat("x", i*500))
		put(t, victim, fmt.Sprint(i), strings.Repeat("y", i*500))
	}
	openProducer(t, st, "before")
	request(t, victim, numberedRequest("before", openProducer(t, victim, "before"), 0, span(0, 1000)...))
	before := readStream(t, st)
	store.dieAfter(n, applied)
	err := op(db, st)
	completed := !store.died()
	if completed {
		require.NoError(t, err)
	}
	store.dieAfter(0, false)
	_ = db.Close()
	store.revive()

	db = store.open(t, nil)
	st, err = db.Stream(t.Context(), "s")
	require.NoError(t, err)
	requireCovered(t, shards(t, st))
	after := readStream(t, st)
	if len(after) == len(before)+1 {
		after = withoutKey(after, "late")
	}
	require.Equal(t, before, after)
	found, err := db.Streams(t.Context())
	require.NoError(t, err)
	for _, other := range found {
		requireCovered(t, shards(t, other))
		if other.Name() == "victim" {
			require.Len(t, readStream(t, other), 1040, "a deletion is whole or not begun")
		}
	}
	for i := range 40 {
		put(t, st, fmt.Sprint(i), "after")
	}
	all := readStream(t, st)
	seen := map[string]map[shardlog.SequenceNumber]bool{}
	for _, r := range all {
		if seen[r.ShardID] == nil {
			seen[r.ShardID] = map[shardlog.SequenceNumber]bool{}
		}
		require.False(t, seen[r.ShardID][r.Sequence])
		seen[r.ShardID][r.Sequence] = true
	}
	// What the cut-off operation left behind is gone after another opening.
	require.NoError(t, db.Close())
	store.revive()
	db = store.open(t, nil)
	streams := map[string]bool{}
	left, err := db.Streams(t.Context())
	require.NoError(t, err)
	for _, st := range left {
		streams[fmt.Sprint(st.id)] = true
	}
	require.NoError(t, db.Close())
	for _, prefix := range []byte{'b', once.KeyPrefix} {
		require.NoError(t, store.Scan([]byte{prefix}, func(k []byte, _ int64) bool {
			require.True(t, streams[fmt.Sprint(uint32(k[1])<<24|uint32(k[2])<<16|uint32(k[3])<<8|uint32(k[4]))], "what is of no stream, kind %c", prefix)
			return true
		}))
	}
	return completed
}

func withoutKey(records []shardlog.Record, key string) (out []shardlog.Record) {
	for _, r := range records {
		if r.PartitionKey != key {
			out = append(out, r)
		}
	}
	return out
}

// Tags or bounds that are set while a stream is deleted do not bring back half
// of it.
func TestCrashWhileConfiguringAStreamThatIsDeleted(t *testing.T) {
	store := &slowPublish{surviving: newSurviving(), committed: func() {}}
	opts, err := (&Options{}).withDefaults("dir")
	require.NoError(t, err)
	db, err := openOn(store, opts)
	require.NoError(t, err)
	st := create(t, db, "s", Config{Shards: 2})
	configured := make(chan error, 1)
	begin := make(chan struct{})
	go func() {
		<-begin
		configured <- st.SetTags(context.Background(), map[string]string{"a": "b"})
	}()
	commits := 0
	store.committed = func() {
		switch commits++; commits {
		case 1: // the stream is marked; the deletion does not know yet
			close(begin)
			time.Sleep(20 * time.Millisecond) // the other one waits, or is in the next transaction
		case 2:
			store.dieAfter(1, true)
		}
	}
	_ = db.Delete(t.Context(), "s")
	<-configured
	store.dieAfter(0, false)
	_ = db.Close()
	store.revive()
	db, err = openOn(store, opts)
	require.NoError(t, err)
	_, err = db.Stream(t.Context(), "s")
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	require.NoError(t, db.Close())
}

// After a power loss the newest records may be missing, although readers have
// seen them. Their numbers are not given to others, however often the database
// is opened before it is written to.
func TestNumbersLostWithThePowerAreNotUsedAgain(t *testing.T) {
	for name, damage := range map[string]func(store *surviving, k []byte) kv.Op{
		"missing": func(_ *surviving, k []byte) kv.Op { return kv.Op{Key: k, Delete: true} },
		"damaged": func(_ *surviving, k []byte) kv.Op { return kv.Op{Key: k, Value: []byte("torn")} },
	} {
		for _, reopens := range []int{0, 1, 2} {
			t.Run(fmt.Sprintf("%s, opened %d times before", name, reopens), func(t *testing.T) {
				opts := &Options{Durability: SyncNever}
				store := newSurviving()
				db := store.open(t, opts)
				st := create(t, db, "s", Config{Retention: Forever})
				put(t, st, "a", strings.Repeat("kept", 20_000))
				lost := put(t, st, "a", strings.Repeat("lost", 20_000))
				store.dieAfter(0, false)
				_ = db.Close()
				store.revive()
				var last []byte
				require.NoError(t, store.Scan([]byte{'b'}, func(k []byte, _ int64) bool {
					last = append([]byte(nil), k...)
					return true
				}))
				require.NoError(t, store.Faulty.Commit(&kv.Batch{Ops: []kv.Op{damage(store, last)}}))
				for range reopens {
					require.NoError(t, store.open(t, opts).Close())
				}
				db = store.open(t, opts)
				st, err := db.Stream(t.Context(), "s")
				require.NoError(t, err)
				require.Len(t, readAll(t, st, shardID(0)), 1)
				next := put(t, st, "a", "next")
				require.Greater(t, counterOf(next.Sequence), counterOf(lost.Sequence))
				// A consumer that had read the lost record misses nothing.
				p, err := st.Read(t.Context(), shardlog.ReadRequest{ShardID: shardID(0), From: shardlog.After(lost.Sequence)})
				require.NoError(t, err)
				require.Len(t, p.Records, 1)
			})
		}
	}
}

// A stream that is created again under the name of a deleted one must not use its
// numbers: consumers keep them under the name.
func TestNumbersOfADeletedStreamAreNotUsedAgain(t *testing.T) {
	for _, inMemory := range []bool{true, false} {
		t.Run(fmt.Sprintf("in memory: %t", inMemory), func(t *testing.T) {
			db := newSurviving().open(t, nil)
			if inMemory {
				db = openMem(t)
			}
			var last shardlog.SequenceNumber
			for range 10 {
				st := create(t, db, "s", Config{})
				for range 20 {
					r := put(t, st, "a", "x")
					require.Positive(t, r.Sequence.Compare(last))
					last = r.Sequence
				}
				require.NoError(t, db.Delete(t.Context(), "s"))
			}
		})
	}
}
