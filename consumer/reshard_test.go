package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// Scenario 48: a split during consumption.
func TestScenario48SplitWhileConsuming(t *testing.T) {
	for _, from := range []shardlog.Position{shardlog.TrimHorizon(), shardlog.Latest(), shardlog.AtTime(time.Unix(0, 0))} {
		t.Run(from.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				src, st, k := newSource(1), newStore(), &sink{}
				r := start(t, src, slow(k, time.Minute), consumer.Options{Store: st, MaxBatchRecords: 5, Start: from})
				settle()
				src.put(0, 10)
				src.split(0)
				src.put(1, 5)
				src.put(2, 5)
				time.Sleep(90 * time.Second)
				settle()
				assert.Equal(t, "parent "+shardID(0), r.stats(1).Blocked)
				assert.Equal(t, names(0, 0, 5), k.got(), "children wait")
				time.Sleep(time.Hour)
				got := k.got()
				assert.Equal(t, names(0, 0, 10), got[:10])
				assert.Equal(t, names(1, 0, 5), only(got, "1/"), "children are read from their beginning")
				assert.Equal(t, names(2, 0, 5), only(got, "2/"))
				l := st.row(t, 0)
				assert.True(t, l.Ended)
				assert.Empty(t, l.Owner)
				assert.Equal(t, []string{shardID(1), shardID(2)}, l.Children)
				assert.Equal(t, []string{shardID(0)}, st.row(t, 1).Parents)
				assert.Equal(t, shardlog.MaxHashKey, st.row(t, 1).HashEnd)
				assert.True(t, r.stats(0).Ended)
				r.stop()
			})
		})
	}
}

func TestChildrenStartAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(1), &sink{}
		src.put(0, 5)
		r := start(t, src, k, consumer.Options{Store: newStore()})
		settle()
		src.split(0)
		src.put(1, 5)
		src.split(1)
		src.put(3, 5)
		settle() // no time passes
		assert.Equal(t, slices.Concat(names(0, 0, 5), names(1, 0, 5), names(3, 0, 5)), k.got())
		r.stop()
	})
}

// Scenario 49: a merge, of which one parent lags.
func TestScenario49MergeWaitsForBothParents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(2), newStore(), &sink{}
		src.put(0, 5)
		src.put(1, 5)
		src.add(0, 1)
		src.put(2, 5)
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			if b.ShardID == shardID(1) {
				return slow(k, time.Hour).Handle(ctx, b)
			}
			return k.Handle(ctx, b)
		}), consumer.Options{Store: st})
		time.Sleep(59 * time.Minute)
		settle()
		assert.Equal(t, names(0, 0, 5), k.got())
		assert.Equal(t, "parent "+shardID(1), r.stats(2).Blocked)
		time.Sleep(2 * time.Minute)
		settle()
		assert.Equal(t, slices.Concat(names(0, 0, 5), names(1, 0, 5), names(2, 0, 5)), k.got())
		r.stop()
	})
}

// Scenario 50: the parent is gone, or never had a row.
func TestScenario50MissingParentDoesNotBlock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(1), &sink{}
		src.split(0)
		src.put(1, 5)
		src.remove(0)
		r := start(t, src, k, consumer.Options{Store: newStore()})
		settle()
		assert.Equal(t, names(1, 0, 5), k.got())
		r.stop()
	})
}

// A parent with a row expired while nobody worked: told, but no obstacle.
func TestParentThatExpiredUnfinished(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 5)
		r := start(t, src, k, consumer.Options{Store: st})
		settle()
		r.stop()
		src.put(0, 5)
		src.split(0)
		src.put(1, 5)
		src.remove(0)
		var gone []consumer.Event
		r = start(t, src, k, consumer.Options{Store: st, OnEvent: func(e consumer.Event) {
			if e.Kind == consumer.EventShardGone {
				gone = append(gone, e)
			}
		}})
		time.Sleep(time.Hour)
		settle()
		assert.Equal(t, append(names(0, 0, 5), names(1, 0, 5)...), k.got())
		require.Len(t, gone, 1, "told once")
		assert.Equal(t, shardID(0), gone[0].ShardID)
		assert.Equal(t, shardlog.After(seq(0, 4)), gone[0].Position)
		_, err := st.Get(context.Background(), rowKey(0))
		require.ErrorIs(t, err, shardlog.ErrNotFound, "its child has a row, so nobody needs it")
		r.stop()
	})
}

