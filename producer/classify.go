package producer

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
)

// verdict is what an error means for a record.
type verdict struct {
	err     error // nil if the record is stored
	retry   bool  // another attempt may succeed
	unknown bool  // the record may be stored
	cause   cause
}

var errMisplaced = fmt.Errorf("%w: the aggregate is on a shard that does not hold all of it", shardlog.ErrWrongShard)

// classifyOne returns the verdict on one record of a request.
func (x *completion) classifyOne(s *slot, r *shardlog.PutResult) verdict {
	if r.Err == nil && x.isMisplaced(s, r) {
		return verdict{err: errMisplaced, retry: true, unknown: true, cause: causeWrongShard}
	}
	return x.classify(r.Err)
}

// classify returns the verdict that an error of the sink gives.
func (x *completion) classify(err error) verdict {
	if err == nil {
		return verdict{}
	}
	if x.b.timedOut && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errTimeout)) {
		// The end of a context is no reason to give up if the context is ours.
		err = fmt.Errorf("%w: %w: %v", shardlog.ErrUnknownOutcome, errTimeout, err)
	}
	v := verdict{err: err, retry: shardlog.Retryable(err), unknown: errors.Is(err, shardlog.ErrUnknownOutcome), cause: causeOf(err)}
	switch {
	case x.b.notSent:
		v.unknown = false // of the call that opens the identity, not of the records
	case x.lost:
		v.retry, v.unknown = true, false
	case v.cause == causeWrongShard || v.cause == causeShardClosed:
		v.retry = v.retry || x.conf.needsShards // another shard may take it
	}
	if v.cause == causePanic {
		v.retry = false // would panic again
	}
	return v
}

// isMisplaced reports whether a slot is stored where readers drop some of it.
// Sinks that are given ranges refuse that themselves.
func (x *completion) isMisplaced(s *slot, r *shardlog.PutResult) bool {
	return !x.conf.sendsRanges && s.isMisplaced(&x.shards, r)
}

// identityLost handles what an error of a request says of the identity.
// Forgotten means that the sink knows nothing of it any more, which may happen
// after a long time without a request: then it is opened again.
func (x *completion) identityLost() (forgotten, fenced bool) {
	b, err := x.b, x.b.err
	if x.conf.ID == "" || b.notSent || err == nil {
		return false, false
	}
	current := x.flight.epoch == b.epoch
	switch {
	case errors.Is(err, shardlog.ErrFenced):
		// If the identity was opened again meanwhile, that is what fenced the
		// request, and no other producer.
		return !current, current
	case errors.Is(err, shardlog.ErrNotFound):
		if current {
			x.flight.epoch = 0
		}
		return true, false
	}
	return false, false
}
