package once

import (
	"context"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/logstore"
)

// Attempt is one try of a call to store records of one stream. The caller fills
// the fields of the first group and calls Reserve; then it decides where the
// records of Todo go, which it may shorten after Refuse, sets the fields of the
// last group, appends with Check, Attach and InlineBytes, and calls Release in
// any case. It is not safe for concurrent use.
type Attempt struct {
	// Records are those of the call, Results one for each. Reserve sets the
	// results of records that are stored already.
	Records []shardlog.Record
	Results []shardlog.PutResult
	// Identity is whose Numbers the records have, one for each in ascending
	// order; nil for none. Epoch and Done are as in shardlog.PutRequest.
	Identity    *Identity
	Epoch, Done uint64
	Numbers     []uint64
	// IDs are where the records' dedup IDs are looked up, within the Window; nil
	// if no record has one or the stream takes none.
	IDs    *IDs
	Window time.Duration

	// Todo has the indexes of the records that are to be stored, in order.
	Todo []int

	// Out has the result of each record of Todo, and Arrivals their arrivals in
	// Unix milliseconds, as the log sets them; Arrivals is not needed without IDs.
	Out      []shardlog.PutResult
	Arrivals []int64

	by       *reservation
	reserved []bool           // what is reserved and no group has taken yet, by record
	keys     []idKey          // of each record; nil for none
	numbers  *reservedNumbers // nil for none
	known    int              // about how many numbers the identity has, where it matters
	copies   []copyOf         // records with the ID of another in Todo
	noted    []int            // records whose ID is stored already; their numbers are not
}

// copyOf is a record of an attempt that has the ID of an earlier one in it.
type copyOf struct{ index, of int }

// Reserve finds out what of the attempts is stored already and reserves the rest,
// all of it or nothing. If something is being stored by another call it reserves
// nothing and returns what to wait for, holding nothing, before all is tried
// again. Attempts are of different streams, in the order of their numbers; only
// a single one may have an Identity.
//
// The error matches shardlog.ErrFenced, ErrNotFound or ErrInvalid for the
// identity and its numbers, ErrThroughputExceeded if there are too many IDs, or
// is that of reading or of ctx.
func Reserve(ctx context.Context, attempts ...*Attempt) (wait <-chan struct{}, err error) {
	for {
		unread, wait, err := reserve(attempts)
		if unread == nil {
			return wait, err
		}
		if err := unread.load(ctx); err != nil {
			return nil, err
		}
	}
}

// reserve is Reserve, unless it needs the numbers of an identity that are not in
// memory: then it reserves nothing and returns the identity.
func reserve(attempts []*Attempt) (unread *Identity, wait <-chan struct{}, err error) {
	var by *reservation
	for _, a := range attempts {
		if p := a.Identity; p != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			if unread, wait, err = a.findNumbers(&p.state); unread != nil || wait != nil || err != nil {
				return unread, wait, err
			}
		}
		if (a.Identity != nil || a.IDs != nil) && by == nil {
			by = newReservation()
		}
		a.begin(by)
	}
	for i, a := range attempts {
		if a.IDs == nil {
			continue
		}
		a.IDs.mu.Lock()
		defer a.IDs.mu.Unlock()
		if wait, err = a.reserveIDs(&a.IDs.table); wait != nil || err != nil {
			for _, earlier := range attempts[:i] {
				if earlier.IDs != nil {
					earlier.undoIDs(&earlier.IDs.table, earlier.Todo)
				}
			}
			return nil, wait, err
		}
	}
	for _, a := range attempts {
		if a.Identity != nil {
			a.reserveNumbers(&a.Identity.state)
		}
	}
	return nil, nil, nil
}

