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

// run sends requests one after the other until there is nothing to send. It is
// counted in p.senders.
func (p *Producer) run() {
	var b *request
	calling := false
	defer func() {
		if calling { // the sink called runtime.Goexit
			p.mu.Lock()
			p.complete(b, nil, b.brokenOff(errExited))
			p.starting++
			go p.run()
			p.unlock()
		}
	}()
	p.mu.Lock()
	p.needMap()
	p.starting--
	for b = p.take(true); b != nil; b = p.take(false) {
		p.advance(p.now())
		p.unlock()
		calling = true
		results, err := p.call(b)
		calling = false
		if p.outdated(b, results, err) {
			p.learn(b.version)
		}
		p.mu.Lock()
		f := p.complete(b, results, err)
		p.grant(p.now())
		woken := p.unlock()
		p.report(&f)
		if woken > 1 {
			p.yield(woken)
		}
		p.mu.Lock()
		p.needMap()
	}
	p.senders--
	callbacks := p.outbox.n > 0 && !p.dispatching
	if callbacks {
		p.dispatching = true
	}
	p.advance(p.now())
	p.unlock()
	if callbacks {
		p.dispatch(&delivery{})
	}
}

// yield lets the writers that were told just now put their next records first,
// so that these go together. A few turns suffice, and cost a lone sender
// nothing.
func (p *Producer) yield(woken int) {
	for range 4 {
		runtime.Gosched()
		p.mu.Lock()
		n := p.ready.n
		p.mu.Unlock()
		if n >= min(woken, p.opts.MaxBatchRecords) {
			return
		}
	}
}

// call calls the sink.
func (p *Producer) call(b *request) (results []shardlog.PutResult, err error) {
	b.started = time.Now()
	b.unsent = p.opts.ID != ""
	var end func(RequestOutcome)
	defer func() {
		if v := recover(); v != nil {
			b.forget()
			results, err = nil, b.brokenOff(&PanicError{Value: v, Stack: debug.Stack()})
		}
		if end != nil {
			p.guard(func() { end(outcomeOf(b, results, err)) })
		}
		if p.opts.RequestTimeout > 0 {
			b.cancel()
		}
	}()
	if b.unsent {
		if b.epoch, err = p.identify(b.ctx); err != nil {
			return nil, err
		}
		b.unsent = false
	}
	p.compose(b)
	ctx := b.ctx
	if f := p.opts.Hooks.Request; f != nil {
		ctx, end = f(ctx, b.info())
	}
	n := len(b.records)
	if p.opts.ID != "" || p.ranges {
		req := &shardlog.PutRequest{Records: b.records, Ranges: b.ranges, Producer: p.opts.ID, Epoch: b.epoch, Numbers: b.numbers, Done: b.done}
		results, err = p.requests.PutRequest(ctx, req)
	} else {
		results, err = p.sink.PutRecords(ctx, b.records)
	}
	if b.ctx.Err() != nil {
		// What the sink left behind when it was cut off may still be reading.
		b.forget()
	}
	if err == nil && len(results) != n {
		// Which result is whose is not known.
		return nil, fmt.Errorf("%w: the sink gave %d results for %d records", shardlog.ErrUnknownOutcome, len(results), n)
	}
	return results, err
}

// guard calls a hook whose panic has no other place to go than the log.
func (p *Producer) guard(hook func()) {
	defer func() {
		if v := recover(); v != nil {
			p.opts.Logger.Error("a hook panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
		}
	}()
	hook()
}

// brokenOff is the error of a call that did not return.
func (b *request) brokenOff(why error) error {
	if b.unsent {
		return why
	}
	return both(shardlog.ErrUnknownOutcome, why)
}

// forget leaves what the sink was given to it.
func (b *request) forget() {
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

func outcomeOf(b *request, results []shardlog.PutResult, err error) RequestOutcome {
	o := RequestOutcome{Duration: time.Since(b.started), Err: err}
	if err != nil {
		o.Failed = len(b.slots)
	}
	for i := range results {
		if e := results[i].Err; e != nil {
			o.Failed++
			o.Err = cmp.Or(o.Err, e)
		}
	}
	return o
}

// bound is the longest pause after a number of attempts.
func (r *Retry) bound(attempts int) time.Duration {
	b := r.Initial
	for i := 1; i < attempts && b < r.Max; i++ {
		b *= 2
	}
	if b > r.Max || b <= 0 { // <= 0: the doubling overflowed
		b = r.Max
	}
	return b
}

// report logs the failures of a request.
func (p *Producer) report(f *failures) {
	if f.reordered {
		p.opts.Logger.Warn("the sink stored a record after it refused an earlier one of the key; from now on, requests have one record of a key",
			slog.String("option", "Order"))
	}
	if f.fenced {
		p.opts.Logger.Error("another producer has taken over the identity; this one stores nothing more", slog.String("id", p.opts.ID))
	}
	switch {
	case f.failed > 0:
		p.opts.Logger.Warn("records failed", slog.Int("failed", f.failed), slog.Int("retried", f.retried), slog.Any("error", f.first))
	case f.retried > 0:
		p.opts.Logger.Debug("records are retried", slog.Int("retried", f.retried), slog.Any("error", f.first))
	}
}
