package kinesisapi

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"github.com/shardlog/shardlog"
)

// pace holds a subscription to the stream's read limit, which each registered
// consumer has for itself (2 MiB a second and shard on AWS; developer guide,
// enhanced fan-out). A page is sent whole and paid for before the next one; a
// second's worth may come at once. Where that takes longer than a heartbeat,
// the client gets one.
func (p *pusher) pace(ctx context.Context, page *shardlog.Page) error {
	limit := p.s.st.Info().Limits.ReadBytes
	if limit <= 0 {
		p.budget = nil
		return nil
	}
	burst := max(1, int(limit))
	if p.budget == nil || p.budget.Limit() != rate.Limit(limit) {
		p.budget = rate.NewLimiter(rate.Limit(limit), burst)
	}
	now := time.Now()
	var wait time.Duration
	for left := pageBytes(page); left > 0; left -= burst {
		wait = p.budget.ReserveN(now, min(left, burst)).DelayFrom(now)
	}
	for ; wait > heartbeat; wait -= heartbeat {
		if err := pause(ctx, heartbeat); err != nil {
			return err
		}
		if err := p.event(&shardlog.Page{Next: p.from, Behind: page.Behind, BehindRecords: page.BehindRecords}); err != nil {
			return err
		}
	}
	return pause(ctx, wait)
}

func pageBytes(page *shardlog.Page) (n int) {
	for i := range page.Records {
		n += page.Records[i].Size()
	}
	return n
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return shardlog.ContextError(ctx)
	}
}
