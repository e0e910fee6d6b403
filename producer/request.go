package producer

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
)

// request is a call of the sink, or several with the same content if answers
// are lost. Between core.nextRequest and core.complete it belongs to the
// goroutine that sends it, which uses it without Producer.mu; meanwhile the
// core touches only undecided, cancel, sent and queues, with mu held.
type request struct {
	ctx       context.Context
	cancel    context.CancelFunc
	slots     []slot      // none while the records are in a page
	page      *page       // in which the records were when it was filled; nil if they were entries
	unpacked  bool        // entries were made of them since; the page stays what the sender reads
	queues    []*keyQueue // of the keys of its entries
	bytes     int
	maxSlots  int    // lowered by entries that need a small request
	undecided int    // entries without a result
	version   uint64 // of the shard map that it was filled by
	noQueues  bool   // its keys have no queues, except those that had one before
	next      *request

	// What the sink gets; the slices are used again.
	records   []shardlog.Record
	ranges    []shardlog.HashRange
	numbers   []uint64
	arena     []byte               // holds the aggregates
	own       []shardlog.PutResult // memory for the results of encoded records
	epoch     uint64
	doneBelow uint64

	sent  int64 // when it was last given to a sender
	sends int   // how often it was

	// The last call of the sink.
	started     time.Time
	duration    time.Duration
	results     []shardlog.PutResult
	err         error
	notSent     bool // the call failed before the sink had the records
	timedOut    bool // Options.RequestTimeout ended it
	sinkMayRead bool // the sink may still be reading the records

	resendAt  int64 // when a request in doubt may be sent again
	heapIndex int   // in the resendHeap; -1 outside
}

// slot is one stored record of a request: one entry, or an aggregate.
type slot struct {
	first, last *entry
	n           int                // entries, linked by nextInSlot
	number      uint64             // with an identity
	shard       *shardState        // on which it should land; nil when that is not known
	span        shardlog.HashRange // of the hash keys of its entries; set with shard
	builder     *kpl.Builder       // until it is encoded; nil for an entry that is not aggregated
	aggregate   *shardlog.Record   // once it is encoded
	size        int                // bytes as stored
	wrapped     bool               // the first entry must be inside an aggregate; see config.mustWrap
	inDoubt     bool               // an attempt ended in an unknown outcome
}

// builders are kept for reuse by all producers.
var builders = sync.Pool{New: func() any { return new(kpl.Builder) }}

// addSlot appends an empty slot. Those behind the last one are empty.
func (b *request) addSlot() *slot {
	n := len(b.slots)
	if n < cap(b.slots) {
		b.slots = b.slots[:n+1]
	} else {
		b.slots = append(b.slots, slot{})
	}
	return &b.slots[n]
}

// attach records that e, in a slot of b, has the key of q.
func (b *request) attach(e *entry, q *keyQueue, slot int) {
	if q.carrier != b {
		q.carrier = b
		b.queues = append(b.queues, q)
	}
	q.lastSlot = slot
	e.queue = q
}

// reset makes b ready for other records. What the sink got stays: a call of it
// that was cut off may still read that.
func (b *request) reset() {
	clear(b.queues)
	clear(b.slots)
	b.queues, b.slots = b.queues[:0], b.slots[:0]
	b.bytes, b.undecided, b.sends, b.noQueues, b.sinkMayRead = 0, 0, 0, false, false
	b.results, b.err = nil, nil
	if b.unpacked {
		clear(b.own) // it may have errors
	}
	b.page, b.unpacked = nil, false
	if cap(b.arena) > maxKeptArena {
		b.arena = nil
	}
}

// maxKeptArena bounds the memory for aggregates that an idle request keeps.
const maxKeptArena = 1 << 20

// clearRecords ends the use of what the sink got.
func (b *request) clearRecords() {
	clear(b.records)
	b.records, b.ranges, b.numbers = b.records[:0], b.ranges[:0], b.numbers[:0]
}

// giveUp ends the call of the sink, because nobody waits for its results.
func (b *request) giveUp() {
	if b.cancel != nil {
		b.cancel()
	}
}

// leaveToSink gives what the sink got up to the sink, which may still be
// reading it.
func (b *request) leaveToSink() {
	b.sinkMayRead = true
	b.records, b.ranges, b.numbers, b.arena, b.own = nil, nil, nil, nil, nil
}

// keepData makes sure that the memory of the entries' data is not used again.
func (b *request) keepData() {
	for i := range b.slots {
		for e := b.slots[i].first; e != nil; e = e.nextInSlot {
			e.chunk = nil
		}
	}
}

// onAbort records a call of the sink that did not return, but panicked or ended
// its goroutine.
func (b *request) onAbort(why error) {
	b.leaveToSink()
	b.results, b.err = nil, why
	if !b.notSent {
		b.err = both(shardlog.ErrUnknownOutcome, why)
	}
}

// isPacked reports whether the records are in a page only. The caller holds
// Producer.mu.
func (b *request) isPacked() bool { return b.page != nil && !b.unpacked }

// size returns how many records b has for the sink.
func (b *request) size() int {
	if b.page != nil {
		return len(b.page.items)
	}
	return len(b.slots)
}

// userRecords returns how many records that were put are in b.
func (b *request) userRecords() (n int) {
	if b.page != nil {
		return len(b.page.items)
	}
	for i := range b.slots {
		n += b.slots[i].n
	}
	return n
}

func (b *request) info() RequestInfo {
	i := RequestInfo{Records: b.size(), UserRecords: b.userRecords(), Resent: b.sends > 1}
	if b.page != nil {
		i.Bytes = b.page.bytes
		return i
	}
	for j := range b.records {
		i.Bytes += b.records[j].Size()
	}
	return i
}

func (b *request) outcome() RequestOutcome {
	o := RequestOutcome{Duration: b.duration, Err: b.err}
	if b.err != nil {
		o.Failed = b.size()
		return o
	}
	for i := range b.results {
		if e := b.results[i].Err; e != nil {
			o.Failed++
			o.Err = cmp.Or(o.Err, e)
		}
	}
	return o
}

// isMisplaced reports whether a slot that is stored on the shard of a result is an
// aggregate that this shard does not hold all of, so that readers drop what is
// outside. It happens over sinks that cannot refuse. A shard that is not known
// is taken not to hold it.
func (s *slot) isMisplaced(m *shardMap, r *shardlog.PutResult) bool {
	if s.aggregate == nil || s.shard == nil || s.shard.stored(r) {
		return false
	}
	on := m.byID[r.ShardID]
	return on == nil || !on.stored(r) || !on.holds(s.span)
}

// contradictsMap reports whether the answer to b shows that the shard map by
// which it was filled is out of date.
func (b *request) contradictsMap() bool {
	if b.err != nil {
		return isMoved(b.err)
	}
	for i := range b.results {
		r := &b.results[i]
		if r.Err != nil && isMoved(r.Err) {
			return true
		}
		// A record that was stored by an earlier attempt is where it was then.
		if s := b.slots[i].shard; r.Err == nil && !r.Duplicate && s != nil && !s.stored(r) {
			return true
		}
	}
	return false
}

// isMoved reports whether err says that the hash keys of a record are on
// another shard by now.
func isMoved(err error) bool {
	return errors.Is(err, shardlog.ErrWrongShard) || errors.Is(err, shardlog.ErrShardClosed)
}