// Scenario 51: an empty closed shard ends.
func TestScenario51EmptyClosedShardEnds(t *testing.T) {
	for _, from := range []shardlog.Position{shardlog.TrimHorizon(), shardlog.Latest(), shardlog.AtTime(time.Unix(1<<35, 0))} {
		bubble(t, func(t *testing.T) {
			src, st, k := newSource(1), newStore(), &sink{}
			src.split(0)
			src.split(1)
			r := start(t, src, k, consumer.Options{Store: st, Start: from})
			settle()
			for _, i := range []int{0, 1} {
				assert.True(t, st.row(t, i).Ended)
			}
			assert.Empty(t, k.batches())
			assert.Empty(t, r.stats(3).Blocked)
			r.stop()
		})
	}
}

// Scenario 52: the last record is checkpointed, then the shard ends.
func TestScenario52EndAfterTheLastCheckpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 5)
		r := start(t, src, k, consumer.Options{Store: st})
		settle()
		require.Equal(t, shardlog.After(seq(0, 4)), st.row(t, 0).Checkpoint)
		r.stop()
		src.split(0)
		r = start(t, src, k, consumer.Options{Store: st})
		settle()
		assert.True(t, st.row(t, 0).Ended)
		assert.NotEmpty(t, st.row(t, 1).Owner)
		assert.Len(t, k.got(), 5)
		r.stop()
	})
}

// Scenario 53: a crash between the end of the parent and the children's rows.
func TestScenario53CrashBeforeChildrenHaveRows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 5)
		r := start(t, src, k, consumer.Options{Store: st, Start: shardlog.Latest()})
		settle()
		src.failLists(func() error { return errors.New("network down") })
		src.put(0, 5)
		src.split(0)
		src.put(1, 5)
		settle()
		require.True(t, st.row(t, 0).Ended)
		_, err := st.Get(context.Background(), rowKey(1))
		require.ErrorIs(t, err, shardlog.ErrNotFound)
		r.kill()
		src.failLists(nil)
		r = start(t, src, k, consumer.Options{Store: st, Start: shardlog.Latest()})
		settle()
		assert.Equal(t, append(names(0, 5, 10), names(1, 0, 5)...), k.got())
		r.stop()
	})
}

// Scenario 54: a split of a split before the consumer starts.
func TestScenario54LineageIsReadFromTheOldest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		for i := range 4 { // 0 -> 1, 2 -> ...; each first child is split again
			src.put(2*max(i, 0)-min(i, 1), 5)
			src.split(2*i - min(i, 1))
		}
		src.put(7, 5)
		r := start(t, src, k, consumer.Options{Store: st, MaxBatchRecords: 2})
		settle()
		assert.Equal(t, slices.Concat(names(0, 0, 5), names(1, 0, 5), names(3, 0, 5), names(5, 0, 5), names(7, 0, 5)), k.got())
		r.stop()
	})
}

// A group that begins at the tip skips everything that is there, in closed
// shards and in their children.
func TestLatestOnAReshardedStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 5)
		src.split(0)
		src.put(1, 5)
		src.split(1)
		src.put(3, 5)
		src.split(2)
		src.remove(2) // 5 and 6 have no ancestor in the list
		src.put(5, 5)
		var reads atomic.Int32
		src.readFault = func(shardlog.ReadRequest) error {
			if reads.Add(1) == 3 {
				return errors.New("network down")
			}
			return nil
		}
		r := start(t, src, k, consumer.Options{Store: st, Start: shardlog.Latest()})
		time.Sleep(time.Second)
		settle()
		assert.Empty(t, k.got())
		for _, i := range []int{3, 4, 5, 6} {
			src.put(i, 1)
		}
		settle()
		assert.ElementsMatch(t, []string{"3/5", "4/0", "5/5", "6/0"}, k.got())
		r.stop()
	})
}

// Two generations passed while the group was away, and the one in between has
// expired: the grandchildren are read from their beginning, not from the tip.
func TestOrphansOfAnOldGroup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		r := start(t, src, k, consumer.Options{Store: st, Start: shardlog.Latest()})
		settle()
		r.stop()
		src.split(0)
		src.split(1)
		src.remove(0)
		src.remove(1)
		src.put(3, 5)
		r = start(t, src, k, consumer.Options{Store: st, Start: shardlog.Latest()})
		settle()
		assert.Equal(t, names(3, 0, 5), k.got())
		r.stop()
	})
}

