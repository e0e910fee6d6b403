package once

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
	"github.com/shardlog/shardlog/internal/ctxsync"
	"github.com/shardlog/shardlog/internal/logstore"
)

// Identity is what a stream knows of a producer: its epoch, and the numbers
// from its Done on that are stored. As a logstore.Participant it is stored in
// the transactions that store the producer's records, so both are there or
// neither is. All methods are safe for concurrent use.
type Identity struct {
	owner *Identities
	id    string
	// assigned is the epoch whose requests may join a group. It is changed
	// with the log locked, so that no request of an older epoch is stored
	// after the call that opened the next.
	assigned atomic.Uint64
	used     atomic.Int64 // Unix milliseconds
	// loading is held by the one call that reads the numbers.
	loading ctxsync.Mutex

	mu       sync.Mutex
	state    producerState // guarded by mu
	prepared preparedState // the committer's alone
}

// producerState is the state of an Identity. Its methods are called with the
// Identity locked, and do not lock.
//
// What is stored of it is a base, with everything, and up to MaxSlots further
// values with what was added since, which are overwritten and never need
// deleting. A producer whose Done keeps up has few numbers, and then the base
// alone is written each time.
type producerState struct {
	epoch    uint64        // as stored; 0 before the first
	changing chan struct{} // closed when a change of the epoch is over; nil if there is none
	gone     bool          // no longer one of the stream's identities
	damaged  error         // what is stored cannot be read; opening the identity again repairs it
	loaded   bool          // done and stored are those of the store
	done     uint64
	stored   []numbered
	pending  []*reservedNumbers // that are being stored
	topSlot  uint8              // slots above it were never written
	written  progress
}

// progress is where the next value of an identity goes.
type progress struct {
	gen  uint64 // of the base; the slots of older ones mean nothing
	slot uint8  // the last one written since the base
}

// preparedState is what the transaction that is being built will leave of an
// identity.
type preparedState struct {
	epoch, done uint64
	reset, gone bool
	added       []numbered
	stored      []numbered
	written     progress
}

const (
	// MaxSlots is how many values are written after a base, at most.
	MaxSlots = 64
	// baseNumbers is up to how many numbers the base is written each time.
	baseNumbers = 512
	// loadedFor is how long the numbers of an idle identity stay in memory.
	loadedFor = 10 * time.Minute
)

// identityUpdate is what one call changes of an identity.
type identityUpdate struct {
	kind        updateKind
	epoch, done uint64
	numbers     []numbered
	reserved    *reservedNumbers // that the numbers are of
}

type updateKind uint8

const (
	storeNumbers   updateKind = iota // with the records of a request
	openEpoch                        // a new epoch
	forgetIdentity                   // the identity was not used for long
)

// ErrEpochChanging is why an append fails whose epoch changed, or is about to,
// since its numbers were reserved. Nothing was stored; the next attempt finds
// out why.
var ErrEpochChanging = errors.New("the producer's epoch is changing")

// UnknownIdentity returns the error for an identity that the stream does not have.
func UnknownIdentity(id string) error {
	return fmt.Errorf("%w: no producer %q; it was never opened, or not used for %v", shardlog.ErrNotFound, id, Expiry)
}

// check returns why numbers of the epoch cannot be stored at present, or what to
// wait for before that is known.
func (s *producerState) check(id string, epoch uint64) (wait <-chan struct{}, err error) {
	switch {
	case s.changing != nil:
		return s.changing, nil
	case s.gone:
		return nil, UnknownIdentity(id)
	case s.damaged != nil:
		return nil, s.damaged
	case epoch != s.epoch:
		return nil, fmt.Errorf("%w: epoch %d of %q, which is at %d", shardlog.ErrFenced, epoch, id, s.epoch)
	}
	return nil, nil
}

// conflict returns what to wait for if one of the numbers, which ascend, is being
// stored. It needs the state to be loaded.
func (s *producerState) conflict(numbers []uint64) (wait <-chan struct{}, err error) {
	if len(numbers) > 0 && numbers[0] < s.done {
		return nil, &shardlog.InvalidError{Field: "Numbers[0]", Value: numbers[0], Limit: fmt.Sprintf("at least %d, which was given as Done before", s.done)}
	}
	for _, r := range s.pending {
		if r.meets(numbers) {
			return r.by.done, nil
		}
	}
	return nil, nil
}

