package consumer

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/shardlog/shardlog"
)

func TestCompare(t *testing.T) {
	s := func(n uint64) shardlog.SequenceNumber { return shardlog.NewSequenceNumber(1, 0, n, 1) }
	sorted := [][]shardlog.Position{
		{shardlog.TrimHorizon(), shardlog.Latest(), shardlog.AtTime(time.Unix(9, 0))},
		{shardlog.At(s(9))},
		{shardlog.AfterSub(s(9), 0)},
		{shardlog.AfterSub(s(9), 1<<32-1)},
		{shardlog.After(s(9))},
		{shardlog.At(s(10))},
		{shardlog.After(s(10))},
	}
	for i, as := range sorted {
		for j, bs := range sorted {
			for _, a := range as {
				for _, b := range bs {
					c := compare(a, b)
					assert.Equal(t, i < j, c < 0, "%v, %v", a, b)
					assert.Equal(t, i == j, c == 0, "%v, %v", a, b)
				}
			}
		}
	}
}

func TestDelay(t *testing.T) {
	b := Retry{Initial: 100 * time.Millisecond, Max: 30 * time.Second}
	for failures, bound := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 9: 25600 * time.Millisecond, 10: 30 * time.Second, 1 << 40: 30 * time.Second,
	} {
		var most time.Duration
		for range 1000 {
			d := b.delay(failures, nil)
			assert.Positive(t, d)
			assert.LessOrEqual(t, d, bound)
			most = max(most, d)
		}
		assert.Greater(t, most, bound*9/10)
	}
	huge := Retry{Initial: 1 << 62, Max: 1<<63 - 1}
	assert.Positive(t, huge.delay(5, nil))
	wait := &shardlog.Error{RetryAfter: time.Hour, Err: errors.New("x")}
	assert.Equal(t, time.Hour, b.delay(1, wait))
}

func TestGoroutineID(t *testing.T) {
	mine := goroutineID()
	assert.NotZero(t, mine)
	other := make(chan uint64)
	go func() { other <- goroutineID() }()
	assert.NotEqual(t, mine, <-other)
}
