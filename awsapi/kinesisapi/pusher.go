package kinesisapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// heartbeat is the longest time without an event. The API reference of
// SubscribeToShard and the read timeouts of SDKs have 5 s; a second is left for
// the network.
const heartbeat = 4 * time.Second

// Bounds of one event. A subscription has one in memory, and there may be
// thousands of subscriptions, so the bytes are far below those of a page.
const (
	eventRecords = shardlog.MaxPageRecords
	eventBytes   = 256 << 10
)

// pusher writes the events of one subscription. It belongs to the goroutine of
// the request.
type pusher struct {
	c     *call
	s     *streamState
	id    string
	index uint32
	from  shardlog.Position
	sub   *subscription
	rc    *http.ResponseController
	last  shardlog.SequenceNumber // after which the client would continue
	// budget is what the stream's limits leave; nil without any.
	budget *rate.Limiter
}

// run writes events until the subscription has lasted its time, the shard ends,
// the client is gone, or the subscription is ended from elsewhere. The first
// frame is the initial response, without which SDKs do not begin to read.
func (p *pusher) run(ctx context.Context) {
	c := p.c
	c.Answered = true
	p.rc = http.NewResponseController(c.W)
	c.W.Header()["Content-Type"] = []string{awswire.EventStream}
	c.W.WriteHeader(http.StatusOK)
	b, f := awswire.BeginEvent(nil, "initial-response", c.Protocol)
	e := awswire.Encoder{Buf: b, Format: c.Protocol.Format}
	e.Open()
	e.Close()
	if p.write(f.End(e.Buf)) != nil {
		return
	}
	first := true
	for {
		left := c.svc.opts.SubscriptionLife - c.Clock().Since(p.sub.began)
		if left <= 0 {
			return
		}
		req := shardlog.ReadRequest{ShardID: p.id, From: p.from, MaxRecords: eventRecords, MaxBytes: eventBytes}
		if !first { // the first event shows the client that it is subscribed
			req.Wait = min(heartbeat, left)
		}
		first = false
		page, err := p.s.st.ReadDedicated(ctx, req)
		if errors.Is(err, shardlog.ErrExpired) {
			p.from = shardlog.TrimHorizon()
			continue
		}
		if err != nil {
			p.fail(ctx, err)
			return
		}
		p.from = page.Next
		ended := page.End
		page.End = p.s.endsAt(&page, c.Clock())
		if p.event(ctx, &page) != nil || page.End {
			return
		}
		if ended { // but it is not to be known yet, and nothing comes meanwhile
			if err := pause(ctx, min(heartbeat, left, p.s.change.Load().left(c.Clock()))); err != nil {
				p.fail(ctx, err)
				return
			}
		}
		if err := p.throttle(ctx, &page); err != nil {
			p.fail(ctx, err)
			return
		}
	}
}

// event writes a page as an event.
func (p *pusher) event(ctx context.Context, page *shardlog.Page) error {
	buf := awswire.Buffers.Get().(*[]byte)
	b, f := awswire.BeginEvent((*buf)[:0], "SubscribeToShardEvent", p.c.Protocol)
	e := awswire.Encoder{Buf: b, Format: p.c.Protocol.Format}
	e.Open()
	writeRecords(&e, page.Records, p.index, p.s.encryptionNow(ctx))
	if !page.End { // at the end of a shard nothing follows
		e.Key("ContinuationSequenceNumber")
		writeSequence(&e, p.continuation(page))
	}
	e.IntField("MillisBehindLatest", behind(page))
	if page.End {
		if err := writeChildren(ctx, &e, p.s.st, page.Children); err != nil {
			return err
		}
	}
	e.Close()
	err := p.write(f.End(e.Buf))
	if cap(e.Buf) <= awswire.MaxPooled {
		*buf = e.Buf
	}
	awswire.Buffers.Put(buf)
	return err
}

// continuation returns a number after which reading continues where the page
// ended. Its arrival is the present, so that it grows while nothing arrives, on the
// machine's clock like the arrivals of records.
func (p *pusher) continuation(page *shardlog.Page) shardlog.SequenceNumber {
	next := page.Next.Sequence()
	counter := counterOf(next)
	if page.Next.Kind() == shardlog.KindAt {
		counter-- // the one before the record that is next
	}
	arrival := max(time.Now().Unix(), arrivalOf(p.last))
	if counterOf(p.last) == counter && arrival <= arrivalOf(p.last) && p.last.IsSet() {
		arrival = arrivalOf(p.last) + 1
	}
	p.last = shardlog.NewSequenceNumber(createdOf(next), p.index, counter, arrival)
	return p.last
}

// fail ends the subscription with an exception, unless AWS would not send one.
func (p *pusher) fail(ctx context.Context, err error) {
	cause := context.Cause(ctx)
	var e *awswire.Error
	switch {
	case p.c.Ctx.Err() != nil:
		return // the client is gone
	case errors.Is(cause, errTakenOver), errors.Is(cause, errClosed):
		return // AWS ends such a stream without an exception
	case errors.Is(cause, errDeleted), errors.Is(err, shardlog.ErrNotFound):
		e = awswire.Errorf(codeNotFound, "Stream %s under account %s or its consumer was not found.", p.c.name, p.c.Scope.Account)
	default:
		if e = p.c.Error(err); e.Code == awswire.CodeInternal {
			e = awswire.Errorf("InternalFailureException", "%s", e.Message)
		}
	}
	_ = p.write(awswire.AppendException(nil, e, p.c.Protocol)) // it ends either way
}

// writeTimeout is how long a client may take for one event. One that takes
// longer has stopped reading, and would keep the goroutine and its buffer.
const writeTimeout = 30 * time.Second

// write sends bytes now: an event that waits in a buffer is a late one.
func (p *pusher) write(b []byte) error {
	// Not every ResponseWriter has deadlines; then the server's own hold.
	_ = p.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := p.c.W.Write(b); err != nil {
		return err
	}
	return p.rc.Flush()
}

// throttle holds a subscription to the stream's read limit, which each registered
// consumer has for itself (2 MiB a second and shard on AWS; developer guide,
// enhanced fan-out). A page is sent whole, and the next one waits
// until it is paid for; what a second allows may come in one burst. If that
// takes longer than a heartbeat, the client gets an empty event.
func (p *pusher) throttle(ctx context.Context, page *shardlog.Page) error {
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
		if err := p.event(ctx, &shardlog.Page{Next: p.from, Behind: page.Behind, BehindRecords: page.BehindRecords}); err != nil {
			return err
		}
	}
	return pause(ctx, wait)
}

// pageBytes returns the size of the records of a page, as limits count it.
func pageBytes(page *shardlog.Page) (n int) {
	for i := range page.Records {
		n += page.Records[i].Size()
	}
	return n
}

// pause waits, or until ctx ends.
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
