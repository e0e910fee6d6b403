package kinesisapi

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/shardlog/shardlog/internal/awswire"
)

// resubscribe is how long after its beginning a subscription cannot be taken
// over by another of the same consumer (API reference, SubscribeToShard).
const resubscribe = 5 * time.Second

// subscriptionKey is what there may be one subscription of.
type subscriptionKey struct {
	consumer string // end of its ARN
	shard    uint32
}

// subscription is one that is open, or was opened within the last five seconds.
type subscription struct {
	began  awswire.Moment
	cancel context.CancelCauseFunc
}

var (
	errTakenOver = errors.New("taken over by another subscription")
	errDeleted   = errors.New("the stream or the consumer was deleted")
	errClosed    = errors.New("the endpoint was closed")
)

// subscriptionSet has the subscriptions of a stream. It is safe for concurrent
// use.
type subscriptionSet struct {
	mu   sync.Mutex
	open map[subscriptionKey]*subscription
}

// enter registers a subscription, and ends the one that it takes over.
func (ss *subscriptionSet) enter(key subscriptionKey, clock *awswire.Clock, cancel context.CancelCauseFunc) (*subscription, bool) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if old := ss.open[key]; old != nil {
		if clock.Since(old.began) < resubscribe {
			return nil, false
		}
		old.cancel(errTakenOver)
	}
	sub := &subscription{clock.Moment(), cancel}
	ss.open[key] = sub
	return sub, true
}

// leave forgets a subscription that is over. One that its client has ended keeps
// its place until it could be taken over: AWS does not notice immediately that
// a client is gone.
func (ss *subscriptionSet) leave(key subscriptionKey, sub *subscription, clock *awswire.Clock) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.open[key] == sub && clock.Since(sub.began) >= resubscribe {
		delete(ss.open, key)
	}
}

// endAll ends all subscriptions of a stream that goes away.
func (ss *subscriptionSet) endAll() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for key, sub := range ss.open {
		sub.cancel(errDeleted)
		delete(ss.open, key)
	}
}

// endConsumer ends the subscriptions of a consumer.
func (ss *subscriptionSet) endConsumer(suffix string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for key, sub := range ss.open {
		if key.consumer == suffix {
			sub.cancel(errDeleted)
			delete(ss.open, key)
		}
	}
}
