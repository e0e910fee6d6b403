package consumer_test

import (
	"context"
	"errors"
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

// Scenario 4, in its first form: another worker takes the shard while the
// handler runs. The checkpoint is refused by the store.
func TestSecondConsumerFencesTheFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(2), newStore(), &sink{}
		src.put(0, 10)
		old := start(t, src, slow(k, 5*time.Second), consumer.Options{Store: st, WorkerID: "old"})
		time.Sleep(time.Second)
		assert.Equal(t, "old", st.row(t, 0).Owner)

		k2 := &sink{}
		next := start(t, src, k2, consumer.Options{Store: st, WorkerID: "new"})
		settle()
		src.put(0, 1)
		settle()
		want := st.row(t, 0)
		assert.Equal(t, "new", want.Owner)
		assert.Equal(t, uint64(2), want.Epoch)
		assert.Equal(t, shardlog.After(seq(0, 10)), want.Checkpoint)

		err := old.result()
		require.ErrorIs(t, err, consumer.ErrLeaseLost)
		var e *shardlog.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, shardID(0), e.Shard)
		assert.Equal(t, "orders", e.Stream)
		assert.Equal(t, want, st.row(t, 0), "the checkpoint did not go back and the owner is the same")
		assert.Equal(t, "new", st.row(t, 1).Owner, "the old one did not release what is not its own")
		assert.Equal(t, uint64(1), k.batches()[0].epoch)
		assert.Equal(t, uint64(2), k2.batches()[0].epoch)
		next.stop()
	})
}

// Scenario 5: a worker that was paused wakes up and checkpoints something
// lower with Batch.Checkpoint.
func TestZombieCheckpointIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 10)
		var refused error
		wake := make(chan struct{})
		old := start(t, src, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
			<-wake
			refused = b.Checkpoint(context.Background(), shardlog.After(seq(0, 2)))
			assert.ErrorIs(t, b.Checkpoint(context.Background(), shardlog.After(seq(0, 3))), consumer.ErrLeaseLost)
			return nil
		}), consumer.Options{Store: st})
		settle()
		next := start(t, src, &sink{}, consumer.Options{Store: st})
		settle()
		want := st.row(t, 0)
		close(wake)
		require.ErrorIs(t, old.result(), consumer.ErrLeaseLost)
		require.ErrorIs(t, refused, consumer.ErrLeaseLost)
		assert.Equal(t, want, st.row(t, 0))
		next.stop()
	})
}

// An idle worker writes nothing, but finds out all the same, and a handler
// that runs long is told.
func TestFencedWorkerNoticesByItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(2), newStore()
		src.put(0, 1)
		var cause error
		old := start(t, src, consumer.HandlerFunc(func(ctx context.Context, _ *consumer.Batch) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil
		}), consumer.Options{Store: st})
		settle()
		next := start(t, src, &sink{}, consumer.Options{Store: st})
		began := time.Now()
		require.ErrorIs(t, old.result(), consumer.ErrLeaseLost)
		require.ErrorIs(t, cause, consumer.ErrLeaseLost)
		assert.LessOrEqual(t, time.Since(began), 10*time.Second)
		next.stop()
	})
}

// Scenario 16: two workers with one name; the second fences the first.
func TestSameWorkerIDTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 10)
		old := start(t, src, slow(k, time.Second), consumer.Options{Store: st, WorkerID: "w"})
		settle()
		next := start(t, src, slow(k, time.Minute), consumer.Options{Store: st, WorkerID: "w"})
		require.ErrorIs(t, old.result(), consumer.ErrLeaseLost)
		assert.Equal(t, shardlog.TrimHorizon(), st.row(t, 0).Checkpoint)
		assert.Equal(t, "w", st.row(t, 0).Owner)
		next.stop()
		assert.Equal(t, shardlog.After(seq(0, 9)), st.row(t, 0).Checkpoint)
	})
}

// Two workers that start at the same moment must not end each other.
func TestConcurrentStartLeavesExactlyOne(t *testing.T) {
	for round := range 50 {
		bubble(t, func(t *testing.T) {
			src, st := newSource(8), newStore()
			st.onUpdate(func(checkpoint.Lease) (bool, error) {
				time.Sleep(time.Millisecond) // a way to the store on which others can overtake
				return false, nil
			})
			var all []*running
			for i := range 3 {
				all = append(all, start(t, src, &sink{}, consumer.Options{Store: st, WorkerID: fmt.Sprint(i)}))
				time.Sleep(time.Duration(round%10) * 300 * time.Microsecond)
			}
			time.Sleep(time.Minute)
			alive := 0
			for _, r := range all {
				select {
				case err := <-r.err:
					require.ErrorIs(t, err, consumer.ErrLeaseLost)
					r.cancel()
				default:
					alive++
					for i := range 8 {
						assert.Equal(t, r.Stats().WorkerID, st.row(t, i).Owner)
					}
					r.stop()
				}
			}
			assert.Equal(t, 1, alive)
		})
	}
}

