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

// Scenario 27: somebody else writes the row without taking it, as a worker
// does that asks for a hand-off. Here that worker does not exist, so its request
// is removed.
func TestScenario27ForeignWriteOfTheRowIsKept(t *testing.T) {
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
		assert.Empty(t, l.Next)
		assert.Equal(t, uint64(7), l.Beat)
		assert.Equal(t, shardlog.After(seq(0, 0)), l.Checkpoint)
		r.stop()
	})
}

// Scenarios 22 and 25: the store is down, or throttles, for a while.
func TestScenario22StoreDownForAWhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(2), newStore(), &sink{}
		r := start(t, src, k, consumer.Options{Store: st, MaxBatchRecords: 1})
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
func TestScenario24StoreDownAtStart(t *testing.T) {
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
		settle()
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
				r := start(t, src, k, consumer.Options{Store: st, MaxBatchRecords: 3})
				time.Sleep(time.Minute)
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
			r := start(t, src, k, consumer.Options{Store: st, MaxBatchRecords: 3})
			settle()
			if reached {
				<-crash
				r.kill()
				st.onUpdate(nil)
				r = start(t, src, k, consumer.Options{Store: st, MaxBatchRecords: 3})
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
