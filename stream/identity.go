package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
)

// identity is what a stream knows of a producer: its epoch, and the numbers
// from its Done on that are stored. It rides in the transactions that store the
// producer's records, so both are there or neither is.
//
// What is stored of it is a base, with everything, and up to maxSlots further
// values with what was added since, which are overwritten and never need
// deleting. A producer whose Done keeps up has few numbers, and then the base
// alone is written each time.
type identity struct {
	st *Stream
	id string
	// assigned is the epoch whose requests may join a group. It is changed
	// with the log locked, so that no request of an older epoch is stored
	// behind an OpenProducer.
	assigned atomic.Uint64
	used     atomic.Int64 // Unix milliseconds

	mu      sync.Mutex
	epoch   uint64        // as stored; 0 before the first
	opening chan struct{} // closed when a change of the epoch is over; nil if there is none
	gone    bool          // no longer in the registry
	damaged error         // what is stored cannot be read; opening it anew heals it
	loaded  bool          // done and stored are those of the store
	done    uint64
	stored  []numbered
	pending []*takenNumbers // that are being stored
	topSlot uint8           // slots above it were never written
	written progress

	staged staged // the committer's
}

// progress is where an identity's next value goes.
type progress struct {
	gen  uint64 // of the base; the slots of older ones mean nothing
	slot uint8  // the last one written since the base
}

// staged is what the transaction in the making will leave of an identity.
type staged struct {
	epoch, done uint64
	reset, gone bool
	delta       []numbered
	stored      []numbered
	written     progress
}

const (
	maxSlots = 64
	// baseNumbers is up to how many numbers the base is written each time.
	baseNumbers = 512
	// loadedFor is how long the numbers of an idle identity stay in memory.
	loadedFor = 10 * time.Minute
)

// ticket is what an identity makes of a call.
type ticket struct {
	kind        ticketKind
	epoch, done uint64
	numbers     []numbered
	taken       *takenNumbers
}

// takenNumbers are numbers that one call has claimed. They are pending until
// all of them are over.
type takenNumbers struct {
	claim   *claim
	numbers []uint64 // in ascending order
	left    int      // how many are not over
}

// meets tells whether one of the numbers, which ascend, is among them.
func (n *takenNumbers) meets(numbers []uint64) bool {
	a, b := n.numbers, numbers
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[len(a)-1] < b[0] || b[len(b)-1] < a[0]:
			return false
		case a[0] == b[0]:
			return true
		case a[0] < b[0]:
			a = a[1:]
		default:
			b = b[1:]
		}
	}
	return false
}

type ticketKind uint8

const (
	ticketStore  ticketKind = iota // records of a request
	ticketOpen                     // a new epoch
	ticketForget                   // the identity was not used for long
)

// errMoved: the epoch changed, or is about to, since the request looked.
var errMoved = errors.New("the producer's epoch is changing")

// begin claims those of the numbers that are neither stored nor being stored.
// It is called, and returns, with p.mu held. If it has to wait for something it
// claims nothing and returns what to wait for; found is called for each number
// that is stored.
func (p *identity) begin(epoch, done uint64, numbers []uint64, found func(i int, seq shardlog.SequenceNumber)) (wait <-chan struct{}, err error) {
	switch {
	case p.opening != nil:
		return p.opening, nil
	case p.gone:
		return nil, unknownIdentity(p.id)
	case p.damaged != nil:
		return nil, p.damaged
	case epoch != p.epoch:
		return nil, fmt.Errorf("%w: epoch %d of %q, which is at %d", shardlog.ErrFenced, epoch, p.id, p.epoch)
	}
	if err := p.load(); err != nil {
		return nil, err
	}
	if len(numbers) > 0 && numbers[0] < p.done {
		return nil, &shardlog.InvalidError{Field: "Numbers[0]", Value: numbers[0], Limit: fmt.Sprintf("at least %d, which was given as Done before", p.done)}
	}
	for _, taken := range p.pending {
		if taken.meets(numbers) {
			return taken.claim.done, nil
		}
	}
	for i, n := range numbers {
		if seq, ok := findNumber(p.stored, n); ok {
			found(i, seq)
		}
	}
	return nil, nil
}

func unknownIdentity(id string) error {
	return fmt.Errorf("%w: no producer %q; it was never opened, or not used for %v", shardlog.ErrNotFound, id, ProducerExpiry)
}

// claimed notes that numbers are being stored, with p.mu held.
func (p *identity) claimed(numbers []uint64, c *claim) *takenNumbers {
	if len(numbers) == 0 {
		return nil
	}
	if !slices.IsSorted(numbers) {
		slices.Sort(numbers)
	}
	taken := &takenNumbers{claim: c, numbers: numbers, left: len(numbers)}
	p.pending = append(p.pending, taken)
	c.left.Add(int64(len(numbers)))
	return taken
}

// over notes that n of the numbers are no longer being stored, with p.mu held.
func (p *identity) over(taken *takenNumbers, n int) {
	if taken.left -= n; taken.left == 0 {
		p.pending = slices.DeleteFunc(p.pending, func(o *takenNumbers) bool { return o == taken })
	}
}