// Retention that eats the beginning of a child is not silent when the group
// has read its parent.
func TestTrimmedChildIsNoticed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 5)
		r := start(t, src, &sink{}, consumer.Options{Store: st})
		settle()
		r.stop()
		src.split(0)
		src.put(1, 10)
		src.trim(1, 4)
		r = start(t, src, &sink{}, consumer.Options{Store: st})
		err := r.result()
		require.ErrorIs(t, err, shardlog.ErrExpired)
		assert.ErrorContains(t, err, shardID(1))
	})
	// A new group has no claim to what was there before it.
	bubble(t, func(t *testing.T) {
		src, k := newSource(1), &sink{}
		src.split(0)
		src.put(1, 10)
		src.trim(1, 4)
		r := start(t, src, k, consumer.Options{Store: newStore()})
		settle()
		assert.Equal(t, names(1, 4, 10), k.got())
		r.stop()
	})
}

// A start in the future holds for the children too.
func TestStartTimeHoldsOverASplit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(1), &sink{}
		src.put(0, 5)
		r := start(t, src, k, consumer.Options{Store: newStore(), Start: shardlog.AtTime(time.Now().Add(time.Hour))})
		settle()
		src.split(0)
		src.put(1, 5)
		settle()
		assert.Empty(t, k.got())
		time.Sleep(time.Hour)
		src.put(1, 5)
		src.put(2, 1)
		settle()
		assert.ElementsMatch(t, append(names(1, 5, 10), "2/0"), k.got())
		r.stop()
	})
}

// Shards without parents that appear later are found too.
func TestNewShardsAreDiscovered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(1), &sink{}
		r := start(t, src, k, consumer.Options{Store: newStore(), DiscoverEvery: time.Minute})
		settle()
		src.add()
		src.put(1, 5)
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, names(1, 0, 5), k.got())
		r.stop()
	})
}

// Scenario 63: the stream was deleted and created again with the same name.
func TestScenario63StreamMadeAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		_, err := st.Create(context.Background(), checkpoint.Lease{
			Key: rowKey(0), Checkpoint: shardlog.After(shardlog.NewSequenceNumber(created(0)-1000, 0, 77, created(0))),
		})
		require.NoError(t, err)
		src.put(0, 5)
		k := &sink{}
		r := start(t, src, k, consumer.Options{Store: st})
		err = r.result()
		require.ErrorIs(t, err, shardlog.ErrConflict)
		assert.ErrorContains(t, err, "deleted and created again")
		assert.Empty(t, k.got())
	})
}

// Scenario 57, over a source in memory: reshardings, failures, restarts and
// takeovers at random. Everything arrives, and in order.
func TestScenario57ReshardingUnderLoad(t *testing.T) {
	for seed := range uint64(10) {
		bubble(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			src, st, k := newSource(2), newStore(), &sink{}
			src.readFault = func(shardlog.ReadRequest) error {
				if rand.IntN(20) == 0 {
					return errors.New("network down")
				}
				return nil
			}
			st.onUpdate(func(checkpoint.Lease) (bool, error) {
				if n := rand.IntN(20); n < 2 {
					return n == 0, checkpoint.ErrUnavailable
				}
				return false, nil
			})
			h := consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
				time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond)
				if ctx.Err() != nil || rand.IntN(10) == 0 {
					return errBroken
				}
				return k.Handle(ctx, b)
			})
			started := 0
			open := func() *running {
				started++
				return start(t, src, h, consumer.Options{Store: st, MaxBatchRecords: 7, WorkerID: fmt.Sprint("w", started)})
			}
			workers := []*running{open()}
			live := []int{0, 1}
			total := 0
			for range 100 {
				for _, i := range live {
					n := rnd.IntN(10)
					src.put(i, n)
					total += n
				}
				time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
				switch at := rnd.IntN(len(live)); rnd.IntN(6) {
				case 0, 1:
					a, b := src.split(live[at])
					live = append(slices.Delete(live, at, at+1), a, b)
				case 2, 3:
					if len(live) > 1 {
						other := (at + 1) % len(live)
						c := src.add(live[at], live[other])
						a, b := live[at], live[other]
						live = append(slices.DeleteFunc(live, func(i int) bool { return i == a || i == b }), c)
					}
				case 4:
					if len(workers) < 3 {
						workers = append(workers, open())
						break
					}
					workers[0].stop()
					workers = workers[1:]
				case 5:
					settle()
					workers[0].kill()
					workers[0] = open()
				}
			}
			time.Sleep(5 * time.Minute)
			settle()
			checkDelivered(t, src, k.got(), total)
			for _, r := range workers {
				r.stop()
			}
		})
	}
}

