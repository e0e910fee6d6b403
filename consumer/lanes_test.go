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
	"github.com/shardlog/shardlog/consumer"
)

// putKeys appends n records, of keys in turn.
func (s *source) putKeys(i, n, keys int) {
	for k := range n {
		s.putKey(i, fmt.Sprintf("key-%d", k%keys))
	}
}

// laneSink notes the records of each key, and what ran at the same time.
type laneSink struct {
	mu      sync.Mutex
	keys    map[string][]string
	running int
	most    int
	largest int
	fails   string // the key that fails
	pause   time.Duration
}

func (k *laneSink) Handle(ctx context.Context, b *consumer.Batch) error {
	k.mu.Lock()
	k.running++
	k.most, k.largest = max(k.most, k.running), max(k.largest, len(b.Records))
	k.mu.Unlock()
	time.Sleep(k.pause)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running--
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for i, r := range b.Records {
		if r.PartitionKey == k.fails {
			return &consumer.PartialError{Index: i, Err: errBroken}
		}
		k.keys[r.PartitionKey] = append(k.keys[r.PartitionKey], string(r.Data))
	}
	return nil
}

func (k *laneSink) total() (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, names := range k.keys {
		n += len(names)
	}
	return n
}

func TestLanesRunSideBySideWithOrderPerKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &laneSink{keys: map[string][]string{}, pause: time.Second}
		src.putKeys(0, 400, 40)
		r := start(t, src, k, consumer.Options{Store: st, Lanes: 4, MaxBatchRecords: 50})
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, 400, k.total())
		assert.Equal(t, 4, k.most)
		assert.Greater(t, k.largest, 5, "a batch has several keys")
		assert.LessOrEqual(t, k.largest, 50)
		for key, names := range k.keys {
			var first int
			_, err := fmt.Sscanf(key, "key-%d", &first)
			require.NoError(t, err)
			for i, got := range names {
				require.Equal(t, name(0, first+40*i), got)
			}
		}
		assert.Equal(t, shardlog.After(seq(0, 399)), st.row(t, 0).Checkpoint)
		src.split(0)
		time.Sleep(time.Second)
		settle()
		assert.True(t, st.row(t, 0).Ended)
		r.stop()
	})
}

// The lane that fails stands; the others continue until the bound. A worker
// that was killed loses nothing.
func TestLaneThatFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &laneSink{keys: map[string][]string{}, fails: "key-0"}
		src.putKeys(0, 1000, 40)
		r := start(t, src, k, consumer.Options{Store: st, Lanes: 4, MaxBatchRecords: 25})
		time.Sleep(time.Minute)
		settle()
		got := k.total()
		assert.Greater(t, got, 50)
		assert.LessOrEqual(t, got, 100, "four batches above the first record")
		assert.Empty(t, k.keys["key-0"])
		assert.Contains(t, r.stats(0).Blocked, "handler, key \"lane ")
		assert.Equal(t, shardlog.TrimHorizon(), st.row(t, 0).Checkpoint)
		r.kill()
		k.fails = ""
		r = start(t, src, k, consumer.Options{Store: st, Lanes: 4, MaxBatchRecords: 25})
		time.Sleep(time.Minute)
		settle()
		seen := map[string]bool{}
		for _, names := range k.keys {
			for _, n := range names {
				seen[n] = true
			}
		}
		assert.Len(t, seen, 1000)
		r.stop()
	})
}

// Dead letters and halves are of the lane alone.
func TestLaneWithPoison(t *testing.T) {
	for _, bisect := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			src, st, k, l := newSource(1), newStore(), &sink{}, &letters{}
			src.putKeys(0, 200, 40)
			r := start(t, src, refusing(k, name(0, 77)), consumer.Options{Store: st, Lanes: 4, MaxBatchRecords: 50, MaxAttempts: 2, DeadLetter: l.put, Bisect: bisect})
			time.Sleep(time.Minute)
			settle()
			assert.Contains(t, l.names(), name(0, 77))
			assert.Len(t, k.got(), 200-len(l.names()))
			assert.LessOrEqual(t, len(l.names()), 50)
			if bisect {
				assert.Len(t, l.names(), 1)
			}
			assert.Equal(t, shardlog.After(seq(0, 199)), st.row(t, 0).Checkpoint)
			r.stop()
		})
	}
}

