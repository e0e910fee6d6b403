package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/once"
)

// Bounds of what a stream keeps of producers.
const (
	// ProducerExpiry is how long an identity that nobody uses is kept: 7 days.
	// Requests of a producer that was idle for longer get shardlog.ErrNotFound;
	// it may open its identity again. Kafka forgets its producers after as long
	// (transactional.id.expiration.ms).
	ProducerExpiry = once.Expiry
	// MaxProducers is how many identities a stream keeps: 10,000. When there are
	// more, those idle for longest are forgotten, if that is at least an hour.
	MaxProducers = once.MaxIdentities
)

// onceStream is what package once has to know of the stream.
func (st *Stream) onceStream() *once.Stream {
	return &once.Stream{
		Log: st.db.log, ID: st.id, Name: st.name,
		Window: func() time.Duration { return st.meta.Load().DedupWindow },
		Lost:   st.lost,
		Warn:   st.db.warn,
	}
}

// lost reports whether the record with a number was lost in a power failure.
func (st *Stream) lost(n shardlog.SequenceNumber) bool {
	index, _ := n.Shard()
	counter, _ := n.Counter()
	sh := st.routes.Load().find(shardlog.ShardID(index))
	return sh != nil && sh.s.Lost(counter)
}

// OpenProducer implements shardlog.RequestSink. It blocks until the new epoch
// is on disk, whatever the Durability. Epochs are given out by the stream, from a random
// one on, and none is ever used again, not even for an identity that was
// forgotten (see ProducerExpiry and MaxProducers), or in another stream of the
// name.
//
// Errors match shardlog.ErrInvalid, ErrNotFound if the stream was deleted,
// ErrNoSpace, ErrClosed, or shardlog.ErrUnknownOutcome if ctx ends or the
// storage fails while the epoch is being stored: the identity may have been
// taken over then, or may be taken over later.
func (st *Stream) OpenProducer(ctx context.Context, id string) (epoch uint64, err error) {
	const op = "open producer"
	if err := st.enter(ctx, op); err != nil {
		return 0, err
	}
	if err := shardlog.ValidateProducerID(id); err != nil {
		return 0, st.fail(op, "", err)
	}
	for {
		epoch, wait, err := st.openProducer(ctx, id)
		if err != nil {
			return 0, st.fail(op, "", err)
		}
		if wait == nil {
			// An epoch that is lost in a power failure would be given out twice.
			if err := st.db.syncNow(); err != nil {
				return 0, st.fail(op, "", fmt.Errorf("%w: %w", shardlog.ErrUnknownOutcome, err))
			}
			return epoch, nil
		}
		if err := st.await(ctx, wait); err != nil {
			return 0, st.fail(op, "", err)
		}
	}
}

// openProducer is one attempt; it returns what to wait for before the next.
func (st *Stream) openProducer(ctx context.Context, id string) (epoch uint64, wait <-chan struct{}, err error) {
	if err := st.shape.RLock(ctx); err != nil {
		return 0, nil, err
	}
	defer st.shape.RUnlock()
	if st.deleted.Load() {
		return 0, nil, shardlog.ErrNotFound
	}
	return st.producers.Open(ctx, id)
}

// expireProducers forgets identities that were not used for long; it returns
// how long there will be no others.
func (st *Stream) expireProducers(ctx context.Context) (time.Duration, error) {
	over, next := st.producers.Expired()
	for _, p := range over {
		if err := st.forgetProducer(ctx, p); err != nil {
			return 0, err
		}
	}
	return next, nil
}

func (st *Stream) forgetProducer(ctx context.Context, p *once.Identity) error {
	if err := st.shape.RLock(ctx); err != nil {
		return err
	}
	defer st.shape.RUnlock()
	if st.deleted.Load() {
		return shardlog.ErrNotFound
	}
	_, err := st.producers.Forget(ctx, p) // if it is in use it is not idle
	return err
}

// begin makes st ready for calls once the log of its database is open.
func (st *Stream) begin(r *routes) {
	st.routes.Store(r)
	of := st.onceStream()
	st.producers, st.dedup = once.NewIdentities(of), once.NewIDs(of)
}