// checkDelivered checks that everything was delivered, each record for the
// first time after all that come before it in its shard and in its parents.
func checkDelivered(t *testing.T, src *source, got []string, total int) {
	t.Helper()
	first := map[string]int{}
	for at, n := range got {
		if _, ok := first[n]; !ok {
			first[n] = at
		}
	}
	assert.Len(t, first, total)
	for i, sh := range src.shards {
		last := -1
		for _, p := range sh.info.Parents {
			var parent int
			_, err := fmt.Sscanf(strings.TrimPrefix(p, "shardId-"), "%d", &parent)
			require.NoError(t, err)
			if n := len(src.shards[parent].records); n > 0 {
				last = max(last, first[name(parent, n-1)])
			}
		}
		for n := range sh.records {
			at := first[name(i, n)]
			if at < last {
				t.Fatalf("%s came before what precedes it", name(i, n))
			}
			last = at
		}
	}
}

func TestScenario55BothOwnersCreateTheChild(t *testing.T) {
	for range 20 {
		bubble(t, func(t *testing.T) {
			src, st, k := newSource(2), newStore(), &sink{}
			rec := &recorder{}
			var all []*running
			for _, id := range []string{"a", "b"} {
				all = append(all, start(t, src, k, consumer.Options{Store: st, WorkerID: id, OnEvent: rec.note}))
				time.Sleep(5 * time.Second)
			}
			require.Equal(t, map[string]int{"a": 1, "b": 1}, st.owners(t))
			src.put(0, 5)
			src.put(1, 5)
			src.add(0, 1) // both come to their end at this moment
			src.put(2, 5)
			time.Sleep(15 * time.Second)
			settle()
			assert.Equal(t, names(2, 0, 5), k.got()[10:], "one row, and one owner")
			assert.Equal(t, uint64(1), st.row(t, 2).Epoch)
			assert.Equal(t, []string{shardID(0), shardID(1)}, st.row(t, 2).Parents)
			for _, r := range all {
				r.stop()
			}
		})
	}
}

func TestScenario56CleanUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		other := checkpoint.Lease{Key: checkpoint.Key{Group: "default", Stream: "another", Shard: shardID(0)}, Ended: true}
		_, err := st.Create(context.Background(), other)
		require.NoError(t, err)
		src.put(0, 5)
		r := start(t, src, k, consumer.Options{Store: st})
		settle()
		src.split(0) // and both children stay quiet for ever
		time.Sleep(time.Hour)
		settle()
		assert.True(t, st.row(t, 0).Ended, "it is kept as long as the shard is there")
		src.remove(0)
		time.Sleep(5 * time.Second)
		_, err = st.Get(context.Background(), rowKey(0))
		require.NoError(t, err, "not at once: the list may have been wrong")
		time.Sleep(time.Minute)
		_, err = st.Get(context.Background(), rowKey(0))
		require.ErrorIs(t, err, shardlog.ErrNotFound)
		_, err = st.Get(context.Background(), other.Key)
		require.NoError(t, err, "a row of another stream is untouched")
		src.put(1, 1)
		settle()
		assert.Equal(t, append(names(0, 0, 5), name(1, 0)), k.got())
		r.stop()
	})
	// A child without a row keeps its parent's.
	bubble(t, func(t *testing.T) {
		src, st := newSource(2), newStore()
		src.put(1, 1)
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}), consumer.Options{Store: st})
		settle()
		src.add(0, 1) // waits for both
		settle()
		require.True(t, st.row(t, 0).Ended)
		src.remove(0)
		time.Sleep(time.Hour)
		settle()
		assert.True(t, st.row(t, 0).Ended)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.Error(t, r.Shutdown(ctx))
		require.NoError(t, r.result())
	})
}
