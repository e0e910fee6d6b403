package stream

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// onceScript is a fixed run of a program that sends again whatever it has no
// answer for. What it wrote must be there once each, whatever failed.
type onceScript struct {
	t     *testing.T
	db    *DB
	epoch uint64
	left  []func() error // steps that have not succeeded yet
	want  []string       // data that are certain to be stored, in the end
	other []string       // in the other stream
}

func (s *onceScript) stream(name string) *Stream {
	st, err := s.db.Stream(context.Background(), name)
	require.NoError(s.t, err)
	return st
}

// step runs f, twice if need be, and notes it for later if it fails.
func (s *onceScript) step(f func() error) {
	if err := f(); err != nil && f() != nil {
		s.left = append(s.left, f)
	}
}

func firstError(res []shardlog.PutResult, err error) error {
	for i := range res {
		if err == nil {
			err = res[i].Err
		}
	}
	return err
}

func (s *onceScript) request(done uint64, numbers ...uint64) {
	for _, n := range numbers {
		s.want = append(s.want, fmt.Sprint(n))
	}
	s.step(func() error {
		return firstError(s.stream("s").PutRequest(context.Background(), numberedRequest("p", s.epoch, done, numbers...)))
	})
}

func (s *onceScript) withIDs(ids ...string) {
	var recs []shardlog.Record
	for _, id := range ids {
		recs = append(recs, withID(id, id))
	}
	s.want = append(s.want, ids...)
	s.step(func() error { return firstError(s.stream("s").PutRecords(context.Background(), recs)) })
}

// transaction moves the row on by one, with a record in each stream.
func (s *onceScript) transaction(n uint64) {
	data := fmt.Sprint("tx", n)
	s.want, s.other = append(s.want, data), append(s.other, data)
	s.step(func() error {
		row, err := s.db.Checkpoints().Get(context.Background(), txKey)
		if err != nil || row.Beat >= n {
			return err // it was committed, and its answer lost
		}
		if row.Beat != n-1 {
			return fmt.Errorf("an earlier transaction is still to be made")
		}
		row.Beat = n
		tx := s.db.Begin()
		tx.Put(s.stream("s"), keyed(fmt.Sprint(n), data))
		tx.Put(s.stream("other"), keyed(data, data))
		tx.Checkpoint(row)
		_, err = tx.Commit(context.Background())
		return err
	})
}

func (s *onceScript) run() {
	ctx := context.Background()
	s.request(0, span(0, 3)...)
	s.withIDs("a", "b")
	s.transaction(1)
	s.request(0, span(3, 300)...)
	_, _ = s.stream("s").Split(ctx, shardID(0), shardlog.HashKey{})
	s.transaction(2)
	s.request(2, span(300, 900)...) // too many for the base alone
	s.request(2, 900, 901)
	s.withIDs("c", "d", "e")
	s.request(850, 902)
	s.transaction(3)
	_, _ = s.stream("s").OpenProducer(ctx, "someone else")
}

// TestFaultAtEveryOperationStoresOnce runs the script with the i-th operation of
// the store failing, for every i, opens the database again, and finishes what
// was left: everything is there, and once.
func TestFaultAtEveryOperationStoresOnce(t *testing.T) {
	opts, err := (&Options{}).withDefaults("dir")
	require.NoError(t, err)
	for name, mode := range map[string]kvtest.Mode{"refused": kvtest.Refuse, "torn": kvtest.Torn, "torn and applied": kvtest.TornApplied} {
		t.Run(name, func(t *testing.T) {
			for i := 1; ; i++ {
				store := kvtest.New(kv.NewMemory())
				s := &onceScript{t: t}
				open := func() {
					if s.db != nil {
						_ = s.db.Close()
					}
					store.Revive()
					s.db, err = openOn(store, opts)
					require.NoError(t, err)
				}
				open()
				create(t, s.db, "s", Config{Shards: 2, Retention: Forever, DedupWindow: time.Hour})
				create(t, s.db, "other", Config{Retention: Forever})
				s.epoch = openProducer(t, s.stream("s"), "p")
				_, err := s.db.Checkpoints().Create(t.Context(), checkpoint.Lease{Key: txKey})
				require.NoError(t, err)

				store.FailAt(i, kvtest.All|kvtest.Append, mode, nil)
				s.run()
				hit := store.Hit()
				open()
				for _, f := range s.left {
					require.NoError(t, f())
				}
				requireOnce(t, s.stream("s"), s.want...)
				requireOnce(t, s.stream("other"), s.other...)
				row, err := s.db.Checkpoints().Get(t.Context(), txKey)
				require.NoError(t, err)
				require.Equal(t, uint64(3), row.Beat)
				require.Empty(t, s.db.rows.held)
				require.NoError(t, store.CheckValues())
				require.Zero(t, store.Refused())
				require.NoError(t, s.db.Close())
				if !hit {
					require.Greater(t, i, 12, "the script does enough")
					return
				}
			}
		})
	}
}