// reserve notes that numbers are being stored.
func (s *producerState) reserve(numbers []uint64, by *reservation) *reservedNumbers {
	if len(numbers) == 0 {
		return nil
	}
	if !slices.IsSorted(numbers) {
		slices.Sort(numbers)
	}
	r := &reservedNumbers{by: by, numbers: numbers, left: len(numbers)}
	s.pending = append(s.pending, r)
	by.add(len(numbers))
	return r
}

// end notes that n of the numbers are no longer being stored.
func (s *producerState) end(r *reservedNumbers, n int) {
	if r.left -= n; r.left == 0 {
		s.pending = slices.DeleteFunc(s.pending, func(o *reservedNumbers) bool { return o == r })
	}
}

// release releases n numbers that no group took.
func (p *Identity) release(r *reservedNumbers, n int) {
	p.mu.Lock()
	p.state.end(r, n)
	p.mu.Unlock()
	r.by.release(n)
}

// load reads the numbers, unless they are in memory by the time. It is called
// with nothing locked, because it reads from the disk. While the numbers are not
// in memory nothing of the identity is being stored but a new epoch, so what is
// read cannot change unless the epoch does; then it is of no interest.
func (p *Identity) load(ctx context.Context) error {
	if err := p.loading.Lock(ctx); err != nil {
		return err
	}
	defer p.loading.Unlock()
	p.mu.Lock()
	needed, epoch, topSlot := p.state.needsLoad(), p.state.epoch, p.state.topSlot
	p.mu.Unlock()
	if !needed {
		return nil
	}
	s, written, err := p.read(topSlot)
	if err == nil {
		s.stored = p.owner.withoutLost(s.stored)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.state.needsLoad() || p.state.epoch != epoch {
		return nil
	}
	if err != nil {
		return err
	}
	p.state.done, p.state.stored, p.state.written, p.state.loaded = s.done, s.stored, written, true
	return nil
}

// needsLoad reports whether the numbers are stored and not in memory.
func (s *producerState) needsLoad() bool {
	return !s.loaded && s.changing == nil && !s.gone && s.damaged == nil
}

// read returns the stored state: the base and the slots that belong to it.
func (p *Identity) read(topSlot uint8) (s storedState, written progress, err error) {
	log, stream := p.owner.stream.Log, p.owner.stream.ID
	v, err := log.Get(IdentityKey(stream, p.id, 0))
	if err != nil {
		return s, written, fmt.Errorf("reading the state of producer %q: %w", p.id, err)
	}
	if s, err = decodeState(v, false); err != nil {
		return s, written, err
	}
	written.gen = s.gen
	for written.slot < topSlot {
		v, err := log.Get(IdentityKey(stream, p.id, written.slot+1))
		if errors.Is(err, shardlog.ErrNotFound) {
			break
		}
		var more storedState
		if err == nil {
			more, err = decodeState(v, false)
		}
		if err != nil {
			return s, written, fmt.Errorf("reading the state of producer %q: %w", p.id, err)
		}
		if more.gen != s.gen || more.epoch != s.epoch {
			break
		}
		s.done = max(s.done, more.done)
		s.stored = mergeNumbers(s.stored, more.stored, s.done)
		written.slot++
	}
	return s, written, nil
}

// unload drops the numbers of an identity that was idle for long.
func (p *Identity) unload() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.changing == nil && len(p.state.pending) == 0 {
		p.state.stored, p.state.loaded = nil, false
	}
}

// Prepare implements logstore.Participant.
func (p *Identity) Prepare(updates []any, tx *logstore.Tx) {
	p.mu.Lock()
	defer p.mu.Unlock()
	stream := p.owner.stream.ID
	next := &p.prepared
	*next = p.state.prepare(updates)
	if next.gone {
		for slot := range int(p.state.topSlot) + 1 {
			tx.Delete(IdentityKey(stream, p.id, uint8(slot)))
		}
		return
	}
	out := storedState{epoch: next.epoch, used: time.Now().UnixMilli(), done: next.done, stored: next.stored}
	if next.reset || len(next.stored) <= baseNumbers || next.written.slot == MaxSlots {
		next.written = progress{gen: next.written.gen + 1}
	} else {
		next.written.slot++
		out.stored = mergeNumbers(nil, next.added, next.done)
	}
	out.gen = next.written.gen
	tx.Set(IdentityKey(stream, p.id, next.written.slot), out.encode())
	if next.reset {
		// Others may have got later epochs meanwhile; none goes back.
		tx.Set(epochKey(stream), binary.LittleEndian.AppendUint64(nil, p.owner.epoch.Load()))
	}
}

