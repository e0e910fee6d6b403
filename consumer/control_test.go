package consumer_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

func TestPauseAndResume(t *testing.T) {
	for _, perKey := range []int{1, 4} {
		bubble(t, func(t *testing.T) {
			src, st, k := newSource(2), newStore(), &sink{}
			r := start(t, src, k, consumer.Options{Store: st, PerKey: perKey})
			settle()
			r.Pause(shardID(0))
			settle()
			src.put(0, 3)
			src.put(1, 3)
			time.Sleep(time.Minute)
			settle()
			assert.Equal(t, names(1, 0, 3), k.got())
			assert.Equal(t, "paused", r.stats(0).Blocked)
			r.Resume(shardID(0))
			settle()
			assert.Equal(t, append(names(1, 0, 3), names(0, 0, 3)...), k.got())
			assert.Empty(t, r.stats(0).Blocked)
			r.Pause()
			src.put(1, 3)
			settle()
			assert.Len(t, k.got(), 6)
			r.Resume()
			settle()
			assert.Len(t, k.got(), 9)
			r.Pause()
			settle()
			r.stop() // paused shards are given back too
			assert.Empty(t, st.row(t, 0).Owner)
		})
	}
}

func TestSeek(t *testing.T) {
	for _, perKey := range []int{1, 4} {
		bubble(t, func(t *testing.T) {
			src, st, k := newSource(1), newStore(), &sink{}
			ctx := context.Background()
			src.put(0, 10)
			time.Sleep(time.Hour)
			src.put(0, 1)
			r := start(t, src, k, consumer.Options{Store: st, PerKey: perKey})
			settle()
			r.Pause() // or what follows is done before the row is looked at
			require.NoError(t, r.Seek(ctx, shardID(0), shardlog.After(seq(0, 7))))
			assert.Equal(t, shardlog.After(seq(0, 7)), st.row(t, 0).Checkpoint)
			r.Resume()
			settle()
			assert.Equal(t, append(names(0, 0, 11), names(0, 8, 11)...), k.got())
			require.NoError(t, r.Seek(ctx, shardID(0), shardlog.AtTime(time.Now().Add(-time.Minute))))
			settle()
			assert.Len(t, k.got(), 15)
			r.Pause()
			src.put(0, 5)
			settle()
			require.NoError(t, r.Seek(ctx, shardID(0), shardlog.Latest()))
			r.Resume()
			settle()
			assert.Len(t, k.got(), 15, "what waited is skipped")
			require.NoError(t, r.Seek(ctx, shardID(0), shardlog.TrimHorizon()))
			settle()
			assert.Len(t, k.got(), 15+16)
			require.ErrorIs(t, r.Seek(ctx, shardID(9), shardlog.Latest()), shardlog.ErrNotFound)
			r.stop()
			require.ErrorIs(t, r.Seek(ctx, shardID(0), shardlog.Latest()), consumer.ErrLeaseNotHeld)
		})
	}
}

func TestSeekFromInsideAHandlerIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := newSource(1)
		src.put(0, 1)
		c := make(chan *consumer.Consumer, 1)
		var err error
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			err = (<-c).Seek(ctx, b.ShardID, shardlog.Latest())
			return nil
		}), consumer.Options{Store: newStore()})
		c <- r.Consumer
		settle()
		require.ErrorIs(t, err, shardlog.ErrUnsupported)
		r.stop()
	})
}

func TestLagAndStats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(2), &sink{}
		src.put(0, 100)
		src.put(1, 10)
		r := start(t, src, slow(k, time.Minute), consumer.Options{Store: newStore(), MaxBatchRecords: 10, PrefetchBytes: 1})
		settle()
		assert.Equal(t, consumer.Lag{Records: 80, Behind: 80 * time.Second}, r.Lag())
		s := r.Stats()
		assert.Equal(t, int64(80_000), s.MillisBehindLatest)
		assert.Equal(t, 2, s.CurrentLeases)
		assert.Equal(t, 1, s.Workers)
		assert.Positive(t, s.PrefetchedBytes)
		time.Sleep(time.Hour)
		settle()
		assert.Zero(t, r.Lag())
		s = r.Stats()
		assert.Equal(t, uint64(110), s.RecordsProcessed)
		assert.Positive(t, s.DataBytesProcessed)
		assert.Zero(t, s.PrefetchedBytes)
		assert.Equal(t, uint64(2), s.TakenLeases)
		assert.Equal(t, 10*time.Minute, r.stats(0).HandlerTime)
		r.stop()
	})
}

func TestScenario64PrefetchStopsAtItsBound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(3), &sink{}
		for i := range 3 {
			src.put(i, 5000)
		}
		const bound = 1000
		r := start(t, src, slow(k, time.Second), consumer.Options{Store: newStore(), MaxBatchRecords: 10, PrefetchBytes: bound})
		most := int64(0)
		for range 500 {
			time.Sleep(time.Second)
			most = max(most, r.Stats().PrefetchedBytes)
		}
		batch := int64(10 * len("k"+name(0, 1000)))
		assert.LessOrEqual(t, most, bound+3*batch)
		assert.Greater(t, most, int64(bound/2))
		time.Sleep(10 * time.Second)
		settle()
		assert.Len(t, k.got(), 15_000)
		r.stop()
	})
}

func TestParkFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(2), newStore(), &sink{}
		src.put(0, 10)
		src.put(1, 10)
		src.readFault = func(req shardlog.ReadRequest) error {
			if req.ShardID == shardID(0) && req.From == shardlog.After(seq(0, 4)) {
				return &shardlog.CorruptError{Shard: req.ShardID, Next: shardlog.After(seq(0, 7))}
			}
			return nil
		}
		rec := &recorder{}
		r := start(t, src, k, consumer.Options{Store: st, MaxBatchRecords: 5, ParkFailed: true, OnEvent: rec.note})
		time.Sleep(time.Hour)
		settle()
		require.Len(t, rec.of(consumer.EventShardParked), 1)
		require.Len(t, r.Blocked(), 1)
		assert.Contains(t, r.Blocked()[0].Why, "corrupt block")
		assert.Equal(t, "w", st.row(t, 0).Owner, "it is kept, so that no other worker fails with it")
		src.put(1, 10)
		settle()
		assert.Len(t, k.got(), 25, "others continue")
		r.stop()
		assert.Empty(t, st.row(t, 0).Owner)
		assert.Equal(t, shardlog.After(seq(0, 4)), st.row(t, 0).Checkpoint)
	})
}

// txStore is a store in memory with transactions: what is written in one is
// there when it is committed, unless a row has changed.
type txStore struct {
	*store
	mu    sync.Mutex
	count map[string]int // the user's own rows
}

type memTx struct {
	s     *txStore
	lease *checkpoint.Lease
	count map[string]int
}

func (s *txStore) UpdateTx(ctx context.Context, tx *memTx, l checkpoint.Lease) (checkpoint.Lease, error) {
	row, err := s.Memory.Get(ctx, l.Key)
	if err == nil && row.Version != l.Version {
		err = shardlog.ErrConflict
	}
	kept := l
	tx.lease = &kept
	l.Version++
	return l, err
}

func (tx *memTx) commit() error {
	tx.s.mu.Lock()
	defer tx.s.mu.Unlock()
	if _, err := tx.s.Memory.Update(context.Background(), *tx.lease); err != nil {
		return err
	}
	for k, n := range tx.count {
		tx.s.count[k] += n
	}
	return nil
}

func TestScenario31CheckpointInTheUsersTransaction(t *testing.T) {
	type outcome int
	const (
		commit outcome = iota
		rollBack
		rollBackAndSayNil
		taken
	)
	for _, what := range []outcome{commit, rollBack, rollBackAndSayNil, taken} {
		t.Run(fmt.Sprint(what), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				src := newSource(1)
				st := &txStore{store: newStore(), count: map[string]int{}}
				src.put(0, 20)
				calls := 0
				var commitErr error
				r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
					calls++
					tx := &memTx{s: st, count: map[string]int{}}
					for _, rec := range b.Records {
						tx.count[string(rec.Data)]++
					}
					last := shardlog.After(b.Records[len(b.Records)-1].Sequence)
					if err := consumer.CheckpointIn(ctx, b, tx, last); err != nil {
						return err
					}
					assert.ErrorIs(t, consumer.CheckpointIn(ctx, b, tx, last), shardlog.ErrConflict, "once")
					if calls == 1 {
						switch what {
						case rollBack:
							return errBroken
						case rollBackAndSayNil:
							return nil
						case taken:
							st.take(t, 0, "other")
							commitErr = tx.commit()
							return commitErr
						}
					}
					return tx.commit()
				}), consumer.Options{Store: st, MaxBatchRecords: 10})
				time.Sleep(time.Minute)
				settle()
				if what == taken {
					require.ErrorIs(t, commitErr, shardlog.ErrConflict, "the user's rows are not there")
					assert.Equal(t, uint64(1), r.Stats().LostLeases)
				}
				assert.Len(t, st.count, 20)
				for k, n := range st.count {
					assert.Equal(t, 1, n, k)
				}
				if what == commit {
					assert.Equal(t, 2, calls)
				} else {
					assert.Equal(t, 3, calls, "delivered again")
				}
				assert.Equal(t, shardlog.After(seq(0, 19)), st.row(t, 0).Checkpoint)
				assert.Equal(t, uint64(20), r.stats(0).Delivered)
				r.stop()
			})
		})
	}
}

// A commit whose answer was lost may still be on its way when the batch comes
// again: it counts, and what comes after it does not.
func TestScenario31TransactionsThatAreCommittedLate(t *testing.T) {
	for name, atCheckpoint := range map[string]bool{"before the next checkpoint": true, "before the next commit": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				src := newSource(1)
				st := &txStore{store: newStore(), count: map[string]int{}}
				src.put(0, 20)
				var late *memTx
				r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
					arrive := func() {
						if late != nil && late.s != nil {
							assert.NoError(t, late.commit())
							late.s = nil
						}
					}
					tx := &memTx{s: st, count: map[string]int{}}
					for _, rec := range b.Records {
						tx.count[string(rec.Data)]++
					}
					if atCheckpoint {
						arrive()
					}
					if err := consumer.CheckpointIn(ctx, b, tx, shardlog.After(b.Records[len(b.Records)-1].Sequence)); err != nil {
						assert.ErrorIs(t, err, shardlog.ErrConflict)
						return err
					}
					arrive()
					if late == nil {
						late = tx
						return errBroken
					}
					return tx.commit()
				}), consumer.Options{Store: st, MaxBatchRecords: 10})
				time.Sleep(time.Minute)
				settle()
				assert.Len(t, st.count, 20)
				for k, n := range st.count {
					assert.Equal(t, 1, n, k)
				}
				assert.Equal(t, shardlog.After(seq(0, 19)), st.row(t, 0).Checkpoint)
				assert.Equal(t, uint64(20), r.stats(0).Delivered)
				r.stop()
			})
		})
	}
}

func TestCheckpointInNeedsATransactionalStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := newSource(1)
		src.put(0, 1)
		var err error
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			err = consumer.CheckpointIn(ctx, b, 7, shardlog.After(seq(0, 0)))
			return nil
		}), consumer.Options{Store: newStore()})
		settle()
		require.ErrorIs(t, err, shardlog.ErrUnsupported)
		r.stop()
	})
}