// The bytes of a batch are bounded, and with them those of a lane.
func TestLanesBoundTheBytesOfABatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &laneSink{keys: map[string][]string{}, pause: time.Second}
		src.putKeys(0, 100, 1)
		rec := shardlog.Record{PartitionKey: "key-0", Data: []byte(name(0, 50))}
		r := start(t, src, k, consumer.Options{Store: st, Lanes: 2, MaxBatchRecords: 100, MaxBatchBytes: 10 * rec.Size()})
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, 100, k.total())
		assert.Less(t, k.largest, 15)
		r.stop()
	})
}

// After is right where a batch ends inside an aggregated record, which the
// handler cannot see.
func TestAfterInsideAnAggregate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.putData(0, aggregate("a", same(7, "k")...))
		src.put(0, 3)
		var want []string
		h := consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			for i := range b.Records {
				assert.NoError(t, b.Checkpoint(ctx, b.After(i)))
				want = append(want, fmt.Sprint(b.After(i)))
			}
			return nil
		})
		r := start(t, src, h, consumer.Options{Store: st, MaxBatchRecords: 3, CheckpointEvery: time.Hour})
		settle()
		var expected []string
		for i := range 6 {
			expected = append(expected, fmt.Sprint(shardlog.AfterSub(seq(0, 0), uint32(i))))
		}
		for i := range 4 {
			expected = append(expected, fmt.Sprint(shardlog.After(seq(0, i))))
		}
		assert.Equal(t, expected, want)
		r.stop()
		b := consumer.Batch{Records: []shardlog.Record{{Sequence: seq(0, 1)}}}
		assert.Equal(t, shardlog.After(seq(0, 1)), b.After(0), "also one that a test made")
		assert.Nil(t, b.Leaving())
	})
}

// A division is of the batch, not of all that waits in its lane: otherwise the
// same batch is tried again as often as the lane can be halved.
func TestLanesDivideTheBatchThatFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, l, k := newSource(1), &letters{}, &sink{}
		src.putKeys(0, 64, 1)
		rec := shardlog.Record{PartitionKey: "key-0", Data: []byte(name(0, 50))}
		failed := map[string]int{}
		h := consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			for _, r := range b.Records {
				if string(r.Data) == name(0, 2) {
					failed[fmt.Sprint(len(b.Records))]++
					return errBroken
				}
			}
			return k.Handle(ctx, b)
		})
		r := start(t, src, h, consumer.Options{
			Store: newStore(), Lanes: 2, MaxBatchRecords: 64, MaxBatchBytes: 4*rec.Size() + 3, Bisect: true, MaxAttempts: 1, DeadLetter: l.put,
		})
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, []string{name(0, 2)}, l.names())
		assert.Len(t, k.got(), 63)
		for size, n := range failed {
			assert.LessOrEqual(t, n, 2, "a batch of %s", size) // it grows again between
		}
		r.stop()
	})
}

// The error of one lane ends the shard, although another waits for dead letters
// that fail.
func TestErrorOfALaneIsNotHeldUpByAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := newSource(1)
		src.putKeys(0, 40, 40)
		refuse := make(chan struct{})
		first := true
		var mu sync.Mutex
		r := start(t, src, consumer.HandlerFunc(func(context.Context, *consumer.Batch) error { return errBroken }), consumer.Options{
			Store: newStore(), Lanes: 4, MaxAttempts: 1,
			DeadLetter: func(context.Context, consumer.DeadLetter) error {
				mu.Lock()
				mine := first
				first = false
				mu.Unlock()
				if mine {
					<-refuse
					return shardlog.ErrInvalid
				}
				return errBroken
			},
		})
		time.Sleep(time.Minute)
		close(refuse)
		require.ErrorIs(t, r.result(), shardlog.ErrInvalid)
	})
}
