package producer

import (
	"cmp"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/shardlog/shardlog"
)

// runSender sends requests one after the other until there is nothing to send. It is
// counted in p.senders, and, until it has taken its first request, in
// p.starting.
func (p *Producer) runSender() {
	p.resumeSender(nil, true)
}

// resumeSender is run from some point on: with a request that has its answer, or,
// without one, before a request is taken.
func (p *Producer) resumeSender(b *request, starting bool) {
	finished := false
	defer func() {
		if !finished { // the sink, a hook or the logger called runtime.Goexit
			go p.resumeSender(b, starting)
		}
	}()
	if b != nil {
		p.handleAnswer(&b)
	}
	p.mu.Lock()
	p.ensureShards()
	if starting {
		p.starting--
	}
	fresh := starting
	starting = false
	for b = p.nextRequest(fresh); b != nil; b = p.nextRequest(false) {
		p.advance(p.now())
		p.unlock()
		p.callSink(b)
		p.handleAnswer(&b)
		p.mu.Lock()
		p.ensureShards()
	}
	p.senders--
	callbacks := p.outbox.n > 0 && !p.callbacksRun
	if callbacks {
		p.callbacksRun = true
	}
	p.advance(p.now())
	p.unlock()
	finished = true
	if callbacks {
		p.runCallbacks(&delivery{})
	}
}

// handleAnswer deals with the answer to a request, and sets b to nil once all
// its records have got theirs.
func (p *Producer) handleAnswer(b **request) {
	r := *b
	if p.contradictsMap(r) {
		p.learnShards(r.version)
	}
	p.mu.Lock()
	f := p.complete(r, r.results, r.err)
	*b = nil
	p.admitWaiting(p.now())
	woken := p.unlock()
	p.logFailures(&f)
	if woken > 1 {
		p.letWritersRun(woken)
	}
}

// yields is how often a sender lets others go first.
const maxYields = 4

// letWritersRun lets the writers that were told just now put their next records first,
// so that these go together. A few turns suffice, and cost a lone sender
// nothing.
func (p *Producer) letWritersRun(woken int) {
	for range maxYields {
		runtime.Gosched()
		p.mu.Lock()
		n := p.ready.n
		p.mu.Unlock()
		if n >= min(woken, p.opts.MaxBatchRecords) {
			return
		}
	}
}

// callSink calls the sink, and keeps its answer in b.
func (p *Producer) callSink(b *request) {
	b.started = time.Now()
	b.notSent = p.opts.ID != ""
	var end func(RequestOutcome)
	returned := false
	defer func() {
		if v := recover(); v != nil {
			b.onAbort(&PanicError{Value: v, Stack: debug.Stack()})
		} else if !returned {
			b.onAbort(errExited)
		}
		if p.opts.RequestTimeout > 0 {
			b.cancel()
		}
		if end != nil {
			p.callHook(func() { end(outcomeOf(b)) })
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
	p.encode(b)
	ctx := b.ctx
	if f := p.opts.Hooks.Request; f != nil {
		if ctx, *end = f(ctx, b.info()); ctx == nil {
			ctx = b.ctx
		}
	}
	n := len(b.records)
	if p.opts.ID != "" || p.sendsRanges {
		req := &shardlog.PutRequest{Records: b.records, Ranges: b.ranges, Producer: p.opts.ID, Epoch: b.epoch, Numbers: b.numbers, Done: b.doneBelow}
		results, err = p.requests.PutRequest(ctx, req)
	} else {
		results, err = p.sink.PutRecords(ctx, b.records)
	}
	if b.ctx.Err() != nil {
		// What the sink left behind when it was cut off may still be reading.
		b.leaveToSink()
	}
	if err == nil && len(results) != n {
		// Which result is whose is not known.
		return nil, fmt.Errorf("%w: the sink gave %d results for %d records", shardlog.ErrUnknownOutcome, len(results), n)
	}
	return results, err
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

// log calls the logger, whose handler is not ours. It is called without mu.
func (p *Producer) log(f func(l *slog.Logger)) {
	defer func() {
		if v := recover(); v != nil {
			p.notePanic(&PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	f(p.opts.Logger)
}

// onAbort is told of a call that did not return, but panicked or exited.
func (b *request) onAbort(why error) {
	b.leaveToSink()
	b.results, b.err = nil, why
	if !b.notSent {
		b.err = both(shardlog.ErrUnknownOutcome, why)
	}
}

// leaveToSink leaves what the sink was given to it.
func (b *request) leaveToSink() {
	b.sinkMayRead = true
	b.records, b.ranges, b.numbers, b.arena = nil, nil, nil, nil
}

func (b *request) info() RequestInfo {
	i := RequestInfo{Records: len(b.records)}
	for j := range b.slots {
		i.UserRecords += b.slots[j].n
		i.Bytes += b.records[j].Size()
	}
	i.Resent = b.sends > 1
	return i
}

func outcomeOf(b *request) RequestOutcome {
	o := RequestOutcome{Duration: time.Since(b.started), Err: b.err}
	if b.err != nil {
		o.Failed = len(b.slots)
		return o
	}
	for i := range b.results {
		if e := b.results[i].Err; e != nil {
			o.Failed++
			o.Err = cmp.Or(o.Err, e)
		}
	}
	return o
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
			l.Error("another producer has taken over the identity; this one stores nothing more", slog.String("id", p.opts.ID))
		}
		switch {
		case f.failed > 0:
			l.Warn("records failed", slog.Int("failed", f.failed), slog.Int("retried", f.retried), slog.Any("error", f.first))
		case f.retried > 0:
			l.Debug("records are retried", slog.Int("retried", f.retried), slog.Any("error", f.first))
		}
	})
}
