package consumer_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
)

func newConsumer(t *testing.T, src shardlog.Source, o consumer.Options) *consumer.Consumer {
	t.Helper()
	o.WorkerID = "w"
	c, err := consumer.New(src, &o)
	require.NoError(t, err)
	return c
}

// The bubble shows in each of these tests that no goroutine is left.

// Asking for the next batch acknowledges the one before; a break does not.
func TestBatchesAcknowledgesWhenTheNextIsAskedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 10)
		c := newConsumer(t, src, consumer.Options{Store: st, MaxBatchRecords: 2, MaxAttempts: 1, Drop: true})
		n := 0
		for b, err := range c.Batches(t.Context()) {
			require.NoError(t, err)
			require.Equal(t, name(0, 2*n), string(b.Records[0].Data))
			if n++; n == 4 {
				settle()
				assert.Equal(t, shardlog.After(seq(0, 5)), st.row(t, 0).Checkpoint)
				break
			}
		}
		assert.Equal(t, shardlog.After(seq(0, 5)), st.row(t, 0).Checkpoint, "the fourth is not acknowledged")
		assert.Empty(t, st.row(t, 0).Owner, "and the shard is given back")
		assert.Zero(t, c.Stats().Shards[0].DeadLetters)
		for b, err := range c.Batches(t.Context()) {
			assert.Nil(t, b)
			require.ErrorIs(t, err, shardlog.ErrConflict, "once only")
		}
	})
}

func TestBatchesKeepsWhatTheLoopCheckpointed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 10)
		for b, err := range newConsumer(t, src, consumer.Options{Store: st}).Batches(t.Context()) {
			require.NoError(t, err)
			require.NoError(t, b.Checkpoint(t.Context(), b.After(3)))
			break
		}
		assert.Equal(t, shardlog.After(seq(0, 3)), st.row(t, 0).Checkpoint)
	})
}

func TestBatchesEndsWithItsContext(t *testing.T) {
	for _, lanes := range []int{1, 4} {
		bubble(t, func(t *testing.T) {
			src, st := newSource(3), newStore()
			for i := range 3 {
				src.put(i, 100)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			last := map[string]string{}
			got := 0
			for b, err := range newConsumer(t, src, consumer.Options{Store: st, MaxBatchRecords: 10, Lanes: lanes}).Batches(ctx) {
				require.NoError(t, err)
				for _, r := range b.Records {
					assert.Greater(t, pad(string(r.Data)), last[b.ShardID], "in the order of the shard")
					last[b.ShardID] = pad(string(r.Data))
				}
				if got += len(b.Records); got == 300 {
					cancel()
				}
			}
			assert.Equal(t, 300, got)
			for i := range 3 {
				assert.Equal(t, shardlog.After(seq(i, 99)), st.row(t, i).Checkpoint, "the last one too")
			}
		})
	}
}

// pad makes names of records comparable.
func pad(s string) string {
	for len(s) < len("0/00") {
		s = s[:2] + "0" + s[2:]
	}
	return s
}

func TestPanicInTheLoopOverBatches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(2), newStore()
		src.put(0, 10)
		src.put(1, 10) // waits for the loop
		c := newConsumer(t, src, consumer.Options{Store: st, MaxBatchRecords: 5})
		assert.PanicsWithValue(t, "no", func() {
			for range c.Batches(t.Context()) {
				settle()
				panic("no")
			}
		})
		for i := range 2 {
			assert.Equal(t, shardlog.TrimHorizon(), st.row(t, i).Checkpoint)
			assert.Empty(t, st.row(t, i).Owner)
		}
	})
}

// Shutdown and Close from inside the loop end it, without waiting for it.
func TestStopFromInsideTheLoopOverBatches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 10)
		c := newConsumer(t, src, consumer.Options{Store: st, MaxBatchRecords: 5})
		for _, err := range c.Batches(t.Context()) {
			require.NoError(t, err)
			require.ErrorIs(t, c.Seek(t.Context(), shardID(0), shardlog.Latest()), shardlog.ErrUnsupported)
			require.NoError(t, c.Shutdown(context.Background()))
		}
		assert.Equal(t, shardlog.After(seq(0, 4)), st.row(t, 0).Checkpoint)

		c = newConsumer(t, src, consumer.Options{Store: st})
		var last error
		for _, err := range c.Batches(t.Context()) {
			last = err
			require.NoError(t, c.Close())
		}
		require.ErrorIs(t, last, shardlog.ErrClosed)
		assert.Equal(t, shardlog.After(seq(0, 4)), st.row(t, 0).Checkpoint)
	})
}

// An error that ends Run is the last element.
func TestBatchesYieldsTheErrorOfRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := newSource(1)
		src.put(0, 3)
		src.readFault = func(req shardlog.ReadRequest) error {
			if req.From.Kind() == shardlog.KindAfter {
				return shardlog.ErrCorrupt
			}
			return nil
		}
		var errs []error
		for _, err := range newConsumer(t, src, consumer.Options{Store: newStore()}).Batches(t.Context()) {
			errs = append(errs, err)
		}
		require.Len(t, errs, 2)
		require.NoError(t, errs[0])
		require.ErrorIs(t, errs[1], shardlog.ErrCorrupt)
	})
}

// A shard whose batch nobody has looked at is handed over without waiting for
// the loop.
func TestBatchesThatWaitAreHandedOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(2), newStore(), &sink{}
		src.put(0, 10) // the loop is busy with it
		a := newConsumer(t, src, consumer.Options{Store: st})
		done := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(done)
			for range a.Batches(ctx) {
				time.Sleep(time.Hour)
			}
		}()
		time.Sleep(time.Second)
		src.put(1, 10) // waits for the loop
		settle()
		b := start(t, src, k, consumer.Options{Store: st, WorkerID: "b"})
		time.Sleep(5 * time.Second)
		settle()
		assert.Len(t, k.got(), 10)
		cancel()
		<-done
		b.stop()
	})
}
