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

// dedicated is a source whose shared readers are throttled for ever.
type dedicated struct{ *source }

func (d dedicated) Read(context.Context, shardlog.ReadRequest) (shardlog.Page, error) {
	return shardlog.Page{}, &shardlog.Error{Err: shardlog.ErrThroughputExceeded}
}

func (d dedicated) ReadDedicated(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	return d.source.Read(ctx, req)
}

func TestFanOutReadsBesideTheSharedLimits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, slow, fast := newSource(2), &sink{}, &sink{}
		src.put(0, 100)
		a := start(t, dedicated{src}, slow, consumer.Options{Store: newStore(), Group: "a"})
		b := start(t, dedicated{src}, fast, consumer.Options{Store: newStore(), Group: "b", FanOut: true})
		settle()
		assert.Len(t, fast.got(), 100)
		src.put(1, 1)
		settle() // pushed: no time passes
		assert.Len(t, fast.got(), 101)
		assert.Empty(t, slow.got())
		assert.Positive(t, a.stats(0).Throttled)
		a.stop()
		b.stop()
	})
}

func TestFanOutRate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(2), &sink{}
		for i := range 2 {
			src.put(i, 1000)
		}
		size := 0
		for i := range src.shards[0].records {
			size += src.shards[0].records[i].Size()
		}
		r := start(t, dedicated{src}, k, consumer.Options{Store: newStore(), MaxBatchRecords: 10, FanOut: true, FanOutRate: int64(size) / 100})
		time.Sleep(50 * time.Second)
		settle()
		assert.InDelta(t, 1000, len(k.got()), 60, "each shard has a rate of its own")
		time.Sleep(55 * time.Second)
		settle()
		assert.Len(t, k.got(), 2000)
		r.stop()
	})
}

func TestFanOutNeedsASourceThatCan(t *testing.T) {
	_, err := consumer.New(newSource(1), &consumer.Options{Store: newStore(), FanOut: true})
	require.ErrorIs(t, err, shardlog.ErrUnsupported)
	_, err = consumer.New(newSource(1), &consumer.Options{Store: newStore(), FanOutRate: 5})
	require.ErrorContains(t, err, "FanOutRate")
}
