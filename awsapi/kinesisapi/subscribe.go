package kinesisapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"github.com/shardlog/shardlog"
)

// heartbeat is how often a subscription gets an event at least (API reference,
// SubscribeToShard, and the SDKs' read timeouts: 5 s).
const heartbeat = 4 * time.Second

// resubscribe is how long after its beginning a subscription cannot be taken
// over by another of the same consumer (API reference, SubscribeToShard).
const resubscribe = 5 * time.Second

// Bounds of one event. A subscription writes it at once, so it bounds memory.
const (
	eventRecords = 10_000
	eventBytes   = 256 << 10
)

type subscriptionKey struct {
	consumer string // end of its ARN
	shard    uint32
}

// subscription is one that is open, or was within the last five seconds.
type subscription struct {
	began  time.Time
	cancel context.CancelCauseFunc
}

var (
	errTakenOver   = errors.New("taken over by another subscription")
	errDeleted     = errors.New("the stream or the consumer was deleted")
	errHandlerGone = errors.New("the endpoint was closed")
)

// enterSubscription registers a subscription, and ends the one that it takes over.
func (s *streamState) enterSubscription(key subscriptionKey, now time.Time, cancel context.CancelCauseFunc) (*subscription, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.subs[key]; old != nil {
		// One that began in the future did so before the clock was set back.
		if age := now.Sub(old.began); age >= 0 && age < resubscribe {
			return nil, false
		}
		old.cancel(errTakenOver)
	}
	sub := &subscription{now, cancel}
	s.subs[key] = sub
	return sub, true
}

// leaveSubscription forgets one that is over. One that was ended by its client
// keeps its place for the time in which it could not be taken over: AWS does
// not see at once that a client has gone.
func (s *streamState) leaveSubscription(key subscriptionKey, sub *subscription, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs[key] == sub && now.Sub(sub.began) >= resubscribe {
		delete(s.subs, key)
	}
}

// endAll ends all subscriptions of a stream that goes away.
func (s *streamState) endAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, sub := range s.subs {
		sub.cancel(errDeleted)
		delete(s.subs, key)
	}
}

// endConsumer ends the subscriptions of a consumer.
func (s *streamState) endConsumer(suffix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, sub := range s.subs {
		if key.consumer == suffix {
			sub.cancel(errDeleted)
			delete(s.subs, key)
		}
	}
}

func subscribeToShard(c *call) error {
	arn := c.in.str("ConsumerARN")
	p, ok := parseARN(arn)
	if !ok || p.consumer == "" {
		return invalid("The ARN %s is not that of a consumer.", arn)
	}
	c.scope, c.name = p.scope, p.stream
	id, index, err := c.resolveShard(c.in.str("ShardId"), c.name)
	if err != nil {
		return err
	}
	s, err := c.readable(p.stream, "")
	if err != nil {
		return err
	}
	con := s.byARN(p.consumer, c.h.now())
	if con == nil {
		return c.noConsumer(arn)
	}
	if status := con.status(c.h.now()); status != statusActive {
		return fault(codeInUse, "Consumer %s is not ACTIVE, instead in state %s", arn, status)
	}
	at := get[params](c.in, "StartingPosition")
	from, err := c.position(s, id, index, start{kind: at.str("Type"), number: at.str("SequenceNumber"), at: get[time.Time](at, "Timestamp"), hasAt: at.has("Timestamp")})
	if err != nil {
		return err
	}
	if err := c.injectShard(s, id); err != nil {
		return err
	}
	// Expired positions and the like are told before the stream begins.
	if from, err = s.st.Resolve(c.ctx, id, from); err != nil && !errors.Is(err, shardlog.ErrCorrupt) {
		return err
	}
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	key := subscriptionKey{p.consumer, index}
	sub, ok := s.enterSubscription(key, c.h.now(), cancel)
	if !ok {
		return fault(codeInUse, "Another active subscription exists for this consumer: %s:%s:%s:%s", c.scope.account, c.name, id, con.Name)
	}
	defer func() { s.leaveSubscription(key, sub, c.h.now()) }()
	if !c.h.enterWaiting() {
		return unavailable()
	}
	defer c.h.wg.Done()
	stop := context.AfterFunc(c.h.quit, func() { cancel(errHandlerGone) })
	defer stop()
	// What was asked for is known, and this lasts.
	c.body = nil
	c.release()
	(&pusher{c: c, s: s, id: id, index: index, from: from, sub: sub}).run(ctx)
	return nil
}

