package consumer_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/internal/kpl"
)

// Workers of one group may have different options, as while a new version is
// rolled out. What one of them left half done is done by the other, at worst
// twice.

// mixed is a shard with a plain record, an aggregate of five, and another one.
func mixed() (src *source, packed string) {
	src = newSource(1)
	data := aggregate("a", same(5, "k")...)
	src.putData(0, []byte("before"), data, []byte("behind"))
	return src, string(data)
}

// A worker that keeps aggregates cannot begin inside of one, so the whole of it
// comes again, unless all of it is done.
func TestPositionInsideAnAggregateThatIsKept(t *testing.T) {
	inside := shardlog.AfterSub(seq(0, 1), 2)
	for name, o := range map[string]consumer.Options{
		"":                {},
		"one at a time":   {MaxBatchRecords: 1},
		"per key":         {PerKey: 3},
		"lanes":           {Lanes: 3},
		"batch window":    {BatchWindow: time.Second},
		"own throughput":  {FanOut: true},
		"explicit":        {ExplicitCheckpoints: true},
		"empty batches":   {EmptyBatches: true},
		"every minute":    {CheckpointEvery: time.Minute},
		"with a filter":   {Filter: func(*shardlog.Record) bool { return true }},
		"start elsewhere": {Start: shardlog.Latest()},
	} {
		t.Run(name, func(t *testing.T) {
			for at, want := range map[shardlog.Position]int{
				inside: 1, shardlog.AfterSub(seq(0, 1), 4): 1, shardlog.At(seq(0, 1)): 1, shardlog.After(seq(0, 1)): 2,
				shardlog.AfterSub(seq(0, 0), 0): 1, // of a plain record nothing is left
			} {
				bubble(t, func(t *testing.T) {
					src, packed := mixed()
					st, k := newStore(), &sink{}
					_, err := st.Memory.Create(context.Background(), checkpoint.Lease{Key: rowKey(0), Checkpoint: at})
					require.NoError(t, err)
					o.KeepAggregates, o.Store = true, st
					var from shardlog.Source = src
					if o.FanOut {
						from = dedicated{src}
					}
					r := start(t, from, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
						if len(b.Records) == 0 {
							return nil
						}
						if o.ExplicitCheckpoints {
							require.NoError(t, b.Checkpoint(ctx, b.After(len(b.Records)-1)))
						}
						return k.Handle(ctx, b)
					}), o)
					time.Sleep(2 * time.Second)
					settle()
					assert.ElementsMatch(t, []string{"before", packed, "behind"}[want:], k.got(), "from %v", at)
					r.stop()
					assert.Equal(t, shardlog.After(seq(0, 2)), st.row(t, 0).Checkpoint)
				})
			}
		})
	}
}

// A shard goes back and forth between workers that keep aggregates and others.
func TestHandOverBetweenWorkersThatKeepAggregatesAndOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, packed := mixed()
		st := newStore()
		// One record of the aggregate, then a failure until the end.
		take := func(n int, o consumer.Options) []string {
			k := &sink{}
			o.Store, o.MaxBatchRecords, o.MaxAttempts = st, 1, 0
			r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
				if len(k.got()) == n {
					return errBroken
				}
				return k.Handle(ctx, b)
			}), o)
			settle()
			r.stop()
			return k.got()
		}
		keep := consumer.Options{KeepAggregates: true}
		assert.Equal(t, []string{"before", "a/0"}, take(2, consumer.Options{}))
		assert.Equal(t, shardlog.AfterSub(seq(0, 1), 0), st.row(t, 0).Checkpoint)
		assert.Empty(t, take(0, keep), "it failed, and what is done stays done")
		assert.Equal(t, shardlog.AfterSub(seq(0, 1), 0), st.row(t, 0).Checkpoint)
		assert.Equal(t, []string{"a/1", "a/2"}, take(2, consumer.Options{}))
		assert.Equal(t, []string{packed}, take(1, keep))
		assert.Equal(t, shardlog.After(seq(0, 1)), st.row(t, 0).Checkpoint)
		assert.Equal(t, []string{"behind"}, take(9, consumer.Options{}))
	})
}

// A handler that takes aggregates apart itself may store where it is.
func TestKeptAggregateIsCheckpointedInside(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, packed := mixed()
		st, k := newStore(), &sink{}
		a := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			if string(b.Records[0].Data) != packed {
				return nil
			}
			require.NoError(t, b.Checkpoint(ctx, shardlog.AfterSub(b.Records[0].Sequence, 2)))
			<-ctx.Done()
			return context.Cause(ctx)
		}), consumer.Options{Store: st, KeepAggregates: true, MaxBatchRecords: 1})
		settle()
		a.kill()
		assert.Equal(t, shardlog.AfterSub(seq(0, 1), 2), st.row(t, 0).Checkpoint)
		a = start(t, src, k, consumer.Options{Store: st, KeepAggregates: true})
		settle()
		assert.Equal(t, []string{packed, "behind"}, k.got())
		a.stop()
	})
}

func TestSeekInsideAnAggregate(t *testing.T) {
	for _, keep := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			src, packed := mixed()
			st, k := newStore(), &sink{}
			r := start(t, src, k, consumer.Options{Store: st, KeepAggregates: keep})
			settle()
			before := len(k.got())
			require.NoError(t, r.Seek(context.Background(), shardID(0), shardlog.AfterSub(seq(0, 1), 3)))
			settle()
			want := []string{"a/4", "behind"}
			if keep {
				want = []string{packed, "behind"}
			}
			assert.Equal(t, want, k.got()[before:])
			r.stop()
		})
	}
}

