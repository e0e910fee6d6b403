package producer

import (
	"time"

	"github.com/shardlog/shardlog"
)

// core is the state of a Producer, and the rules by which it changes.
//
// The caller of every method of it, and of its parts, holds Producer.mu. None
// of them locks, waits, starts a goroutine, reads a clock, or calls a function
// of the user. The time is an argument: nanoseconds since New, never 0. What
// has to happen outside the lock is noted in effects, which Producer.unlock
// carries out. So every rule can be tested without a goroutine.
//
// Each part owns what its type names:
//
//   - buffer: the records, their memory, their bounds, and their age
//   - keys: the order of each partition key
//   - flight: requests at the sink and in doubt, numbers, the identity's epoch
//   - sched: when the next request is due
//   - shards, sticky: the sink's shards, and the place of records without a key
//   - outbox: results that wait for their callback
type core struct {
	conf  *config
	start time.Time // what the nanoseconds count from

	life  lifeState
	ended bool  // nothing is left after Shutdown or Close
	fatal error // why the producer has ended by itself

	// strict is set when a request may have one record of a key only: by the
	// configuration, or because the sink was seen to break the order.
	strict bool

	buffer  buffer
	keys    keyQueues
	flight  inFlight
	sched   schedule
	shards  shardMap
	sticky  stickyPlace
	outbox  outbox
	stats   counters
	effects effects
}

// lifeState is how far a producer is.
type lifeState uint8

const (
	stateOpen     lifeState = iota
	stateDraining           // Shutdown: takes nothing new, the rest is sent
	stateClosed             // everything has its result
)

// schedule is when what is due. Times are in nanoseconds since New.
type schedule struct {
	flushUpTo      uint64 // entries up to this number do not linger
	lastSentAt     int64  // when the last request was given to a sender
	usualTime      int64  // of a request, smoothed
	contendedUntil int64  // most keys that are ready are taken to be in requests
	limitedUntil   int64  // key queues that wait for a shard's limit; 0 without any
	wakeAt         int64  // when the timer fires; 0 when it is not set
	idleSeq        uint64 // buffer.seq when nothing was left to do
}

// effects are what follows from a change of the core and is not done under the
// lock.
type effects struct {
	notify    *waiter // calls whose records all have their results
	senders   int     // goroutines to start that send requests
	callbacks bool    // a goroutine to start that calls callbacks
	timer     bool    // sched.wakeAt has changed
	cancel    bool    // the context of all requests ends
	finished  bool    // nothing is left after Shutdown or Close
}

func newCore(conf *config, start time.Time) core {
	return core{
		conf: conf, start: start, strict: conf.strict,
		sched:  schedule{usualTime: int64(stagger)},
		buffer: buffer{maxRecords: conf.BufferRecords, maxBytes: conf.BufferBytes},
		keys:   keyQueues{byHash: make(map[uint64]*keyQueue)},
	}
}

// clock returns the time as the limiters want it.
func (c *core) clock(now int64) time.Time { return c.start.Add(time.Duration(now)) }

// closedError returns why the producer takes nothing more.
func (c *core) closedError() error {
	if c.fatal != nil {
		return c.fatal
	}
	return shardlog.ErrClosed
}

// outOfNumbers reports whether a new request would have to wait for numbers.
func (c *core) outOfNumbers() bool { return c.conf.ID != "" && c.flight.numbers.exhausted() }

// flushThrough lets the entries up to a number go without lingering.
func (c *core) flushThrough(seq uint64) { c.sched.flushUpTo = max(c.sched.flushUpTo, seq) }

// setTimer sets when onTimer is to be called; 0 for never.
func (c *core) setTimer(at int64) {
	c.sched.wakeAt = at
	c.effects.timer = true
}

// trim drops what is kept for reuse if it is much for a producer with nothing
// pending.
func (c *core) trim() {
	if c.buffer.records > 0 || c.buffer.keepsLittle() {
		return
	}
	c.buffer.drop()
	c.keys.free = nil
	c.flight.dropFree()
}

// onShards makes the sink's list of its shards the map, unless it is a bad one.
func (c *core) onShards(infos []shardlog.ShardInfo) error {
	err := c.shards.replace(infos, c.conf.ShardRate, &c.keys.runnable)
	if err == nil {
		c.sched.limitedUntil = 0 // no key queue waits for a limit now
	}
	return err
}
