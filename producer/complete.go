package producer

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/backoff"
)

// failures are the failed records of a request, for the log.
type failures struct {
	retried, failed int
	reordered       bool  // the sink broke the order, for the first time
	fenced          bool  // the identity was taken over
	first           error // of a record
}

func (f *failures) noteError(err error) {
	if f.first == nil {
		f.first = err
	}
}

// completion is the work of giving the records of a request their outcome.
type completion struct {
	*core
	b       *request
	now     int64
	jitter  float64 // one for all, so that what fails together is retried together
	attempt Attempt
	stored  []Attempt // of records whose first attempt succeeded; they share it
	split   bool      // the sink refuses the whole because of one record
	lost    bool      // the sink has forgotten the identity
	failures
}

// complete handles the answer to a request, which is in it: every record gets
// its result or waits for a retry. With an identity, a request is kept as long
// as the outcome of some of its records is not known, and these are sent again
// as they are, which stores none twice.
func (c *core) complete(b *request, now int64) failures {
	x := &completion{core: c, b: b, now: now, jitter: rand.Float64()}
	x.attempt = Attempt{Time: b.started, Duration: b.duration}
	x.stored = []Attempt{x.attempt}
	c.stats.requestTime.add(b.duration)
	c.sched.noteRequestTime(b.duration)
	c.sched.contendedUntil = 0
	x.lost, x.fenced = x.identityLost()
	whole := x.classify(b.err)
	// A request is refused whole when one of its records has a fault that only
	// the sink knows of. It is found by halving.
	x.split = b.err != nil && b.size() > 1 && errors.Is(b.err, shardlog.ErrInvalid) && !whole.unknown
	if b.sinkMayRead {
		b.keepData()
	}
	switch stored := x.allStored(); {
	case stored && b.isPacked():
		x.onPackedStored()
	case stored:
		x.onAllStored()
	default:
		c.createQueues(b) // some records may be retried
		err := b.err
		x.handleEach(whole)
		if x.fenced {
			c.fence(err)
		}
	}
	return x.failures
}

// onAllStored ends a request all of whose records are stored.
func (x *completion) onAllStored() {
	for i := range x.b.slots {
		s := &x.b.slots[i]
		x.onStored(s, &x.b.results[i])
		if x.conf.ID != "" {
			x.flight.numbers.retire(s.number)
		}
	}
	x.b.clearRecords()
	x.b.arena = x.b.arena[:0]
	x.endRequest(x.b)
}

// handleEach deals with the slots of a request one by one. Whole is the verdict
// on all of them if the call failed.
func (x *completion) handleEach(whole verdict) {
	b := x.b
	resendAt, undecided := int64(0), 0
	kept := b.slots[:0]
	for i := range b.slots {
		s := &b.slots[i]
		v := whole
		if b.err == nil {
			v = x.classifyOne(s, &b.results[i])
		}
		if at, n := x.handle(s, i, v); n > 0 {
			resendAt, undecided = max(resendAt, at), undecided+n
			kept = append(kept, *s)
		} else if x.conf.ID != "" {
			x.flight.numbers.retire(s.number)
		}
	}
	b.clearRecords()
	clear(b.slots[len(kept):])
	b.slots, b.undecided = kept, undecided
	if len(kept) > 0 {
		x.flight.holdForResend(b, resendAt)
	} else {
		b.arena = b.arena[:0]
		x.endRequest(b)
	}
}

// handle deals with the i-th slot of the request after a verdict. It returns for
// how many entries the slot has to be sent again as it is, and when; 0 if it has
// not.
func (x *completion) handle(s *slot, i int, v verdict) (resendAt int64, undecided int) {
	if v.err == nil {
		x.onStored(s, &x.b.results[i])
		return 0, 0
	}
	s.inDoubt = s.inDoubt || v.unknown
	if x.mustResend(s, v) {
		return x.onInDoubt(s, v)
	}
	x.onRefused(s, v)
	return 0, 0
}

// mustResend reports whether a slot has to be sent again as it is, because it
// may be stored: now, or by an earlier attempt. It does not if the sink, which
// looks for stored numbers first, has refused this very record; if it has
// refused the call as a whole, it may not have looked.
func (x *completion) mustResend(s *slot, v verdict) bool {
	return x.conf.ID != "" && v.retry && !x.lost && (v.unknown && v.cause != causeWrongShard || s.inDoubt && x.b.err != nil)
}

// allStored reports whether the records of the request need nothing but their
// results.
func (x *completion) allStored() bool {
	if x.b.err != nil {
		return false
	}
	for i := range x.b.results {
		if r := &x.b.results[i]; r.Err != nil || x.b.page == nil && x.isMisplaced(&x.b.slots[i], r) {
			return false
		}
	}
	return true
}

