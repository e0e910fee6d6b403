package consumer

import (
	"context"
	"errors"
	"iter"
)

// Batches is Run as an iterator, for a program that has a loop and no handler:
//
//	for b, err := range c.Batches(ctx) {
//		if err != nil {
//			return err
//		}
//		...
//	}
//
// A batch is acknowledged, and with that checkpointed, when the loop asks for
// the next one. The batches of a shard come in order; those of all shards come
// one at a time, so a slow loop holds all of them. The shard of a
// batch may be lost while the loop is busy with it: Batch.Leaving is closed then,
// and what Batch.Checkpoint has stored stays stored.
//
// The loop ends when ctx does, and after Shutdown and Close, with the errors
// that Run would return as its last element, if any. A break, a return, and a
// panic in the loop's body end the consumer as a shutdown does, and wait for
// it. The batch at hand is not acknowledged then: it comes again to the next
// worker, except what Batch.Checkpoint or CheckpointIn has stored. Errors of
// that shutdown go to Options.OnEvent and Logger only.
//
// A loop cannot refuse a batch, so the options for failures do not apply to it:
// it handles errors itself, or breaks. In the loop's body the consumer's methods
// act as inside a handler: Shutdown does not wait.
//
// Like Run, it can be used once.
func (c *Consumer) Batches(ctx context.Context) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		l := &loop{offers: make(chan offer), ended: make(chan struct{})}
		r, err := c.begin(ctx, HandlerFunc(l.handle))
		if err != nil {
			yield(nil, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		result := make(chan error, 1)
		go func() { result <- c.finish(ctx, r) }()
		// Also when the body panics or ends its goroutine.
		defer func() {
			cancel()
			r.stop(c.opts.ShutdownTimeout) // before the batch at hand could come again
			close(l.ended)
			<-r.done
		}()
		guarded := func(b *Batch, err error) bool {
			defer r.goroutines.Leave(r.goroutines.Enter())
			return yield(b, err)
		}
		for {
			select {
			case o := <-l.offers:
				if !guarded(o.b, nil) {
					return
				}
				close(o.acknowledged)
			case err := <-result:
				if err != nil {
					yield(nil, err)
				}
				return
			}
		}
	}
}

// errNotAcknowledged: the loop ended, or the shard has to be given back, before
// the loop asked for the batch after this one.
var errNotAcknowledged = errors.New("the batch was not acknowledged")

// loop hands batches from the goroutines of the shards to the one of the loop.
type loop struct {
	offers chan offer
	ended  chan struct{} // closed when the loop asks for no more
}

// offer is a batch that waits for the loop.
type offer struct {
	b            *Batch
	acknowledged chan struct{}
}

// handle returns nil when the loop has acknowledged the batch.
func (l *loop) handle(ctx context.Context, b *Batch) error {
	o := offer{b: b, acknowledged: make(chan struct{})}
	select {
	case l.offers <- o:
	case <-b.task.leaving: // nobody has seen it, so the shard need not wait
		return errNotAcknowledged
	case <-l.ended:
		return errNotAcknowledged
	}
	// The context is not observed: the loop has the batch, and may store
	// checkpoints of it for as long as the consumer waits.
	select {
	case <-o.acknowledged:
		return nil
	case <-l.ended:
		return errNotAcknowledged
	}
}