// prepare returns what the updates would make of the state, in their order.
func (s *producerState) prepare(updates []any) preparedState {
	next := preparedState{epoch: s.epoch, done: s.done, written: s.written}
	for _, u := range updates {
		u := u.(*identityUpdate)
		switch u.kind {
		case forgetIdentity:
			next.gone = true
		case openEpoch:
			next.reset, next.epoch, next.done, next.added = true, u.epoch, 0, nil
		default:
			next.done = max(next.done, u.done)
			next.added = append(next.added, u.numbers...)
		}
	}
	if next.gone {
		return next
	}
	sortNumbers(next.added)
	stored := s.stored
	if next.reset {
		stored = nil
	}
	next.stored = mergeNumbers(stored, next.added, next.done)
	return next
}

// Finish implements logstore.Participant.
func (p *Identity) Finish(updates []any, err error) {
	p.mu.Lock()
	epochChanged := false
	for _, u := range updates {
		u := u.(*identityUpdate)
		if u.reserved != nil {
			p.state.end(u.reserved, len(u.numbers))
		}
		epochChanged = epochChanged || u.kind != storeNumbers
	}
	if err == nil {
		p.state.apply(&p.prepared)
		p.used.Store(time.Now().UnixMilli())
	}
	p.prepared = preparedState{}
	if epochChanged {
		if err != nil {
			p.assigned.Store(p.state.epoch)
		}
		p.endChange()
	}
	p.mu.Unlock()
	for _, u := range updates {
		u := u.(*identityUpdate)
		if u.reserved != nil {
			u.reserved.by.release(len(u.numbers))
		}
	}
}

// apply makes what was prepared and is stored the state.
func (s *producerState) apply(next *preparedState) {
	s.epoch, s.done, s.stored, s.written, s.gone = next.epoch, next.done, next.stored, next.written, next.gone
	s.topSlot = max(s.topSlot, next.written.slot)
	s.loaded = s.loaded || next.reset
	if next.reset {
		s.damaged = nil
	}
}

// beginChange begins a change of the epoch, of which there is one at a time. If
// another is under way it returns what to wait for, and if the identity is gone
// that there is nothing to wait for.
func (p *Identity) beginChange() (wait <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.changing != nil {
		return p.state.changing
	}
	if p.state.gone {
		return ready
	}
	p.state.changing = make(chan struct{})
	return nil
}

// endChange ends a change of the epoch, with p locked.
func (p *Identity) endChange() {
	s := &p.state
	close(s.changing)
	s.changing = nil
	if s.epoch == 0 && s.damaged == nil {
		s.gone = true // it never came into being
	}
	if s.gone {
		p.owner.remove(p)
	}
}

// change stores a new epoch, or that the identity is gone, after beginChange.
func (p *Identity) change(ctx context.Context, u *identityUpdate) error {
	joined := false
	err := p.owner.stream.Log.AppendWith(ctx, nil, nil, nil, &logstore.AppendOptions{
		InlineBytes: len(p.id) + stateHeader + 64,
		Joined: func(_, _ int, attach func(logstore.Participant, any)) {
			joined = true
			if u.kind == forgetIdentity {
				u.epoch = math.MaxUint64 // no request has it
			}
			p.assigned.Store(u.epoch)
			attach(p, u)
		},
	})
	if !joined {
		p.mu.Lock()
		p.endChange()
		p.mu.Unlock()
	}
	return err
}

// IdentityInfo describes an Identity at one moment.
type IdentityInfo struct {
	// Epoch is the one that may store records.
	Epoch uint64
	// Numbers are those that are stored, as far as they are in memory, in
	// ascending order; Reserved counts the attempts that have reserved some.
	Numbers  []uint64
	Reserved int
	// Slot is where the last value was written; 0 for the base.
	Slot int
}

// Info returns a description of p.
func (p *Identity) Info() IdentityInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := IdentityInfo{Epoch: p.state.epoch, Reserved: len(p.state.pending), Slot: int(p.state.written.slot)}
	for _, n := range p.state.stored {
		i.Numbers = append(i.Numbers, n.number)
	}
	return i
}