// findNumbers sets the results of records whose numbers are stored, with the
// identity locked.
func (a *Attempt) findNumbers(s *producerState) (unread *Identity, wait <-chan struct{}, err error) {
	if wait, err = s.check(a.Identity.id, a.Epoch); wait != nil || err != nil {
		return nil, wait, err
	}
	if !s.loaded {
		return a.Identity, nil, nil
	}
	if wait, err = s.conflict(a.Numbers); wait != nil || err != nil {
		return nil, wait, err
	}
	for i, n := range a.Numbers {
		if seq, ok := findNumber(s.stored, n); ok {
			a.Results[i] = duplicateOf(seq)
		}
	}
	a.Identity.used.Store(time.Now().UnixMilli())
	a.known = min(len(s.stored), baseNumbers)
	return nil, nil, nil
}

func duplicateOf(seq shardlog.SequenceNumber) shardlog.PutResult {
	return shardlog.PutResult{ShardID: shardlog.ShardID(shardOf(seq)), Sequence: seq, Duplicate: true}
}

// begin lists the records whose numbers are not stored.
func (a *Attempt) begin(by *reservation) {
	a.Todo = make([]int, 0, len(a.Records))
	for i := range a.Records {
		if !a.Results[i].Duplicate {
			a.Todo = append(a.Todo, i)
		}
	}
	if a.Identity != nil || a.IDs != nil {
		a.by, a.reserved = by, make([]bool, len(a.Records))
	}
}

// reserveIDs reserves the IDs of what is to be stored, and takes out of Todo what
// has that of another record. If it has to wait, or there is no room, it reserves
// nothing; the IDs are locked.
func (a *Attempt) reserveIDs(t *idTable) (wait <-chan struct{}, err error) {
	after := windowStart(time.Now(), a.Window)
	a.keys = make([]idKey, len(a.Records))
	kept := make([]int, 0, len(a.Todo))
	for _, i := range a.Todo {
		id := a.Records[i].DedupID
		if id == "" {
			kept = append(kept, i)
			continue
		}
		k := keyOf(id)
		a.keys[i] = k
		if p, ok := t.pending[k]; ok && p.by != a.by {
			a.undoIDs(t, kept)
			return p.by.done, nil
		} else if ok {
			a.copies = append(a.copies, copyOf{i, p.index})
		} else if seq, ok := t.find(k, after); ok {
			a.Results[i] = duplicateOf(seq)
			a.noted = append(a.noted, i)
		} else {
			t.pending[k] = pendingID{a.by, i}
			a.reserved[i] = true
			a.by.add(1)
			kept = append(kept, i)
		}
	}
	if err := t.room(a.IDs.stream, after); err != nil {
		a.undoIDs(t, kept)
		return nil, err
	}
	a.Todo = kept
	return nil, nil
}

// undoIDs undoes reserveIDs for the records listed, with the IDs locked. Nobody
// waits for the reservation yet, so that need not be released.
func (a *Attempt) undoIDs(t *idTable, list []int) {
	for _, i := range list {
		if a.reserved[i] {
			delete(t.pending, a.keys[i])
		}
	}
}

// reserveNumbers reserves the numbers of what is not stored yet, with the
// identity locked.
func (a *Attempt) reserveNumbers(s *producerState) {
	numbers := make([]uint64, 0, len(a.Todo)+len(a.noted)+len(a.copies))
	add := func(i int) {
		a.reserved[i] = true
		numbers = append(numbers, a.Numbers[i])
	}
	for _, i := range a.Todo {
		add(i)
	}
	for _, i := range a.noted {
		add(i)
	}
	for _, c := range a.copies {
		add(c.index)
	}
	a.numbers = s.reserve(numbers, a.by)
}

// Needed reports whether the attempt has anything to be stored.
func (a *Attempt) Needed() bool {
	return len(a.Todo) > 0 || len(a.noted) > 0 && a.Identity != nil
}

// HasIDs reports whether IDs are stored with the records.
func (a *Attempt) HasIDs() bool { return a.keys != nil }

