// Package producer writes records to a shardlog.Sink: it gathers them into
// requests, keeps the order of each partition key, retries what may succeed
// later, and gives every record that it took exactly one result.
//
// Requests form by themselves. A lone record goes at once; what arrives while
// a request is in flight gathers and goes when that one returns, so requests
// grow with the load and nothing waits without a reason. The memory is bounded:
// when the buffer is full, writers wait.
//
// Results are exact about what is not known. A record whose result is an error
// that does not match shardlog.ErrUnknownOutcome is not stored. One that does
// match may be stored. A record can be stored twice only if a request ended in
// an unknown outcome and the record was sent again, and not even then with
// Options.ID; or, over a sink that cannot refuse what is on the wrong shard, if
// it was in an aggregate when its shard was split or merged.
package producer

import (
	"context"
	"hash/maphash"
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
	sink        shardlog.Sink
	requests    shardlog.RequestSink // sink, where more than PutRecords is needed
	needsShards bool                 // the shard of each record has to be known
	sendsRanges bool                 // the sink refuses what is on the wrong shard
	fullRequest int                  // as many waiting records fill a request
	learning    chan struct{}        // holds a value while a goroutine asks for the shards
	opening     chan struct{}        // holds a value while a goroutine opens the identity
	opts        Options
	ttl         int64 // nanoseconds; 0 for none
	seed        maphash.Seed
	started     time.Time // what the nanoseconds of now count from
	cancel      context.CancelCauseFunc
	ctx         context.Context // of every request; ends with Close
	finished    chan struct{}   // closed when nothing is left after Shutdown or Close

	// waiters are those of Put that no one uses; entries drop theirs when they
	// tell it the result. They are not shared by producers, because a channel
	// that was made in a bubble of testing/synctest works only there.
	waiters sync.Pool

	callbacks reentry.Goroutines // the one that runs callbacks

	// mu guards everything below. It is never held across a call of the sink,
	// a callback, logging or any other wait.
	mu    sync.Mutex
	state lifeState
	seq   uint64 // number of the last accepted entry

	// Where an accepted entry without a result is: in ready, which holds what
	// arrived, in the key queue of its key, or in a request. Entries in a key queue are
	// older than those of the same key in ready.
	ready          list
	keys           map[uint64]*keyQueue // of every key in flight, in back-off or with waiting entries
	runnable       keyQueueList         // key queues that may go at once
	retries        retryHeap            // key queues that wait for a retry, by when
	age            ageList              // accepted entries without a result, oldest first
	flushUpTo      uint64               // entries up to this number do not linger
	strict         bool                 // at most one record of a key in a request
	wrapsHeaders   bool                 // the sink stores headers only inside aggregates
	inDoubt        resendHeap           // requests without an answer, until they are sent again
	shards         shardMap
	sticky         stickyPlace // where records without a key go
	limitedUntil   int64       // when key queues that wait for a shard's limit may go; 0 without any
	epoch          uint64      // of the identity; 0 before it is opened
	numbers        numbers
	fatal          error    // why the producer ended by itself
	senders        int      // requests in flight or about to be
	withoutQueues  *request // in flight with keys that have no key queues
	lastSentAt     int64    // when the last request was taken
	contendedUntil int64    // until then, most keys are taken to be in use by requests in flight
	starting       int      // of these, those that have not taken their records yet

	// What the bounds of the buffer count: entries that are not finished.
	records   int
	bytes     int64
	waiting   list // entries that wait to be accepted, in order
	undecided int  // accepted entries without a result

	outbox       chain // entries that have a result and wait for their callback
	callbacksRun bool  // a goroutine is running callbacks

	notify   *waiter  // waiters to be told when mu is released
	flushes  []*flush // calls of Flush
	timer    *time.Timer
	wakeAt   int64 // when the timer fires; 0 when it is not set
	stats    counters
	panicked *PanicError // the first of a callback

	freeEntries   *entry
	freeCount     int
	idleSeq       uint64 // seq when nothing was left to do
	freeKeyQueues *keyQueue
	chunk         *chunk // that takes more data
	freeChunks    *chunk
	freeRequests  *request
}

type lifeState uint8

const (
	stateOpen     lifeState = iota
	stateDraining           // Shutdown: nothing new, the rest goes on
	stateClosed             // everything has its result
)

// New makes a producer that writes to sink. It neither calls the sink nor
// starts a goroutine. The slice of records that the sink is given is reused
// once its PutRecords has returned. Opts are copied; nil stands for the defaults. The error
// joins one *shardlog.InvalidError for each option that is out of its limits.
func New(sink shardlog.Sink, opts *Options) (*Producer, error) {
	o, err := resolve(sink, opts)
	if err != nil {
		return nil, err
	}
	p := &Producer{
		sink: sink, opts: o, seed: maphash.MakeSeed(), started: time.Now(),
		finished: make(chan struct{}), keys: make(map[uint64]*keyQueue), strict: o.keepsOrderSingly(sink),
		ttl: max(int64(o.TTL), 0), learning: make(chan struct{}, 1), opening: make(chan struct{}, 1),
		needsShards: o.Aggregation.Enabled || o.Spread || o.Limits != (Limits{}),
		fullRequest: o.MaxBatchRecords,
	}
	p.requests, _ = sink.(shardlog.RequestSink)
	p.wrapsHeaders = !shardlog.CapabilitiesOf(sink).Headers
	p.sendsRanges = o.Aggregation.Enabled && p.requests != nil && shardlog.CapabilitiesOf(sink).RefusesMisrouted
	if a := o.Aggregation; a.Enabled {
		// As many as there may be in a full request; its bytes come first.
		p.fullRequest = 1 << 30
		if a.MaxCount > 0 && a.MaxCount < p.fullRequest/o.MaxBatchRecords {
			p.fullRequest = a.MaxCount * o.MaxBatchRecords
		}
	}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	return p, nil
}

// now is the time in nanoseconds since New, never 0.
func (p *Producer) now() int64 { return int64(time.Since(p.started)) + 1 }

// unlock releases mu and then tells those whose result came meanwhile.
func (p *Producer) unlock() (woken int) {
	w := p.notify
	p.notify = nil
	p.mu.Unlock()
	for w != nil {
		next := w.next
		w.next = nil
		w.ch <- struct{}{} // has room: each waiter is told once
		w = next
		woken++
	}
	return woken
}

// advance starts what the state asks for, after something other than the
// arrival of a record has changed it.
func (p *Producer) advance(now int64) {
	p.admitWaiting(now)
	p.startSender(now)
	if p.outbox.n > 0 && !p.callbacksRun {
		p.callbacksRun = true
		go p.runCallbacks(&delivery{})
	}
	p.planTimer()
	p.finishIfIdle()
}

// finishIfIdle marks the end of a producer that was shut down or closed.
func (p *Producer) finishIfIdle() {
	if p.state == stateOpen || p.records > 0 || p.senders > 0 || p.callbacksRun || p.outbox.n > 0 {
		return
	}
	select {
	case <-p.finished:
		return
	default:
	}
	p.state = stateClosed
	p.disarm()
	p.trim()
	p.cancel(shardlog.ErrClosed)
	close(p.finished)
}
