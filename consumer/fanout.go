package consumer

import (
	"context"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer/internal/lease"
)

// readFunc is how pages are read: with the limits that all readers of the
// source share, or outside them.
func readFunc(src shardlog.Source, o *Options) func(context.Context, shardlog.ReadRequest) (shardlog.Page, error) {
	if d, ok := src.(shardlog.DedicatedReader); ok && o.FanOut {
		return d.ReadDedicated
	}
	return src.Read
}

// pace waits until the rate of Options.FanOutRate admits the next page of the
// shard. A page that was larger than what a second admits is paid for after it,
// and a shard that was quiet has saved up no more than a second.
func (f *fetcher) pace() {
	rate := f.t.r.o.FanOutRate
	if !f.t.r.o.FanOut || rate <= 0 || f.unpaid == 0 {
		return
	}
	cost := time.Duration(float64(f.unpaid) / float64(rate) * float64(time.Second))
	f.unpaid = 0
	now := time.Now()
	if least := now.Add(-time.Second); f.paid.Before(least) {
		f.paid = least
	}
	f.paid = f.paid.Add(cost)
	lease.Sleep(f.ctx, f.paid.Sub(now))
}