// hasID reports whether a record of Todo has an ID.
func (a *Attempt) hasID(i int) bool { return a.keys != nil && a.Records[i].DedupID != "" }

// Check returns ErrEpochChanging for an attempt of an older epoch, which must not
// be stored after the call that opened the next. The log is locked.
func (a *Attempt) Check() error {
	if a.Identity != nil && a.Identity.assigned.Load() != a.Epoch {
		return ErrEpochChanging
	}
	return nil
}

// InlineBytes is about how much the numbers add to the store's tree.
func (a *Attempt) InlineBytes() int {
	if a.Identity == nil {
		return 0
	}
	return min(len(a.Identity.id)+stateHeader+64+8*(len(a.Todo)+a.known), kv.InlineValue)
}

// Attach makes what the records Todo[from:to] have reserved a part of the group
// that has taken them: those without an error in Out. The log is locked.
func (a *Attempt) Attach(from, to int, attach func(logstore.Participant, any)) {
	if a.by == nil {
		return
	}
	u := &identityUpdate{epoch: a.Epoch, done: a.Done, reserved: a.numbers}
	var ids idUpdate
	if a.Identity != nil {
		u.numbers = make([]numbered, 0, to-from+len(a.noted)+len(a.copies))
	}
	take := func(i int, seq shardlog.SequenceNumber) {
		if a.Identity != nil {
			u.numbers = append(u.numbers, numbered{a.Numbers[i], seq})
		}
		a.reserved[i] = false
	}
	if from == 0 {
		for _, i := range a.noted {
			take(i, a.Results[i].Sequence)
		}
	}
	var taken map[int]shardlog.SequenceNumber // for the copies, if there are any
	if len(a.copies) > 0 {
		taken = make(map[int]shardlog.SequenceNumber, to-from)
	}
	for k := from; k < to; k++ {
		if a.Out[k].Err != nil {
			continue
		}
		i, seq := a.Todo[k], a.Out[k].Sequence
		take(i, seq)
		if a.hasID(i) {
			ids.keys, ids.places = append(ids.keys, a.keys[i]), append(ids.places, idPlace{seq, a.Arrivals[k]})
			if taken != nil {
				taken[i] = seq
			}
		}
	}
	for _, c := range a.copies {
		if seq, ok := taken[c.of]; ok {
			take(c.index, seq)
		}
	}
	if len(u.numbers) > 0 {
		attach(a.Identity, u)
	}
	if len(ids.keys) > 0 {
		ids.by = a.by
		attach(a.IDs, &ids)
	}
}

// CopyResults gives records that have the ID of another in the attempt its
// result, once that has one.
func (a *Attempt) CopyResults() {
	for _, c := range a.copies {
		a.Results[c.index] = a.Results[c.of]
		a.Results[c.index].Duplicate = a.Results[c.of].Err == nil
	}
}

// Refuse releases what a record of Todo has reserved, which the caller then takes
// out of Todo.
func (a *Attempt) Refuse(i int) { a.release([]int{i}, nil) }

// Release releases what no group took. It may be called more than once.
func (a *Attempt) Release() {
	if a.by == nil {
		return
	}
	var others []int
	for _, c := range a.copies {
		others = append(others, c.index)
	}
	a.release(a.Todo, append(others, a.noted...))
}

// release releases records of Todo, and others, of which only the number was
// reserved.
func (a *Attempt) release(todo, others []int) {
	numbers := 0
	var keys []idKey
	for j, list := range [][]int{todo, others} {
		for _, i := range list {
			if a.reserved == nil || !a.reserved[i] {
				continue
			}
			a.reserved[i] = false
			if a.Identity != nil {
				numbers++
			}
			if j == 0 && a.hasID(i) {
				keys = append(keys, a.keys[i])
			}
		}
	}
	if numbers > 0 {
		a.Identity.release(a.numbers, numbers)
	}
	if len(keys) > 0 {
		a.IDs.release(a.by, keys)
	}
}
