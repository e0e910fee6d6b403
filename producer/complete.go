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

func (f *failures) note(err error) {
	if f.first == nil {
		f.first = err
	}
}

// ending is a request while it is taken apart.
type ending struct {
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
	x := &ending{b: b, now: p.now(), clock: time.Now(), jitter: rand.Float64()}
	x.attempt = Attempt{Time: b.started, Duration: x.clock.Sub(b.started)}
	x.stored = []Attempt{x.attempt}
	x.timedOut = b.ctx.Err() != nil && errors.Is(context.Cause(b.ctx), errTimeout)
	p.stats.requestTime.add(x.attempt.Duration)
	p.crowded = 0
	x.lost, x.fenced = p.identityLost(b, err)
	whole := p.judge(err, x)
	// A request is refused whole when one of its records has a fault that only
	// the sink knows of. It is found by halving.
	x.split = err != nil && len(b.slots) > 1 && errors.Is(err, shardlog.ErrInvalid) && !whole.unknown
	all := p.allStored(b, results, err)
	if !all {
		p.register(b)
	}
	if b.left {
		b.keepData()
	}
	due, live := int64(0), 0
	kept := b.slots[:0]
	for i := range b.slots {
		s := &b.slots[i]
		var v verdict
		if !all {
			if v = whole; err == nil {
				v = p.judgeOne(s, &results[i], x)
			}
		}
		if v.err == nil {
			p.succeeded(x, s, &results[i])
		} else if s.maybe = s.maybe || v.unknown; p.keep(x, s, v, err != nil) {
			d, n := p.unanswered(x, s, v)
			if n > 0 {
				due, live = max(due, d), live+n
				kept = append(kept, *s)
				continue
			}
		} else {
			p.refused(x, s, v)
		}
		if p.opts.ID != "" {
			p.numbers.settle(s.number)
		}
	}
	b.records, b.ranges, b.numbers = recycled(b.records), b.ranges[:0], b.numbers[:0]
	clear(b.slots[len(kept):])
	b.slots, b.live = kept, live
	if len(kept) > 0 {
		p.park(b, due)
	} else {
		b.arena = b.arena[:0]
		p.endRequest(b)
	}
	if x.fenced {
		p.fence(err)
	}
	return x.failures
}

// keep tells whether a record has to be sent again as it is, because it may be
// stored: now, or by an earlier attempt. It is not if the sink, which looks for
// stored numbers first, has refused this record; if it has refused the call as a
// whole, it may not have looked.
func (p *Producer) keep(x *ending, s *slot, v verdict, whole bool) bool {
	return p.opts.ID != "" && v.retry && !x.lost && (v.unknown && v.cause != causeWrongShard || s.maybe && whole)
}

// allStored tells whether no record of a request needs anything but its result.
func (p *Producer) allStored(b *request, results []shardlog.PutResult, err error) bool {
	if err != nil {
		return false
	}
	for i := range results {
		if results[i].Err != nil || p.misplaced(&b.slots[i], results[i].ShardID) {
			return false
		}
	}
	return true
}

// keepData leaves the data of all entries to who may still be reading it.
func (b *request) keepData() {
	for i := range b.slots {
		for e := b.slots[i].first; e != nil; e = e.mate {
			e.chunk = nil
		}
	}
}

func recycled(records []shardlog.Record) []shardlog.Record {
	clear(records)
	return records[:0]
}

// succeeded gives the entries of a stored record their results.
func (p *Producer) succeeded(x *ending, s *slot, r *shardlog.PutResult) {
	p.stats.records++
	p.stats.recordBytes += uint64(s.size)
	p.stats.userRecords.add(int64(s.n))
	res := Result{ShardID: r.ShardID, Sequence: r.Sequence, Duplicate: r.Duplicate}
	for e := s.first; e != nil; res.SubSequence++ {
		next := e.mate
		e.req, e.mate = nil, nil
		if e.state != decided { // else while it was in flight
			if e.lane != nil && e.lane.due > 0 { // an earlier record of the key was refused
				p.stats.reordered++
				x.reordered = x.reordered || !p.strict
				p.strict = true
			}
			res.Attempts = x.stored
			if e.out.res.Attempts != nil {
				res.Attempts = append(e.out.res.Attempts, x.attempt)
			}
			p.conclude(e, &res, nil)
		}
		e = next
	}
}

// refused handles a record that is not to be sent again as it is.
func (p *Producer) refused(x *ending, s *slot, v verdict) {
	if v.cause == causeThroughput && s.shard != nil {
		s.shard.limit.refused(x.clock)
	}
	// A record with a fault may be one of many in its aggregate.
	apart := v.cause == causeInvalid && s.n > 1 && !v.unknown
	// What may be stored must not be sent under other numbers.
	split := x.split && !(p.opts.ID != "" && s.maybe)
	for e := s.first; e != nil; {
		next := e.mate
		e.req, e.mate = nil, nil
		switch {
		case e.state == decided:
		case split, apart && !x.split:
			e.attempts--
			if e.solo = e.solo || apart; split {
				e.alone = int32((len(x.b.slots) + 1) / 2)
			}
			p.again(e)
		default:
			p.failed(x, e, v)
		}
		e = next
	}
}

