// Package producer writes records to a shardlog.Sink: it gathers them into
// requests, keeps the order of each partition key, retries what may succeed
// later, and gives every record that it accepted exactly one result.
//
// Requests form by themselves. A lone record goes immediately; what arrives
// while a request is in flight gathers and goes when that one returns, so
// requests grow with the load and nothing waits without a reason. The memory is
// bounded: when the buffer is full, writers wait.
//
// Results are exact about what is not known. A record whose result is an error
// that does not match shardlog.ErrUnknownOutcome is not stored, and will not be.
// One that does match may be stored, or may be later. A record can be stored
// twice only if a request ended in an unknown outcome and the record was sent
// again, and not even then with Options.ID; or, over a sink that cannot refuse
// what is on the wrong shard, if it was in an aggregate when its shard was split
// or merged.
package producer

import (
	"context"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/reentry"
)

// Producer puts records on a sink. Make one with New, and end it with Shutdown
// or Close; one for each sink in a process is enough, and forms the largest
// requests. Its methods are safe for concurrent use, also from inside the
// callbacks that PutAsync and TryPut take.
//
// A Producer has no goroutine while nothing is pending.
type Producer struct {
	conf     config
	sink     shardlog.Sink
	requests shardlog.RequestSink // sink, where more than PutRecords is needed
	encoded  encodedSink          // sink, if it takes encoded records
	ctx      context.Context      // of every request; ends with Close
	cancel   context.CancelCauseFunc
	finished chan struct{} // closed when nothing is left after Shutdown or Close

	// Tokens: each holds a value while a goroutine does what its name says, so
	// that one at a time asks the sink. A goroutine takes mu only for moments
	// while it has a token, and waits for none with mu held.
	learning chan struct{}
	opening  chan struct{}

	// waiters are those that no Put uses. They are not shared by producers,
	// because a channel that was made in a bubble of testing/synctest works
	// only there.
	waiters sync.Pool

	callbacks reentry.Goroutines // the one that runs callbacks

	// mu guards what follows. It is never held across a call of the sink, a
	// callback, logging or any other wait. It is released with unlock.
	mu       sync.Mutex
	core     core
	timer    *time.Timer
	panicked *PanicError // the first one of a callback or the logger
}

// New makes a producer that writes to sink. It neither calls the sink nor
// starts a goroutine. The slice of records that the sink gets is reused once its
// PutRecords has returned. Opts are copied; nil stands for the defaults. The
// error joins one *shardlog.InvalidError for each option that is out of its
// limits, and matches shardlog.ErrUnsupported if the sink lacks what an option
// needs.
func New(sink shardlog.Sink, opts *Options) (*Producer, error) {
	o, err := resolve(sink, opts)
	if err != nil {
		return nil, err
	}
	p := &Producer{
		conf: newConfig(sink, o), sink: sink, finished: make(chan struct{}),
		learning: make(chan struct{}, 1), opening: make(chan struct{}, 1),
	}
	p.requests, _ = sink.(shardlog.RequestSink)
	p.encoded = encodedSinkOf(sink)
	p.core = newCore(&p.conf, time.Now())
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	return p, nil
}

// now returns the time in nanoseconds since New, never 0.
func (p *Producer) now() int64 { return int64(time.Since(p.core.start)) + 1 }

// unlock releases mu and carries out the effects of what happened under it. It
// returns how many calls it notified.
func (p *Producer) unlock() (notified int) {
	if p.core.effects == (effects{}) {
		p.mu.Unlock()
		return 0
	}
	fx := p.core.effects
	p.core.effects = effects{}
	if fx.timer {
		p.setTimerLocked(p.core.sched.wakeAt) // under mu, so that the last change wins
	}
	p.mu.Unlock()
	for w := fx.notify; w != nil; notified++ {
		next := w.next
		w.next = nil
		w.ch <- struct{}{} // has room: each waiter is notified once
		w = next
	}
	for range fx.senders {
		go p.runSender(nil, true)
	}
	if fx.callbacks {
		go p.runCallbacks(delivery{})
	}
	if fx.cancel {
		p.cancel(shardlog.ErrClosed)
	}
	if fx.finished {
		close(p.finished)
	}
	return notified
}

// setTimerLocked makes the timer fire at a time; 0 stops it. The caller holds mu.
func (p *Producer) setTimerLocked(at int64) {
	d := time.Duration(at - p.now())
	switch {
	case at == 0 && p.timer != nil:
		p.timer.Stop()
	case at == 0:
	case p.timer == nil:
		p.timer = time.AfterFunc(d, p.onTimer)
	default:
		p.timer.Reset(d)
	}
}

func (p *Producer) onTimer() {
	p.mu.Lock()
	defer p.unlock()
	p.core.onTimer(p.now())
}

// Stats returns the state of the producer. It does not block.
func (p *Producer) Stats() Stats {
	p.mu.Lock()
	s := p.core.snapshot(p.now())
	counted := p.core.stats.errors
	p.unlock()
	s.setErrors(&counted)
	return s
}
