package producer_test

import (
	"errors"
	"log/slog"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

func TestDefaults(t *testing.T) {
	want := producer.Options{
		MaxBatchRecords: 500,
		MaxBatchBytes:   10 << 20,
		MaxInFlight:     4,
		Linger:          0,
		BufferRecords:   100_000,
		BufferBytes:     64 << 20,
		WhenFull:        producer.Block,
		MaxRecordSize:   shardlog.MaxRecordSize,
		BorrowData:      false,
		Order:           producer.OrderPerKey,
		TTL:             30 * time.Second,
		MaxAttempts:     0,
		Retry:           producer.Retry{Initial: 50 * time.Millisecond, Max: 3 * time.Second},
		RequestTimeout:  0,
		Aggregation:     producer.Aggregation{Enabled: false, MaxCount: 0, MaxSize: 51_200},
		ShardRate:       producer.ShardRate{},
		Keyless:         false,
		ID:              "",
	}
	assert.Equal(t, 21, reflect.TypeFor[producer.Options]().NumField(), "a new option needs its default in this test")
	for _, opts := range []*producer.Options{nil, {}} {
		got := newProducer(t, &fakeSink{}, opts).Resolved()
		assert.False(t, got.Logger.Enabled(t.Context(), slog.LevelError), "silent by default")
		got.Logger = nil
		assert.Equal(t, want, got)
	}
}

func TestDefaultsThatDependOnOthers(t *testing.T) {
	o := newProducer(t, &fakeSink{}, &producer.Options{BufferBytes: 1 << 20, Retry: producer.Retry{Initial: 10 * time.Second}}).Resolved()
	assert.Equal(t, 1<<20, o.MaxRecordSize)
	assert.Equal(t, 10*time.Second, o.Retry.Max)
	assert.Equal(t, 4096, newProducer(t, &fakeSink{}, &producer.Options{MaxBatchBytes: 4096}).Resolved().MaxRecordSize)
}

func TestOptionsAreCopied(t *testing.T) {
	opts := &producer.Options{MaxInFlight: 3}
	p := newProducer(t, &fakeSink{}, opts)
	assert.Equal(t, producer.Options{MaxInFlight: 3}, *opts)
	opts.MaxInFlight = 9
	assert.Equal(t, 3, p.Resolved().MaxInFlight)
}

func TestEveryFaultIsReported(t *testing.T) {
	_, err := producer.New(nil, &producer.Options{
		MaxBatchRecords: 10_001, MaxBatchBytes: 64<<20 + 1, MaxInFlight: 1025, Linger: -1, BufferRecords: -1, BufferBytes: -1,
		WhenFull: 2, MaxRecordSize: shardlog.MaxRecordSize + 1, Order: 2, MaxAttempts: -1,
		Retry: producer.Retry{Initial: -1, Max: -1}, RequestTimeout: -1,
		Aggregation: producer.Aggregation{MaxCount: -1, MaxSize: 63}, ShardRate: producer.ShardRate{Records: 0.5, Bytes: math.NaN()}, ID: "\xff",
	})
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	var fields []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var bad *shardlog.InvalidError
		require.True(t, errors.As(e, &bad))
		fields = append(fields, bad.Field)
	}
	assert.ElementsMatch(t, []string{
		"Sink", "MaxBatchRecords", "MaxBatchBytes", "MaxInFlight", "BufferRecords", "MaxAttempts", "BufferBytes", "MaxRecordSize",
		"Linger", "RequestTimeout", "Retry.Initial", "Retry.Max", "WhenFull", "Order",
		"Aggregation.MaxCount", "Aggregation.MaxSize", "ShardRate.Records", "ShardRate.Bytes", "ID",
	}, fields)

	_, err = producer.New(&fakeSink{}, &producer.Options{Retry: producer.Retry{Initial: time.Second, Max: time.Millisecond}})
	require.ErrorContains(t, err, "Retry.Max")
	_, err = producer.New(&fakeSink{}, &producer.Options{MaxRecordSize: 2000, BufferBytes: 1000})
	require.ErrorContains(t, err, "MaxRecordSize")
	_, err = producer.New(&fakeSink{}, &producer.Options{Aggregation: producer.Aggregation{MaxSize: 2000}, MaxBatchBytes: 1000})
	require.ErrorContains(t, err, "Aggregation.MaxSize")
}