// A worker that is overtaken while its shards are split must not end the one
// that has overtaken it by taking the children.
func TestReshardDuringTakeover(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 5)
		old := start(t, src, slow(&sink{}, time.Second), consumer.Options{Store: st})
		settle()
		next := start(t, src, k, consumer.Options{Store: st})
		settle()
		src.split(0)
		src.put(1, 5)
		src.put(2, 5)
		require.ErrorIs(t, old.result(), consumer.ErrLeaseLost)
		time.Sleep(time.Minute)
		assert.Len(t, k.got(), 15)
		next.stop()
	})
}

// A worker that has nothing left but the children of a shard that it has ended
// leaves them to a newer one that was faster.
func TestNewerWorkerTakesTheChildren(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 5)
		old := start(t, src, &sink{}, consumer.Options{Store: st})
		settle()
		src.failLists(func() error { return errBroken }) // it cannot see the children yet
		src.split(0)
		settle()
		require.True(t, st.row(t, 0).Ended)
		src.failLists(nil)
		next := start(t, src, k, consumer.Options{Store: st})
		require.ErrorIs(t, old.result(), consumer.ErrLeaseLost)
		src.put(1, 5)
		src.put(2, 5)
		settle()
		assert.Len(t, k.got(), 10)
		next.stop()
	})
}

// A shard that an overtaken worker took before it noticed is taken from it
// after a while.
func TestShardTakenByAnOvertakenWorker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		r := start(t, src, k, consumer.Options{Store: st})
		settle()
		src.add()
		src.put(1, 5)
		_, err := st.Create(context.Background(), checkpoint.Lease{Key: rowKey(1), Owner: "overtaken", Epoch: 1})
		require.NoError(t, err)
		time.Sleep(15 * time.Second)
		assert.Equal(t, "overtaken", st.row(t, 1).Owner)
		assert.Equal(t, "held by overtaken", r.stats(1).Blocked)
		time.Sleep(15 * time.Second)
		assert.Equal(t, names(1, 0, 5), k.got())
		assert.Empty(t, r.stats(1).Blocked)
		r.stop()
	})
}

func TestGroupsDoNotAffectEachOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, a, b := newSource(1), newStore(), &sink{}, &sink{}
		src.put(0, 5)
		ra := start(t, src, a, consumer.Options{Store: st, Group: "a"})
		rb := start(t, src, b, consumer.Options{Store: st, Group: "b"})
		settle()
		assert.Equal(t, names(0, 0, 5), a.got())
		assert.Equal(t, names(0, 0, 5), b.got())
		ra.stop()
		rb.stop()
	})
}

func TestDeletedRowIsALostLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		r := start(t, src, &sink{}, consumer.Options{Store: st})
		settle()
		require.NoError(t, st.Delete(context.Background(), st.row(t, 0)))
		src.put(0, 1)
		require.ErrorIs(t, r.result(), consumer.ErrLeaseLost)
	})
}

// Scenario 27, as far as it applies: somebody else writes the row without
// taking it, as a worker does that asks for a hand-off.
func TestForeignWriteOfTheRowIsKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		r := start(t, src, &sink{}, consumer.Options{Store: st})
		settle()
		l := st.row(t, 0)
		l.Next, l.Beat = "other", 7
		_, err := st.Memory.Update(context.Background(), l)
		require.NoError(t, err)
		src.put(0, 1)
		settle()
		l = st.row(t, 0)
		assert.Equal(t, "other", l.Next)
		assert.Equal(t, uint64(7), l.Beat)
		assert.Equal(t, shardlog.After(seq(0, 0)), l.Checkpoint)
		r.stop()
	})
}

// Scenarios 22 and 25: the store is down, or throttles, for a while.
func TestStoreDownForAWhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(2), newStore(), &sink{}
		r := start(t, src, k, consumer.Options{Store: st, BatchSize: 1})
		settle()
		until := time.Now().Add(time.Hour)
		fault := func() error {
			if time.Now().Before(until) {
				return fmt.Errorf("dial: %w", checkpoint.ErrUnavailable)
			}
			return nil
		}
		st.onUpdate(func(checkpoint.Lease) (bool, error) { return false, fault() })
		src.put(0, 3)
		settle()
		assert.Equal(t, names(0, 0, 1), k.got(), "no further than one batch")
		assert.Contains(t, r.stats(0).Blocked, "store, attempt 1: dial: ")
		time.Sleep(2 * time.Hour)
		settle()
		assert.Equal(t, names(0, 0, 3), k.got(), "nothing lost, nothing twice")
		assert.Empty(t, r.stats(0).Blocked)
		r.stop()
	})
}