// An aggregate whose copy is damaged now was de-aggregated before: it is delivered
// as it is, and what was not done is in it.
func TestPositionInsideADamagedAggregate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		data := aggregate("a", same(5, "k")...)
		data[len(data)-1] ^= 1
		src.putData(0, data, []byte("behind"))
		_, err := st.Memory.Create(context.Background(), checkpoint.Lease{Key: rowKey(0), Checkpoint: shardlog.AfterSub(seq(0, 0), 2)})
		require.NoError(t, err)
		r := start(t, src, k, consumer.Options{Store: st})
		settle()
		assert.Equal(t, []string{string(data), "behind"}, k.got())
		r.stop()
	})
}

// What a worker without WholeAggregates has begun, one with it completes, also in
// an aggregate that it would drop otherwise.
func TestPositionInsideAStraddlingAggregate(t *testing.T) {
	keys := make([]string, 20)
	for i := range keys {
		keys[i] = fmt.Sprint("key", i)
	}
	for at, want := range map[shardlog.Position]bool{
		{}: false, shardlog.At(seq(0, 0)): false, shardlog.After(seq(0, 0)): false, shardlog.AfterSub(seq(0, 0), 3): true,
	} {
		bubble(t, func(t *testing.T) {
			src := newSource(1)
			half := shardlog.NewHashKey(1<<63-1, ^uint64(0))
			src.shards[0].info.HashEnd = half
			src.putData(0, aggregate("a", keys...), aggregate("b", keys...), []byte("behind"))
			var rest []string
			for i, k := range keys {
				u := kpl.UserRecord{PartitionKey: k}
				if h := u.Hash(); want && i > 3 && h.Compare(half) <= 0 {
					rest = append(rest, fmt.Sprint("a/", i))
				}
			}
			st, k := newStore(), &sink{}
			_, err := st.Memory.Create(context.Background(), checkpoint.Lease{Key: rowKey(0), Checkpoint: at})
			require.NoError(t, err)
			r := start(t, src, k, consumer.Options{Store: st, WholeAggregates: true})
			settle()
			assert.Equal(t, append(rest, "behind"), k.got(), "from %v", at)
			r.stop()
		})
	}
}

// The intention of a worker that took aggregates apart comes to one that does not,
// with the whole aggregate.
func TestPreparedInsideAnAggregateThatIsKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, packed := mixed()
		st := newStore()
		to := shardlog.AfterSub(seq(0, 1), 3)
		_, err := st.Memory.Create(context.Background(), checkpoint.Lease{
			Key: rowKey(0), Checkpoint: shardlog.AfterSub(seq(0, 1), 1), Prepared: &to, PreparedState: []byte("x"),
		})
		require.NoError(t, err)
		var first *consumer.Batch
		r := start(t, src, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
			if first == nil {
				first = b
			}
			return nil
		}), consumer.Options{Store: st, KeepAggregates: true})
		settle()
		r.stop()
		require.NotNil(t, first.Prepared)
		assert.Equal(t, to, first.Prepared.Position)
		assert.Equal(t, packed, string(first.Records[0].Data))
	})
}

// A worker is taken for dead by its own LeaseTTL, not by that of another one,
// which may be shorter than the time between two of its heartbeats, or so long
// that its shards would wait.
func TestWorkersWithDifferentLeaseTTLs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, slow, quick := newSource(2), newStore(), &sink{}, &sink{}
		recA, recB := &recorder{}, &recorder{}
		a := start(t, src, slow, consumer.Options{Store: st, WorkerID: "a", LeaseTTL: time.Minute, OnEvent: recA.note})
		settle()
		b := start(t, src, quick, consumer.Options{Store: st, WorkerID: "b", LeaseTTL: time.Second, OnEvent: recB.note})
		time.Sleep(5 * time.Minute)
		settle()
		assert.Empty(t, recA.of(consumer.EventLeaseLost))
		assert.Empty(t, recB.of(consumer.EventLeaseLost))
		assert.Equal(t, map[string]int{"a": 1, "b": 1}, st.owners(t))
		b.kill()
		time.Sleep(4 * time.Second)
		settle()
		assert.Equal(t, map[string]int{"a": 2}, st.owners(t), "b said that it stops after a second")
		a.stop()
	})
}

// A group that has partly begun begins the rest as it began, whatever the worker
// that completes it would have chosen.
func TestGroupIsBegunByWorkersWithDifferentStarts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(2), newStore(), &sink{}
		src.put(0, 2)
		src.put(1, 2)
		ctx := context.Background()
		for _, l := range []checkpoint.Lease{{Key: groupKey}, {Key: rowKey(0)}} {
			_, err := st.Memory.Create(ctx, l)
			require.NoError(t, err)
		}
		r := start(t, src, k, consumer.Options{Store: st, Start: shardlog.Latest()})
		settle()
		r.stop()
		assert.ElementsMatch(t, append(names(0, 0, 2), names(1, 0, 2)...), k.got())
	})
}

// beaten is a store in which another worker makes the row of the group first.
type beaten struct{ *checkpoint.Memory }

func (s beaten) Create(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	if l.Key == groupKey {
		other := l
		other.Owner = "another"
		if _, err := s.Memory.Create(ctx, other); err != nil {
			return checkpoint.Lease{}, err
		}
	}
	return s.Memory.Create(ctx, l)
}

func TestAnotherWorkerBeginsTheGroupFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(1), &sink{}
		src.put(0, 2)
		r := start(t, src, k, consumer.Options{Store: beaten{checkpoint.NewMemory()}})
		settle()
		r.stop()
		assert.Equal(t, names(0, 0, 2), k.got())
	})
}
