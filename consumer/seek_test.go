package consumer_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// gate is a handler whose first call waits until it is opened, whatever becomes
// of its context.
type gate struct {
	sink
	first chan struct{}
}

func newGate() *gate { return &gate{first: make(chan struct{})} }

func (g *gate) Handle(ctx context.Context, b *consumer.Batch) error {
	<-g.first
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return g.sink.Handle(ctx, b)
}

// A Seek that ended with its context, while the handler was busy, was carried
// out when the handler returned.
func TestSeekWhoseContextEndedIsNotCarriedOut(t *testing.T) {
	for _, perKey := range []int{1, 4} {
		bubble(t, func(t *testing.T) {
			src, st, g := newSource(1), newStore(), newGate()
			src.put(0, 10)
			r := start(t, src, g, consumer.Options{Store: st, MaxBatchRecords: 2, PerKey: perKey})
			settle()
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			err := r.Seek(ctx, shardID(0), shardlog.After(seq(0, 8)))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotErrorIs(t, err, shardlog.ErrUnknownOutcome)
			close(g.first)
			settle()
			assert.Equal(t, names(0, 0, 10), g.got())
			r.stop()
			assert.Equal(t, shardlog.After(seq(0, 9)), st.row(t, 0).Checkpoint)
		})
	}
}

// The shard was lost while a Seek waited, and came back to the same worker,
// which carried the Seek out: of 10 records only the last was delivered.
func TestSeekWhoseShardWasLostIsNotCarriedOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, g := newSource(1), newStore(), newGate()
		src.put(0, 10)
		r := start(t, src, g, consumer.Options{Store: st, MaxBatchRecords: 2})
		settle()
		sought := make(chan error, 1)
		go func() { sought <- r.Seek(context.Background(), shardID(0), shardlog.After(seq(0, 8))) }()
		settle()
		st.take(t, 0, "other") // which is dead immediately, so the shard comes back
		err := <-sought
		require.ErrorIs(t, err, consumer.ErrLeaseLost)
		require.NotErrorIs(t, err, shardlog.ErrUnknownOutcome)
		assert.Regexp(t, `^shardlog: seek: [^:]*: [^:]*: lease lost: held by other since epoch 2$`, err.Error())
		settle() // the handler knows as well
		close(g.first)
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, names(0, 0, 10), g.got())
		assert.Equal(t, shardlog.After(seq(0, 9)), st.row(t, 0).Checkpoint)
		r.stop()
	})
}

// A shutdown gives the shard back before the Seek's turn has come.
func TestSeekOfAShardThatIsGivenBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, g := newSource(1), newStore(), newGate()
		src.put(0, 2)
		r := start(t, src, g, consumer.Options{Store: st, MaxBatchRecords: 2})
		settle()
		sought := make(chan error, 1)
		go func() { sought <- r.Seek(context.Background(), shardID(0), shardlog.TrimHorizon()) }()
		settle()
		go func() { _ = r.Shutdown(context.Background()) }()
		settle()
		close(g.first)
		require.ErrorIs(t, <-sought, consumer.ErrLeaseNotHeld)
		require.NoError(t, r.result())
		assert.Equal(t, shardlog.After(seq(0, 1)), st.row(t, 0).Checkpoint)
	})
}

// The store fails in a way that does not show whether it has written.
func TestErrorsOfWritesWithUnknownOutcomeSaySo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 10)
		var unsure, refused error
		h := consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			if len(b.Records) < 10 {
				return nil
			}
			st.onUpdate(func(checkpoint.Lease) (bool, error) { return true, checkpoint.ErrUnavailable })
			unsure = b.Checkpoint(ctx, shardlog.After(seq(0, 3)))
			st.onUpdate(func(checkpoint.Lease) (bool, error) { return false, shardlog.ErrInvalid })
			refused = b.Checkpoint(ctx, shardlog.After(seq(0, 5)))
			st.onUpdate(nil)
			ended, cancel := context.WithCancel(ctx)
			cancel()
			assert.NotErrorIs(t, b.Checkpoint(ended, shardlog.After(seq(0, 6))), shardlog.ErrUnknownOutcome)
			return errors.New("again, from the checkpoint")
		})
		r := start(t, src, h, consumer.Options{Store: st})
		settle()
		require.ErrorIs(t, unsure, checkpoint.ErrUnavailable)
		require.ErrorIs(t, unsure, shardlog.ErrUnknownOutcome)
		require.ErrorIs(t, refused, shardlog.ErrInvalid)
		require.NotErrorIs(t, refused, shardlog.ErrUnknownOutcome)
		r.kill()
		assert.Equal(t, shardlog.After(seq(0, 3)), st.row(t, 0).Checkpoint)
	})
}

