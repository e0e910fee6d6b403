package producer

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/shardlog/shardlog"
)

// runSender sends requests one after the other until there is nothing to send.
// It is counted in flight.senders, and, while starting is set, in
// flight.starting.
//
// The sink, hooks and the logger are not ours, and may end the goroutine with
// runtime.Goexit. Then another one continues where it was: with the request b,
// which has its answer, or, if b is nil, before the next request.
func (p *Producer) runSender(b *request, starting bool) {
	returned := false
	defer func() {
		if !returned {
			go p.runSender(b, starting)
		}
	}()
	if b != nil {
		p.handleAnswer(&b)
	}
	p.mu.Lock()
	p.ensureShardsLocked()
	if starting {
		p.core.flight.starting--
	}
	fresh := starting
	starting = false
	for b = p.nextRequestLocked(fresh); b != nil; b = p.nextRequestLocked(false) {
		p.core.advance(p.now())
		p.unlock()
		p.callSink(b)
		p.handleAnswer(&b)
		p.mu.Lock()
		p.ensureShardsLocked()
	}
	p.core.flight.senders--
	callbacks := p.core.outbox.startCallbacks()
	p.core.advance(p.now())
	p.unlock()
	returned = true
	if callbacks {
		p.runCallbacks(delivery{})
	}
}

// nextRequestLocked returns the next request to send, with its context; nil if there
// is none. The caller holds mu.
func (p *Producer) nextRequestLocked(fresh bool) *request {
	b := p.core.nextRequest(fresh, p.now())
	switch {
	case b == nil:
	case p.conf.RequestTimeout > 0:
		b.ctx, b.cancel = context.WithTimeoutCause(p.ctx, p.conf.RequestTimeout, errTimeout)
	case b.ctx == nil || b.ctx.Err() != nil: // one that has not ended serves again
		b.ctx, b.cancel = context.WithCancel(p.ctx)
	}
	return b
}

// handleAnswer deals with the answer to a request, and sets b to nil once all
// its records have their outcome.
func (p *Producer) handleAnswer(b **request) {
	r := *b
	if p.conf.needsShards && r.contradictsMap() {
		p.learnShards(r.version)
	}
	p.mu.Lock()
	f := p.core.complete(r, p.now())
	*b = nil
	p.core.admitWaiting(p.now())
	ready := p.core.buffer.readyRecords()
	notified := p.unlock()
	p.logFailures(&f)
	if notified > 1 {
		p.letWritersRun(ready + notified)
	}
}

// How often a sender lets others run first: until a few turns in a row brought
// no record. A turn that finds nothing to run costs a lone sender little.
const (
	idleTurns = 8
	maxTurns  = 1000
)

// letWritersRun lets the writers that were just notified put their next records
// first, so that these go together with what is ready already: until so many are
// ready. Otherwise writers would form two halves that take turns.
func (p *Producer) letWritersRun(most int) {
	most = min(most, p.conf.MaxBatchRecords)
	last := 0
	for turn, idle := 0, 0; turn < maxTurns && idle < idleTurns; turn++ {
		runtime.Gosched()
		p.mu.Lock()
		n := p.core.buffer.readyRecords()
		p.mu.Unlock()
		if n >= most {
			return
		}
		if idle++; n != last {
			last, idle = n, 0
		}
	}
}

// callSink calls the sink, and keeps its answer in b.
func (p *Producer) callSink(b *request) {
	b.started = time.Now()
	b.notSent = p.conf.ID != ""
	var end func(RequestOutcome)
	returned := false
	defer func() {
		if v := recover(); v != nil {
			b.onAbort(&PanicError{Value: v, Stack: debug.Stack()})
		} else if !returned {
			b.onAbort(errExited)
		}
		b.duration = time.Since(b.started)
		b.timedOut = context.Cause(b.ctx) == errTimeout
		if p.conf.RequestTimeout > 0 {
			b.cancel()
		}
		if end != nil {
			p.callHook(func() { end(b.outcome()) })
		}
	}()
	b.results, b.err = p.exchange(b, &end)
	returned = true
}