// Scenario 24: the store is down at the start.
func TestStoreDownAtStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 3)
		until := time.Now().Add(time.Hour)
		st.fault = func() error {
			if time.Now().Before(until) {
				return checkpoint.ErrUnavailable
			}
			return nil
		}
		r := start(t, src, k, consumer.Options{Store: st})
		time.Sleep(2 * time.Hour)
		assert.Equal(t, names(0, 0, 3), k.got())
		r.stop()
	})
}

func TestStoreErrorThatCannotHeal(t *testing.T) {
	for _, target := range []error{shardlog.ErrClosed, shardlog.ErrCorrupt, shardlog.ErrVersion, shardlog.ErrStorage} {
		bubble(t, func(t *testing.T) {
			src, st := newSource(1), newStore()
			src.put(0, 1)
			st.fault = func() error { return target }
			r := start(t, src, &sink{}, consumer.Options{Store: st})
			require.ErrorIs(t, r.result(), target)
		})
		bubble(t, func(t *testing.T) {
			src, st := newSource(1), newStore()
			r := start(t, src, &sink{}, consumer.Options{Store: st})
			settle()
			st.onUpdate(func(checkpoint.Lease) (bool, error) { return false, target })
			src.put(0, 1)
			require.ErrorIs(t, r.result(), target)
		})
	}
}

// Every call of the store and the source fails once, each in a run of its own,
// with and without a lost reply; then a crash is put in the same places.
func TestEveryCallFailsOnce(t *testing.T) {
	for _, lostReply := range []bool{false, true} {
		for n := 1; ; n++ {
			reached := false
			bubble(t, func(t *testing.T) {
				src, st, k := newSource(2), newStore(), &sink{}
				src.put(0, 5)
				src.put(1, 5)
				src.add(0, 1)
				src.put(2, 5)
				calls := make(chan int, 1)
				calls <- 0
				fault := func() error {
					c := <-calls + 1
					calls <- c
					if c == n {
						reached = true
						return errors.New("network down")
					}
					return nil
				}
				st.fault = fault
				st.onUpdate(func(checkpoint.Lease) (bool, error) { return lostReply, fault() })
				src.failLists(fault)
				src.readFault = func(shardlog.ReadRequest) error { return fault() }
				r := start(t, src, k, consumer.Options{Store: st, BatchSize: 3})
				time.Sleep(5 * time.Minute)
				settle()
				assert.Len(t, k.got(), 15, "call %d", n)
				assert.Equal(t, names(2, 0, 5), k.got()[10:], "call %d", n)
				r.stop()
			})
			if !reached {
				assert.Greater(t, n, 20)
				break
			}
		}
	}
}

func TestCrashAtEveryUpdate(t *testing.T) {
	for n := 1; ; n++ {
		reached := false
		bubble(t, func(t *testing.T) {
			src, st, k := newSource(2), newStore(), &sink{}
			src.put(0, 5)
			src.put(1, 5)
			src.add(0, 1)
			src.put(2, 5)
			crash := make(chan struct{})
			var once sync.Once
			st.onUpdate(func(checkpoint.Lease) (bool, error) {
				if st.updateCount() >= n {
					once.Do(func() {
						reached = true
						close(crash)
					})
					return n%2 == 0, checkpoint.ErrUnavailable
				}
				return false, nil
			})
			r := start(t, src, k, consumer.Options{Store: st, BatchSize: 3})
			settle()
			if reached {
				<-crash
				r.kill()
				st.onUpdate(nil)
				r = start(t, src, k, consumer.Options{Store: st, BatchSize: 3})
				time.Sleep(time.Minute)
				settle()
			}
			got := k.got()
			assert.Subset(t, got, append(append(names(0, 0, 5), names(1, 0, 5)...), names(2, 0, 5)...), "update %d", n)
			assert.LessOrEqual(t, len(got), 15+2*3, "update %d: at most a batch of each shard comes again", n)
			st.onUpdate(nil) // a shutdown without a deadline would wait for the store
			r.stop()
			for i := range 2 {
				assert.True(t, st.row(t, i).Ended)
			}
		})
		if !reached {
			break
		}
	}
}