// The answer of the write is lost, and then the shard: nobody can say whether
// the next owner begins at the new place.
func TestSeekOfUnknownOutcomeSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 10)
		r := start(t, src, k, consumer.Options{Store: st})
		settle()
		st.onUpdate(func(checkpoint.Lease) (bool, error) { return true, checkpoint.ErrUnavailable })
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := r.Seek(ctx, shardID(0), shardlog.After(seq(0, 5)))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, shardlog.ErrUnknownOutcome)
		st.onUpdate(nil)
		r.kill()
	})
}

// A batch from before a Seek must not store again that what is to be delivered
// once more is done.
func TestSeekBackOutlivesLaterExplicitCheckpoints(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 10)
		var kept []*consumer.Batch
		h := consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
			kept = append(kept, b)
			return nil
		})
		r := start(t, src, h, consumer.Options{Store: st, ExplicitCheckpoints: true})
		settle()
		r.Pause()
		require.NoError(t, r.Seek(context.Background(), shardID(0), shardlog.TrimHorizon()))
		require.ErrorIs(t, kept[0].Checkpoint(context.Background(), shardlog.After(seq(0, 9))), consumer.ErrAhead)
		r.Resume()
		settle()
		require.NoError(t, kept[1].Checkpoint(context.Background(), shardlog.After(seq(0, 9))))
		r.stop()
	})
}

// A Seek that waits when the shard is parked ends then, and not with the consumer.
func TestSeekOfAShardThatIsParked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, g := newSource(1), newStore(), newGate()
		src.put(0, 2)
		src.readFault = func(req shardlog.ReadRequest) error {
			if req.From.Kind() == shardlog.KindAfter {
				return shardlog.ErrCorrupt
			}
			return nil
		}
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			<-g.first
			return consumer.Permanent(errBroken)
		}), consumer.Options{Store: st, ParkFailed: true, MaxAttempts: 1, DeadLetter: func(context.Context, consumer.DeadLetter) error {
			return shardlog.ErrClosed
		}})
		settle()
		sought := make(chan error, 1)
		go func() { sought <- r.Seek(context.Background(), shardID(0), shardlog.TrimHorizon()) }()
		settle()
		close(g.first)
		settle()
		select {
		case err := <-sought:
			require.ErrorIs(t, err, consumer.ErrLeaseNotHeld)
		default:
			t.Error("Seek waits for ever")
		}
		r.stop()
	})
}

// A Seek does not wait for records that wait for a call: not when the shard is
// paused, nor when their key fails again and again.
func TestSeekPassesWhatWaitsInLanes(t *testing.T) {
	for _, paused := range []bool{true, false} {
		for _, o := range []consumer.Options{{PerKey: 4}, {Lanes: 4}} {
			bubble(t, func(t *testing.T) {
				src, k := newSource(1), &laneSink{keys: map[string][]string{}, pause: time.Second, fails: "key-1"}
				src.putKeys(0, 40, 4)
				o.Store, o.MaxBatchRecords = newStore(), 2
				r := start(t, src, k, o)
				time.Sleep(time.Minute + time.Second/2)
				settle()
				if paused {
					r.Pause()
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				require.NoError(t, r.Seek(ctx, shardID(0), shardlog.After(seq(0, 37))))
				require.Equal(t, shardlog.After(seq(0, 37)), o.Store.(*store).row(t, 0).Checkpoint)
				r.Resume()
				time.Sleep(time.Minute)
				r.stop()
				assert.Equal(t, shardlog.After(seq(0, 39)), o.Store.(*store).row(t, 0).Checkpoint)
				assert.Equal(t, name(0, 39), k.keys["key-3"][len(k.keys["key-3"])-1])
			})
		}
	}
}
