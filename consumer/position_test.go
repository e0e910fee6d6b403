package consumer

import (
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