// enterWaiting announces a call that lasts to Close; ok is false after it.
func (h *Handler) enterWaiting() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.wg.Add(1)
	return true
}

// pusher writes the events of one subscription.
type pusher struct {
	c     *call
	s     *streamState
	id    string
	index uint32
	from  shardlog.Position
	sub   *subscription
	rc    *http.ResponseController
	last  shardlog.SequenceNumber // where the client would go on
	// budget is what the stream's limits leave; nil without any.
	budget *rate.Limiter
}

func (p *pusher) run(ctx context.Context) {
	c := p.c
	c.streamed = true
	p.rc = http.NewResponseController(c.w)
	c.w.Header()["Content-Type"] = []string{"application/vnd.amazon.eventstream"}
	c.w.WriteHeader(http.StatusOK)
	b, f := eventFrame(nil, "initial-response", p.media())
	if c.cbor {
		b = append(b, cborMapType<<5)
	} else {
		b = append(b, "{}"...)
	}
	if p.write(f.end(b)) != nil {
		return
	}
	first := true
	for {
		now := c.h.now()
		left := c.h.opts.SubscriptionLife - now.Sub(p.sub.began)
		if left <= 0 {
			return
		}
		req := shardlog.ReadRequest{ShardID: p.id, From: p.from, MaxRecords: eventRecords, MaxBytes: eventBytes}
		if !first { // the client learns at once that it is subscribed
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
		if p.event(&page) != nil || page.End {
			return
		}
		if err := p.pace(ctx, &page); err != nil {
			p.fail(ctx, err)
			return
		}
	}
}

func (p *pusher) media() string {
	if p.c.cbor {
		return typeCBOR
	}
	return typeJSON
}

// event writes a page.
func (p *pusher) event(page *shardlog.Page) error {
	buf := buffers.Get().(*[]byte)
	b, f := eventFrame((*buf)[:0], "SubscribeToShardEvent", p.media())
	e := encoder{buf: b, cbor: p.c.cbor}
	e.open()
	e.records(page.Records, p.s.settings.Load().Encryption)
	if !page.End { // at the end there is nothing to go on with
		e.key("ContinuationSequenceNumber")
		e.sequence(p.continuation(page))
	}
	e.intField("MillisBehindLatest", behind(page))
	if page.End {
		if err := p.c.children(&e, p.s, page.Children); err != nil {
			return err
		}
	}
	e.close()
	err := p.write(f.end(e.buf))
	if cap(e.buf) <= maxPooled {
		*buf = e.buf
	}
	buffers.Put(buf)
	return err
}

// continuation returns a number after which reading goes on where the page
// ended. Its arrival is the present, so that it grows while nothing arrives.
func (p *pusher) continuation(page *shardlog.Page) shardlog.SequenceNumber {
	next := page.Next.Sequence()
	counter := counterOf(next)
	if page.Next.Kind() == shardlog.KindAt {
		counter-- // the one before the record that is next
	}
	arrival := max(p.c.h.now().Unix(), arrivalOf(p.last))
	if counterOf(p.last) == counter && arrival <= arrivalOf(p.last) && p.last.IsSet() {
		arrival = arrivalOf(p.last) + 1
	}
	p.last = shardlog.NewSequenceNumber(createdOf(next), p.index, counter, arrival)
	return p.last
}

// fail ends the subscription with an exception, unless the client knows why.
func (p *pusher) fail(ctx context.Context, err error) {
	cause := context.Cause(ctx)
	var e *apiError
	switch {
	case p.c.ctx.Err() != nil:
		return // the client is gone
	case errors.Is(cause, errTakenOver), errors.Is(cause, errHandlerGone):
		return // AWS ends such a stream without a word
	case errors.Is(cause, errDeleted), errors.Is(err, shardlog.ErrNotFound):
		e = fault(codeNotFound, "Stream %s under account %s or its consumer was not found.", p.c.name, p.c.scope.account)
	default:
		if e = p.c.h.answer(err, p.c); e.code == codeInternal {
			e = fault("InternalFailureException", "%s", e.message)
		}
	}
	_ = p.write(exceptionFrame(nil, e, p.c.cbor)) // it ends either way
}

// writeTimeout is how long a client may take for one event.
const writeTimeout = 30 * time.Second

func (p *pusher) write(b []byte) error {
	// Not every ResponseWriter has deadlines; then the server's own hold.
	_ = p.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := p.c.w.Write(b); err != nil {
		return err
	}
	return p.rc.Flush()
}
