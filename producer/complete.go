package producer

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/backoff"
)

// failures are the failed records of a request, for the log.
type failures struct {
	retried, failed int
	reordered       bool
	fenced          bool // the identity was taken over
	first           error
}

func (f *failures) noteError(err error) {
	if f.first == nil {
		f.first = err
	}
}

// completion is a request while it is taken apart.
type completion struct {
	b        *request
	now      int64
	clock    time.Time
	jitter   float64
	attempt  Attempt
	stored   []Attempt // of records whose first attempt succeeded; they share it
	timedOut bool
	split    bool // the sink refuses the whole because of one record
	lost     bool // the sink has forgotten the identity
	failures
}

// complete takes the outcome of a request apart: every record gets its result
// or waits for a retry. A request with an identity is kept for as long as the
// outcome of some of its records is not known, and they are sent again as they
// are, which stores none twice.
func (p *Producer) complete(b *request, results []shardlog.PutResult, err error) failures {
	x := &completion{b: b, now: p.now(), clock: time.Now(), jitter: rand.Float64()}
	x.attempt = Attempt{Time: b.started, Duration: x.clock.Sub(b.started)}
	x.stored = []Attempt{x.attempt}
	x.timedOut = b.ctx.Err() != nil && errors.Is(context.Cause(b.ctx), errTimeout)
	p.stats.requestTime.add(x.attempt.Duration)
	p.contendedUntil = 0
	x.lost, x.fenced = p.onIdentityError(b, err)
	whole := p.classify(err, x)
	// A request is refused whole when one of its records has a fault that only
	// the sink knows of. It is found by halving.
	x.split = err != nil && len(b.slots) > 1 && errors.Is(err, shardlog.ErrInvalid) && !whole.unknown
	all := p.allStored(b, results, err)
	if !all {
		p.createQueues(b)
	}
	if b.sinkMayRead {
		b.keepData()
	}
	due, live := int64(0), 0
	kept := b.slots[:0]
	for i := range b.slots {
		s := &b.slots[i]
		var v verdict
		if !all {
			if v = whole; err == nil {
				v = p.classifyOne(s, &results[i], x)
			}
		}
		if v.err == nil {
			p.onStored(x, s, &results[i])
		} else if s.inDoubt = s.inDoubt || v.unknown; p.mustResend(x, s, v, err != nil) {
			d, n := p.onInDoubt(x, s, v)
			if n > 0 {
				due, live = max(due, d), live+n
				kept = append(kept, *s)
				continue
			}
		} else {
			p.onRefused(x, s, v)
		}
		if p.opts.ID != "" {
			p.numbers.retire(s.number)
		}
	}
	b.records, b.ranges, b.numbers = cleared(b.records), b.ranges[:0], b.numbers[:0]
	clear(b.slots[len(kept):])
	b.slots, b.undecided = kept, live
	if len(kept) > 0 {
		p.holdForResend(b, due)
	} else {
		b.arena = b.arena[:0]
		p.endRequest(b)
	}
	if x.fenced {
		p.fence(err)
	}
	return x.failures
}

// mustResend tells whether a record has to be sent again as it is, because it may be
// stored: now, or by an earlier attempt. It is not if the sink, which looks for
// stored numbers first, has refused this record; if it has refused the call as a
// whole, it may not have looked.
func (p *Producer) mustResend(x *completion, s *slot, v verdict, whole bool) bool {
	return p.opts.ID != "" && v.retry && !x.lost && (v.unknown && v.cause != causeWrongShard || s.inDoubt && whole)
}

// allStored tells whether no record of a request needs anything but its result.
func (p *Producer) allStored(b *request, results []shardlog.PutResult, err error) bool {
	if err != nil {
		return false
	}
	for i := range results {
		if results[i].Err != nil || p.isMisplaced(&b.slots[i], results[i].ShardID) {
			return false
		}
	}
	return true
}

// keepData leaves the data of all entries to who may still be reading it.
func (b *request) keepData() {
	for i := range b.slots {
		for e := b.slots[i].first; e != nil; e = e.nextInSlot {
			e.chunk = nil
		}
	}
}

func cleared(records []shardlog.Record) []shardlog.Record {
	clear(records)
	return records[:0]
}

// onStored gives the entries of a stored record their results.
func (p *Producer) onStored(x *completion, s *slot, r *shardlog.PutResult) {
	p.stats.stored++
	p.stats.storedBytes += uint64(s.size)
	p.stats.recordsPerSlot.add(int64(s.n))
	res := Result{ShardID: r.ShardID, Sequence: r.Sequence, Duplicate: r.Duplicate}
	for e := s.first; e != nil; res.SubSequence++ {
		next := e.nextInSlot
		e.carrier, e.nextInSlot = nil, nil
		if e.state != decided { // else while it was in flight
			if e.queue != nil && e.queue.retryAt > 0 { // an earlier record of the key was refused
				p.stats.reordered++
				x.reordered = x.reordered || !p.strict
				p.strict = true
			}
			res.Attempts = x.stored
			if e.outcome.res.Attempts != nil {
				res.Attempts = append(e.outcome.res.Attempts, x.attempt)
			}
			p.decideInOrder(e, &res, nil)
		}
		e = next
	}
}

// onRefused handles a record that is not to be sent again as it is.
func (p *Producer) onRefused(x *completion, s *slot, v verdict) {
	if v.cause == causeThroughput && s.shard != nil {
		s.shard.limit.onRefused(x.clock)
	}
	// A record with a fault may be one of many in its aggregate.
	apart := v.cause == causeInvalid && s.n > 1 && !v.unknown
	// What may be stored must not be sent under other numbers.
	split := x.split && !(p.opts.ID != "" && s.inDoubt)
	for e := s.first; e != nil; {
		next := e.nextInSlot
		e.carrier, e.nextInSlot = nil, nil
		switch {
		case e.state == decided:
		case split, apart && !x.split:
			e.attempts--
			if e.notAggregated = e.notAggregated || apart; split {
				e.maxSlots = int32((len(x.b.slots) + 1) / 2)
			}
			p.requeue(e)
		default:
			p.onFailed(x, e, v)
		}
		e = next
	}
}