// onStored gives the entries of a stored slot their results.
func (x *completion) onStored(s *slot, r *shardlog.PutResult) {
	x.stats.stored++
	x.stats.storedBytes += uint64(s.size)
	x.stats.recordsPerSlot.add(int64(s.n))
	res := Result{ShardID: r.ShardID, Sequence: r.Sequence, Duplicate: r.Duplicate}
	for e := s.first; e != nil; res.SubSequence++ {
		next := e.nextInSlot
		e.carrier, e.nextInSlot = nil, nil
		if e.state != decided { // it may have been while it was in flight
			if e.queue != nil && e.queue.retryAt > 0 { // an earlier record of the key was refused
				x.stats.reordered++
				x.reordered = x.reordered || !x.strict
				x.strict = true
			}
			res.Attempts = x.stored
			if e.outcome.res.Attempts != nil {
				res.Attempts = append(e.outcome.res.Attempts, x.attempt)
			}
			x.decideInOrder(e, &res, nil)
		}
		e = next
	}
}

// onRefused handles a slot that is not to be sent again as it is.
func (x *completion) onRefused(s *slot, v verdict) {
	if v.cause == causeThroughput && s.shard != nil {
		s.shard.limit.onRefused(x.clock(x.now))
	}
	// A record with a fault may be one of many in its aggregate.
	apart := v.cause == causeInvalid && s.n > 1 && !v.unknown
	// What may be stored must not be sent under other numbers.
	split := x.split && !(x.conf.ID != "" && s.inDoubt)
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
			requeue(e)
		default:
			x.onFailed(e, v)
		}
		e = next
	}
}

// onFailed handles a failed attempt of e.
func (x *completion) onFailed(e *entry, v verdict) {
	x.recordAttempt(e, v)
	retry := v.retry && !(x.lost && e.inDoubt) // whether it is stored cannot be found out any more
	if retry && x.mayRetry(e) {
		x.retried++
		x.stats.retries++
		if pause := x.pause(e, v); pause > 0 {
			e.queue.retryAt = max(e.queue.retryAt, x.now+pause)
		}
		requeue(e)
		return
	}
	x.failures.failed++
	x.decideInOrder(e, &Result{Attempts: e.outcome.res.Attempts}, e.finalError(v))
}

// onInDoubt handles a slot of a request with an identity that may be stored or
// not. It returns when it is to be sent again, and for how many entries: those
// without a result. All entries stay in it, because its bytes must not change.
func (x *completion) onInDoubt(s *slot, v verdict) (resendAt int64, undecided int) {
	for e := s.first; e != nil; e = e.nextInSlot {
		if e.state == decided {
			continue
		}
		x.recordAttempt(e, v)
		if !x.mayRetry(e) {
			x.failures.failed++
			x.decideInOrder(e, &Result{Attempts: e.outcome.res.Attempts}, e.finalError(v))
			continue
		}
		x.retried++
		x.stats.retries++
		e.state = awaitsResend
		resendAt = max(resendAt, x.now+x.pause(e, v))
		undecided++
	}
	return resendAt, undecided
}

// recordAttempt counts a failed attempt.
func (x *completion) recordAttempt(e *entry, v verdict) {
	x.noteError(v.err)
	x.stats.errors[v.cause]++
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

func (x *completion) mayRetry(e *entry) bool {
	return x.fatal == nil && (x.conf.MaxAttempts == 0 || int(e.attempts) < x.conf.MaxAttempts)
}

// pause returns how long the next attempt has to wait. A record that went to
// the wrong shard may go to the right one immediately if that is known by now.
func (x *completion) pause(e *entry, v verdict) int64 {
	if (v.cause == causeWrongShard || v.cause == causeShardClosed) && x.shards.version > x.b.version {
		return 0
	}
	return int64(backoff.Policy(x.conf.Retry).PauseAt(x.jitter, int(e.attempts), v.err))
}

// requeue queues an entry for another attempt.
func requeue(e *entry) {
	e.state = queued
	e.queue.retries.push(e)
}

// decideInOrder gives an entry its result, unless a callback of an earlier
// record of the key has to come first.
func (x *completion) decideInOrder(e *entry, res *Result, err error) {
	if q := e.queue; q != nil && e.callback != nil && q.retries.n > 0 {
		e.deliver(&e.outcome, res, err)
		e.state = resultHeld
		q.retries.push(e)
		return
	}
	x.decide(e, res, err)
}

// finalError returns the error of an entry that gets no further attempt after v.
func (e *entry) finalError(v verdict) error {
	if e.inDoubt && !v.unknown {
		return putError(fmt.Errorf("%w of an earlier attempt: %w", shardlog.ErrUnknownOutcome, v.err))
	}
	return putError(v.err)
}