// failed handles a failed attempt of e.
func (p *Producer) failed(x *ending, e *entry, v verdict) {
	p.attempted(x, e, v)
	retry := v.retry && !(x.lost && e.maybe) // whether it is stored cannot be found out any more
	if retry && p.mayRetry(e) {
		x.retried++
		p.stats.retries++
		if pause := p.pause(x, e, v); pause > 0 {
			e.lane.due = max(e.lane.due, x.now+pause)
		}
		p.again(e)
		return
	}
	x.failures.failed++
	p.conclude(e, &Result{Attempts: e.out.res.Attempts}, e.final(v))
}

// final is the error of an entry that gets no further attempt after v.
func (e *entry) final(v verdict) error {
	if e.maybe && !v.unknown {
		return putError(fmt.Errorf("%w of an earlier attempt: %w", shardlog.ErrUnknownOutcome, v.err))
	}
	return putError(v.err)
}

// attempted counts a failed attempt.
func (p *Producer) attempted(x *ending, e *entry, v verdict) {
	x.note(v.err)
	p.stats.errors[v.cause]++
	if v.unknown {
		e.maybe, e.chunk = true, nil // the sink may still be reading the data
	}
	list := e.out.res.Attempts
	if len(list) == maxFailures {
		list = append(make([]Attempt, 0, maxFailures+1), list[1:]...)
	}
	a := x.attempt
	a.Err = v.err
	e.out.res.Attempts = append(list, a)
}

func (p *Producer) mayRetry(e *entry) bool {
	return p.ended == nil && (p.opts.MaxAttempts == 0 || int(e.attempts) < p.opts.MaxAttempts)
}

// pause is how long the next attempt has to wait. A record that went to the
// wrong shard may go to the right one at once when that is known meanwhile.
func (p *Producer) pause(x *ending, e *entry, v verdict) int64 {
	if (v.cause == causeWrongShard || v.cause == causeShardClosed) && p.shards.version > x.b.version {
		return 0
	}
	return int64(backoff.Policy(p.opts.Retry).PauseAt(x.jitter, int(e.attempts), v.err))
}

// unanswered handles a record of an identity that may be stored or not. It
// returns when it is to be sent again, and for how many entries: those without
// a result. All stay with it, since its bytes must not change.
func (p *Producer) unanswered(x *ending, s *slot, v verdict) (due int64, live int) {
	for e := s.first; e != nil; e = e.mate {
		if e.state == decided {
			continue
		}
		p.attempted(x, e, v)
		if !p.mayRetry(e) {
			x.failures.failed++
			p.conclude(e, &Result{Attempts: e.out.res.Attempts}, e.final(v))
			continue
		}
		x.retried++
		p.stats.retries++
		e.state = parked
		due = max(due, x.now+p.pause(x, e, v))
		live++
	}
	return due, live
}

// again queues an entry for a further attempt.
func (p *Producer) again(e *entry) {
	e.state = queued
	e.lane.retry.push(e)
}

// conclude gives an entry its result, unless a callback of an earlier record of
// the key has to come first.
func (p *Producer) conclude(e *entry, res *Result, err error) {
	if l := e.lane; l != nil && e.done != nil && l.retry.n > 0 {
		e.deliver(&e.out, res, err)
		e.state = settled
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

// verdict says what an error means.
type verdict struct {
	err            error
	retry, unknown bool
	cause          cause
}

var errMisplaced = fmt.Errorf("%w: the aggregate is on a shard that does not hold all of it", shardlog.ErrWrongShard)

// judgeOne says what became of one record of a request.
func (p *Producer) judgeOne(s *slot, r *shardlog.PutResult, x *ending) verdict {
	if r.Err == nil && p.misplaced(s, r.ShardID) {
		return verdict{err: errMisplaced, retry: true, unknown: true, cause: causeWrongShard}
	}
	return p.judge(r.Err, x)
}

func (p *Producer) judge(err error, x *ending) verdict {
	if err == nil {
		return verdict{}
	}
	if x.timedOut && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errTimeout)) {
		// The end of a context is no reason to give up if the context is ours.
		err = fmt.Errorf("%w: %w: %v", shardlog.ErrUnknownOutcome, errTimeout, err)
	}
	v := verdict{err: err, retry: shardlog.Retryable(err), unknown: errors.Is(err, shardlog.ErrUnknownOutcome), cause: causeOf(err)}
	switch {
	case x.b.unsent:
		v.unknown = false // of the call that opens the identity
	case x.lost:
		v.retry, v.unknown = true, false
	case v.cause == causeWrongShard || v.cause == causeShardClosed:
		v.retry = v.retry || p.predict // another shard may take it
	}
	if v.cause == causePanic {
		v.retry = false // would panic again
	}
	return v
}
