package producer

import (
	"context"
	"errors"

	"github.com/shardlog/shardlog"
)

// openIdentity opens the producer's identity before the first request, and returns
// its epoch. It is called without mu; one call at a time asks the sink.
func (p *Producer) openIdentity(ctx context.Context) (uint64, error) {
	select {
	case p.opening <- struct{}{}:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { <-p.opening }()
	p.mu.Lock()
	epoch := p.epoch
	p.unlock()
	if epoch != 0 {
		return epoch, nil
	}
	epoch, err := p.requests.OpenProducer(ctx, p.opts.ID)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	p.epoch = epoch
	p.unlock()
	return epoch, nil
}

// onIdentityError handles what an error of a request says of the identity.
// Forgotten tells that the sink knows nothing of it any more, which it may do
// after a long time without a request: it is opened again then.
func (p *Producer) onIdentityError(b *request, err error) (forgotten, fenced bool) {
	if p.opts.ID == "" || b.notSent || err == nil {
		return false, false
	}
	current := p.epoch == b.epoch
	switch {
	case errors.Is(err, shardlog.ErrFenced):
		// By nobody else, if the identity was opened again meanwhile.
		return !current, current
	case errors.Is(err, shardlog.ErrNotFound):
		if current {
			p.epoch = 0
		}
		return true, false
	}
	return false, false
}

// fence ends a producer whose identity another one has taken over. What is at
// the sink gets its result from there.
func (p *Producer) fence(err error) {
	if p.fatal != nil {
		return
	}
	p.fatal = err
	if p.state == stateOpen {
		p.state = stateDraining
	}
	p.refuseWaiting()
	for e := p.age.oldest; e != nil; {
		next := e.younger
		switch {
		case e.state == inRequest:
		case e.state == resultHeld:
			p.decide(e, &e.outcome.res, e.outcome.err)
		case e.inDoubt:
			p.decide(e, &Result{}, putError(both(shardlog.ErrUnknownOutcome, err)))
		default:
			p.decide(e, &Result{}, putError(err))
		}
		e = next
	}
}