// exchange gives a request to the sink. End is set to the function of the hook
// before the sink is called.
func (p *Producer) exchange(b *request, end *func(RequestOutcome)) (results []shardlog.PutResult, err error) {
	if b.notSent {
		if b.epoch, err = p.openIdentity(b.ctx); err != nil {
			return nil, err
		}
		b.notSent = false
	}
	b.encode(&p.conf)
	ctx := b.ctx
	if f := p.conf.OnRequest; f != nil {
		if ctx, *end = f(ctx, b.info()); ctx == nil {
			ctx = b.ctx
		}
	}
	n := b.size()
	if b.page != nil && b.page.encoded {
		results, err = p.putEncoded(ctx, b)
	} else if p.conf.ID != "" || p.conf.sendsRanges {
		req := &shardlog.PutRequest{Records: b.records, Ranges: b.ranges, Producer: p.conf.ID, Epoch: b.epoch, Numbers: b.numbers, Done: b.doneBelow}
		results, err = p.requests.PutRequest(ctx, req)
	} else {
		results, err = p.sink.PutRecords(ctx, b.records)
	}
	if ctx.Err() != nil || b.ctx.Err() != nil {
		// The sink was cut off, by the hook's context or by ours, and what it
		// left behind may still be reading.
		b.leaveToSink()
	}
	if err == nil && len(results) != n {
		// Which result is whose is not known.
		return nil, fmt.Errorf("%w: the sink gave %d results for %d records", shardlog.ErrUnknownOutcome, len(results), n)
	}
	return results, err
}

// putEncoded gives the sink a page of encoded records.
func (p *Producer) putEncoded(ctx context.Context, b *request) ([]shardlog.PutResult, error) {
	n := b.size()
	if cap(b.own) < n {
		b.own = make([]shardlog.PutResult, n, max(n, min(2*cap(b.own), p.conf.MaxBatchRecords)))
	}
	b.own = b.own[:n]
	results := b.own
	if err := p.encoded.PutEncoded(ctx, b.page, results); err != nil {
		return nil, err
	}
	return results, nil
}

// openIdentity opens the producer's identity before the first request, and
// returns its epoch. It is called without mu, and waits while another sender
// does it.
func (p *Producer) openIdentity(ctx context.Context) (uint64, error) {
	select {
	case p.opening <- struct{}{}:
	case <-ctx.Done():
		return 0, shardlog.ContextError(ctx)
	}
	defer func() { <-p.opening }()
	p.mu.Lock()
	epoch := p.core.flight.epoch
	p.unlock()
	if epoch != 0 {
		return epoch, nil
	}
	epoch, err := p.requests.OpenProducer(ctx, p.conf.ID)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	p.core.flight.epoch = epoch
	p.unlock()
	return epoch, nil
}

// callHook calls a hook whose panic has no other place to go than the log.
func (p *Producer) callHook(hook func()) {
	defer func() {
		if v := recover(); v != nil {
			stack := string(debug.Stack())
			p.log(func(l *slog.Logger) { l.Error("a hook panicked", slog.Any("panic", v), slog.String("stack", stack)) })
		}
	}()
	hook()
}

// logFailures logs the failures of a request.
func (p *Producer) logFailures(f *failures) {
	if f.failed == 0 && f.retried == 0 && !f.reordered && !f.fenced {
		return
	}
	p.log(func(l *slog.Logger) {
		if f.reordered {
			l.Warn("the sink stored a record after it refused an earlier one of the key; from now on, requests have one record of a key",
				slog.String("option", "Order"))
		}
		if f.fenced {
			l.Error("another producer has taken over the identity; this one stores nothing more", slog.String("id", p.conf.ID))
		}
		switch {
		case f.failed > 0:
			l.Warn("records failed", slog.Int("failed", f.failed), slog.Int("retried", f.retried), slog.Any("error", f.first))
		case f.retried > 0:
			l.Debug("records are retried", slog.Int("retried", f.retried), slog.Any("error", f.first))
		}
	})
}