// onFailed handles a failed attempt of e.
func (p *Producer) onFailed(x *completion, e *entry, v verdict) {
	p.recordAttempt(x, e, v)
	retry := v.retry && !(x.lost && e.inDoubt) // whether it is stored cannot be found out any more
	if retry && p.mayRetry(e) {
		x.retried++
		p.stats.retries++
		if pause := p.pause(x, e, v); pause > 0 {
			e.queue.retryAt = max(e.queue.retryAt, x.now+pause)
		}
		p.requeue(e)
		return
	}
	x.failures.failed++
	p.decideInOrder(e, &Result{Attempts: e.outcome.res.Attempts}, e.final(v))
}

// final is the error of an entry that gets no further attempt after v.
func (e *entry) final(v verdict) error {
	if e.inDoubt && !v.unknown {
		return putError(fmt.Errorf("%w of an earlier attempt: %w", shardlog.ErrUnknownOutcome, v.err))
	}
	return putError(v.err)
}

// recordAttempt counts a failed attempt.
func (p *Producer) recordAttempt(x *completion, e *entry, v verdict) {
	x.noteError(v.err)
	p.stats.errors[v.cause]++
	if v.unknown {
		e.inDoubt, e.chunk = true, nil // the sink may still be reading the data
	}
	list := e.outcome.res.Attempts
	if len(list) == maxFailures {
		list = append(make([]Attempt, 0, maxFailures+1), list[1:]...)
	}
	a := x.attempt
	a.Err = v.err
	e.outcome.res.Attempts = append(list, a)
}

func (p *Producer) mayRetry(e *entry) bool {
	return p.fatal == nil && (p.opts.MaxAttempts == 0 || int(e.attempts) < p.opts.MaxAttempts)
}

// pause is how long the next attempt has to wait. A record that went to the
// wrong shard may go to the right one at once when that is known meanwhile.
func (p *Producer) pause(x *completion, e *entry, v verdict) int64 {
	if (v.cause == causeWrongShard || v.cause == causeShardClosed) && p.shards.version > x.b.version {
		return 0
	}
	return int64(backoff.Policy(p.opts.Retry).PauseAt(x.jitter, int(e.attempts), v.err))
}

// onInDoubt handles a record of an identity that may be stored or not. It
// returns when it is to be sent again, and for how many entries: those without
// a result. All stay with it, since its bytes must not change.
func (p *Producer) onInDoubt(x *completion, s *slot, v verdict) (due int64, live int) {
	for e := s.first; e != nil; e = e.nextInSlot {
		if e.state == decided {
			continue
		}
		p.recordAttempt(x, e, v)
		if !p.mayRetry(e) {
			x.failures.failed++
			p.decideInOrder(e, &Result{Attempts: e.outcome.res.Attempts}, e.final(v))
			continue
		}
		x.retried++
		p.stats.retries++
		e.state = awaitsResend
		due = max(due, x.now+p.pause(x, e, v))
		live++
	}
	return due, live
}

// requeue queues an entry for a further attempt.
func (p *Producer) requeue(e *entry) {
	e.state = queued
	e.queue.retries.push(e)
}

// decideInOrder gives an entry its result, unless a callback of an earlier record of
// the key has to come first.
func (p *Producer) decideInOrder(e *entry, res *Result, err error) {
	if l := e.queue; l != nil && e.callback != nil && l.retries.n > 0 {
		e.deliver(&e.outcome, res, err)
		e.state = resultHeld
		l.retries.push(e)
		return
	}
	p.decide(e, res, err)
}

// release ends the use of a key by a request.
func (p *Producer) release(l *keyQueue) {
	l.carrier = nil
	l.entries.prependAll(&l.retries)
	switch {
	case l.entries.n == 0:
		p.dropKeyQueue(l)
	case l.retryAt > 0:
		heap.Push(&p.retries, l)
	default:
		p.runnable.push(l)
	}
}

// verdict says what an error means.
type verdict struct {
	err            error
	retry, unknown bool
	cause          cause
}

var errMisplaced = fmt.Errorf("%w: the aggregate is on a shard that does not hold all of it", shardlog.ErrWrongShard)

// classifyOne says what became of one record of a request.
func (p *Producer) classifyOne(s *slot, r *shardlog.PutResult, x *completion) verdict {
	if r.Err == nil && p.isMisplaced(s, r.ShardID) {
		return verdict{err: errMisplaced, retry: true, unknown: true, cause: causeWrongShard}
	}
	return p.classify(r.Err, x)
}

func (p *Producer) classify(err error, x *completion) verdict {
	if err == nil {
		return verdict{}
	}
	if x.timedOut && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errTimeout)) {
		// The end of a context is no reason to give up if the context is ours.
		err = fmt.Errorf("%w: %w: %v", shardlog.ErrUnknownOutcome, errTimeout, err)
	}
	v := verdict{err: err, retry: shardlog.Retryable(err), unknown: errors.Is(err, shardlog.ErrUnknownOutcome), cause: causeOf(err)}
	switch {
	case x.b.notSent:
		v.unknown = false // of the call that opens the identity
	case x.lost:
		v.retry, v.unknown = true, false
	case v.cause == causeWrongShard || v.cause == causeShardClosed:
		v.retry = v.retry || p.needsShards // another shard may take it
	}
	if v.cause == causePanic {
		v.retry = false // would panic again
	}
	return v
}