// unclaim gives n numbers back that no group took.
func (p *identity) unclaim(taken *takenNumbers, n int) {
	p.mu.Lock()
	p.over(taken, n)
	p.mu.Unlock()
	taken.claim.release(n)
}

// load reads the numbers, with p.mu held. Nothing is under way then.
func (p *identity) load() error {
	if p.loaded {
		return nil
	}
	v, err := p.st.db.log.Get(identityKey(p.st.id, p.id, 0))
	if err != nil {
		return fmt.Errorf("reading the state of producer %q: %w", p.id, err)
	}
	s, err := decodeIdentity(v, false)
	if err != nil {
		return err
	}
	written := progress{gen: s.gen}
	for written.slot < p.topSlot {
		v, err := p.st.db.log.Get(identityKey(p.st.id, p.id, written.slot+1))
		if errors.Is(err, shardlog.ErrNotFound) {
			break
		}
		var more identityState
		if err == nil {
			more, err = decodeIdentity(v, false)
		}
		if err != nil {
			return fmt.Errorf("reading the state of producer %q: %w", p.id, err)
		}
		if more.gen != s.gen || more.epoch != s.epoch {
			break
		}
		s.done = max(s.done, more.done)
		s.stored = mergeNumbers(s.stored, more.stored, s.done)
		written.slot++
	}
	p.done, p.stored, p.written = s.done, p.st.withoutLost(s.stored), written
	p.loaded = true
	return nil
}

// unload drops the numbers of an identity that was idle for long.
func (p *identity) unload() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opening == nil && len(p.pending) == 0 {
		p.stored, p.loaded = nil, false
	}
}

// Prepare implements logstore.Participant.
func (p *identity) Prepare(tickets []any, tx *logstore.Tx) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.staged
	*s = staged{epoch: p.epoch, done: p.done, written: p.written}
	for _, t := range tickets {
		t := t.(*ticket)
		switch t.kind {
		case ticketForget:
			s.gone = true
		case ticketOpen:
			s.reset, s.epoch, s.done, s.delta = true, t.epoch, 0, nil
		default:
			s.done = max(s.done, t.done)
			s.delta = append(s.delta, t.numbers...)
		}
	}
	if s.gone {
		for slot := range int(p.topSlot) + 1 {
			tx.Delete(identityKey(p.st.id, p.id, uint8(slot)))
		}
		return
	}
	sortNumbers(s.delta)
	stored := p.stored
	if s.reset {
		stored = nil
	}
	s.stored = mergeNumbers(stored, s.delta, s.done)
	out := identityState{epoch: s.epoch, used: time.Now().UnixMilli(), done: s.done, stored: s.stored}
	if s.reset || len(s.stored) <= baseNumbers || s.written.slot == maxSlots {
		s.written = progress{gen: s.written.gen + 1}
	} else {
		s.written.slot++
		out.stored = mergeNumbers(nil, s.delta, s.done)
	}
	out.gen = s.written.gen
	tx.Set(identityKey(p.st.id, p.id, s.written.slot), out.encode())
	if s.reset {
		// Others may have got later epochs meanwhile; none goes back.
		tx.Set(epochKey(p.st.id), binary.LittleEndian.AppendUint64(nil, p.st.producers.epoch.Load()))
	}
}

// Finish implements logstore.Participant.
func (p *identity) Finish(tickets []any, err error) {
	p.mu.Lock()
	s := &p.staged
	opened := false
	for _, t := range tickets {
		t := t.(*ticket)
		if t.taken != nil {
			p.over(t.taken, len(t.numbers))
		}
		opened = opened || t.kind != ticketStore
	}
	if err == nil {
		p.epoch, p.done, p.stored, p.written, p.gone = s.epoch, s.done, s.stored, s.written, s.gone
		p.topSlot = max(p.topSlot, s.written.slot)
		p.loaded = p.loaded || s.reset
		if s.reset {
			p.damaged = nil
		}
		p.used.Store(time.Now().UnixMilli())
	}
	*s = staged{}
	if opened {
		if err != nil {
			p.assigned.Store(p.epoch)
		}
		p.opened()
	}
	p.mu.Unlock()
	for _, t := range tickets {
		t := t.(*ticket)
		if t.taken != nil {
			t.taken.claim.release(len(t.numbers))
		}
	}
}

// opened ends a change of the epoch, with p.mu held.
func (p *identity) opened() {
	close(p.opening)
	p.opening = nil
	if p.epoch == 0 && p.damaged == nil {
		p.gone = true // it never came into being
	}
	if p.gone {
		p.st.producers.remove(p)
	}
}

// change stores a new epoch, or that the identity is gone, as the only change
// of that kind at a time.
func (p *identity) change(ctx context.Context, t *ticket) error {
	joined := false
	err := p.st.db.log.AppendWith(ctx, nil, nil, nil, &logstore.AppendOptions{
		InlineBytes: len(p.id) + identityHeader + 64,
		Joined: func(_, _ int, attach func(logstore.Participant, any)) {
			joined = true
			if t.kind == ticketForget {
				t.epoch = math.MaxUint64 // no request has it
			}
			p.assigned.Store(t.epoch)
			attach(p, t)
		},
	})
	if !joined {
		p.mu.Lock()
		p.opened()
		p.mu.Unlock()
	}
	return err
}
