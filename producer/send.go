package producer

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
			p.complete(b, nil, both(shardlog.ErrUnknownOutcome, errExited))
			p.starting++
			go p.run()
			p.unlock()
		}
	}()
	p.mu.Lock()
	p.starting--
	b = p.newRequest()
	for p.take(b) {
		p.advance(p.now())
		p.unlock()
		calling = true
		results, err := p.call(b)
		calling = false
		p.mu.Lock()
		f := p.complete(b, results, err)
		p.grant(p.now())
		woken := p.unlock()
		p.report(&f)
		if woken > 1 {
			p.yield(woken)
		}
		p.mu.Lock()
	}
	p.senders--
	b.next, p.freeRequests = p.freeRequests, b
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
	defer func() {
		if p.opts.RequestTimeout > 0 {
			b.cancel()
		}
		if v := recover(); v != nil {
			b.records = nil
			results, err = nil, both(shardlog.ErrUnknownOutcome, &PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	for _, e := range b.entries {
		b.records = append(b.records, shardlog.Record{PartitionKey: e.key, ExplicitHashKey: e.hashKey, Data: e.data, Headers: e.headers})
	}
	records := b.records
	results, err = p.sink.PutRecords(b.ctx, records)
	if b.ctx.Err() != nil {
		// What the sink left behind when it was cut off may still be reading.
		b.records = nil
	}
	if err == nil && len(results) != len(records) {
		// Which result is whose is not known.
		return nil, fmt.Errorf("%w: the sink gave %d results for %d records", shardlog.ErrUnknownOutcome, len(results), len(records))
	}
	return results, err
}

// failures are the failed records of a request, for the log.
type failures struct {
	retried, failed int
	reordered       bool
	first           error
}

func (f *failures) note(err error) {
	if f.first == nil {
		f.first = err
	}
}

// complete takes the outcome of a request apart: every record gets its result
// or waits for a retry.
func (p *Producer) complete(b *request, results []shardlog.PutResult, err error) failures {
	var f failures
	now := p.now()
	timedOut := b.ctx.Err() != nil && errors.Is(context.Cause(b.ctx), errTimeout)
	whole := p.judge(err, timedOut)
	// A request is refused whole when one of its records has a fault that only
	// the sink knows of. It is found by halving.
	split := err != nil && len(b.entries) > 1 && errors.Is(err, shardlog.ErrInvalid) && !whole.unknown
	jitter := rand.Float64()
	for i, e := range b.entries {
		e.req = nil
		v := whole
		if err == nil && results[i].Err != nil {
			v = p.judge(results[i].Err, timedOut)
		}
		switch {
		case e.state == decided: // while it was in flight
		case v.err == nil:
			if e.lane.due > 0 { // an earlier record of the key was refused
				p.stats.reordered++
				f.reordered = f.reordered || !p.strict
				p.strict = true
			}
			p.conclude(e, Result{ShardID: results[i].ShardID, Sequence: results[i].Sequence}, nil)
		case split:
			e.attempts--
			e.alone = int32((len(b.entries) + 1) / 2)
			p.again(e)
		default:
			f.note(v.err)
			p.failed(e, v, jitter, now, &f)
		}
	}
	for _, l := range b.lanes {
		p.release(l)
	}
	clear(b.entries)
	clear(b.lanes)
	clear(b.records)
	b.entries, b.lanes, b.records = b.entries[:0], b.lanes[:0], b.records[:0]
	return f
}

// failed handles a failed attempt of e.
func (p *Producer) failed(e *entry, v verdict, jitter float64, now int64, f *failures) {
	p.stats.errors[v.cause]++
	e.maybe = e.maybe || v.unknown
	causes := &e.out.res.Causes
	if len(*causes) == maxCauses {
		*causes = append((*causes)[:0:0], (*causes)[1:]...)
	}
	*causes = append(*causes, v.err)
	if v.retry && (p.opts.MaxAttempts == 0 || int(e.attempts) < p.opts.MaxAttempts) {
		f.retried++
		p.stats.retries++
		pause := max(time.Duration(jitter*float64(p.opts.Retry.bound(int(e.attempts)))), v.after)
		e.lane.due = max(e.lane.due, now+int64(pause)+1)
		p.again(e)
		return
	}
	f.failed++
	final := v.err
	if e.maybe && !v.unknown {
		final = fmt.Errorf("%w of an earlier attempt: %w", shardlog.ErrUnknownOutcome, v.err)
	}
	p.conclude(e, Result{}, putError(final))
}

// maxCauses is how many errors a Result has.
const maxCauses = 8

// again queues an entry for a further attempt.
func (p *Producer) again(e *entry) {
	e.state = queued
	e.lane.retry.push(e)
}

// conclude gives an entry its result, unless a callback of an earlier record of
// the key has to come first.
func (p *Producer) conclude(e *entry, res Result, err error) {
	if l := e.lane; e.done != nil && l.retry.n > 0 {
		res.Attempts, res.Causes = int(e.attempts), e.out.res.Causes
		e.state, e.out = settled, outcome{res: res, err: err}
		l.retry.push(e)
		return
	}
	p.decide(e, res, err)
}

// release ends the use of a key by a request.
func (p *Producer) release(l *lane) {
	l.req = nil
	l.waiting.prependAll(&l.retry)
	switch {
	case l.waiting.n == 0:
		p.dropLane(l)
	case l.due > 0:
		heap.Push(&p.backoff, l)
	default:
		p.sendq.push(l)
	}
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

// verdict says what an error means.
type verdict struct {
	err            error
	retry, unknown bool
	after          time.Duration
	cause          cause
}

func (p *Producer) judge(err error, timedOut bool) verdict {
	if err == nil {
		return verdict{}
	}
	if timedOut && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errTimeout)) {
		// The end of a context is no reason to give up if the context is ours.
		err = fmt.Errorf("%w: %w: %v", shardlog.ErrUnknownOutcome, errTimeout, err)
	}
	v := verdict{err: err, retry: shardlog.Retryable(err), unknown: errors.Is(err, shardlog.ErrUnknownOutcome), cause: causeOf(err)}
	var e *shardlog.Error
	if errors.As(err, &e) {
		v.after = e.RetryAfter
	}
	if v.cause == causePanic {
		v.retry = false // would panic again
	}
	return v
}

// report logs the failures of a request.
func (p *Producer) report(f *failures) {
	if f.reordered {
		p.opts.Logger.Warn("the sink stored a record after it refused an earlier one of the key; from now on, requests have one record of a key",
			slog.String("option", "Order"))
	}
	switch {
	case f.failed > 0:
		p.opts.Logger.Warn("records failed", slog.Int("failed", f.failed), slog.Int("retried", f.retried), slog.Any("error", f.first))
	case f.retried > 0:
		p.opts.Logger.Debug("records are retried", slog.Int("retried", f.retried), slog.Any("error", f.first))
	}
}
