package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/logstore"
)

// Capabilities implements shardlog.Capable. DedupID is set while the stream has
// a Config.DedupWindow.
func (st *Stream) Capabilities() shardlog.Capabilities {
	return shardlog.Capabilities{RefusesMisrouted: true, Idempotent: true, DedupID: st.meta.Load().DedupWindow > 0, Pushes: true}
}

// PutRequest implements shardlog.RequestSink. What PutRecords says of blocking,
// of transactions and of ctx goes for it too.
//
// A number is taken together with its record, in one transaction, and survives
// restarts, reshards and retention. A request whose numbers are being stored by
// another one, because that one's caller stopped waiting, waits for its outcome.
// Numbers that are stored already are never refused for anything but the epoch.
//
// The error matches shardlog.ErrFenced if the identity was opened again,
// ErrNotFound if it was never opened or forgotten (see ProducerExpiry), and
// ErrInvalid if a number is below a Done that was given before, or 1,048,576
// or more above (less with Options.ValueLogFileBytes below 25 MiB: a 24th of
// what is above 64 KiB). In results, ErrWrongShard is a record whose range is not
// inside its shard; shardlog.ErrNotTried, one behind it whose range overlaps.
func (st *Stream) PutRequest(ctx context.Context, req *shardlog.PutRequest) ([]shardlog.PutResult, error) {
	if err := st.enter(ctx, "put"); err != nil {
		return nil, err
	}
	if req == nil {
		return nil, st.fail("put", "", &shardlog.InvalidError{Field: "req", Value: nil, Limit: "not nil"})
	}
	if err := checkRequest(req, st.db.mostNumbers()); err != nil {
		meta := st.meta.Load()
		return nil, st.fail("put", "", errors.Join(err, checkRecords(req.Records, min(meta.MaxRecordSize, st.db.largestRecord()), meta.idRule())))
	}
	if len(req.Records) == 0 && req.Producer == "" {
		return []shardlog.PutResult{}, nil
	}
	return st.request(ctx, req)
}

// request checks the records and tries until nothing is in the way.
func (st *Stream) request(ctx context.Context, req *shardlog.PutRequest) ([]shardlog.PutResult, error) {
	meta := st.meta.Load()
	sc := scratches.Get().(*scratch)
	defer scratches.Put(sc)
	keys, err := st.checkAll(req.Records, meta, sc)
	if err != nil {
		return nil, st.fail("put", "", err)
	}
	for {
		c := &call{st: st, meta: meta, req: req, keys: keys, sc: sc, res: make([]shardlog.PutResult, len(req.Records))}
		wait, err := c.try(ctx)
		if err == nil && wait == nil {
			return c.res, nil
		}
		if err == nil {
			err = st.await(ctx, wait)
		}
		var told *shardlog.Error
		if errors.As(err, &told) {
			return nil, err // with a time to wait
		}
		if err != nil {
			return nil, st.fail("put", "", err)
		}
	}
}

// checkAll returns where the records belong, or all their faults.
func (st *Stream) checkAll(records []shardlog.Record, meta *streamMeta, sc *scratch) ([]shardlog.HashKey, error) {
	keys := sc.keysFor(len(records))
	limit, ids := min(meta.MaxRecordSize, st.db.largestRecord()), meta.idRule()
	for i := range records {
		r := &records[i]
		var invalid *shardlog.InvalidError
		keys[i], invalid = checkAndHash(r, limit, meta.Hash, &sc.hashes, ids)
		if invalid == nil && r.DedupID != "" {
			invalid = ids.check(r.DedupID)
		}
		if invalid != nil {
			return nil, checkRecords(records, limit, ids)
		}
	}
	return keys, nil
}

func checkRequest(req *shardlog.PutRequest, most uint64) error {
	invalid := func(field string, value any, limit string, args ...any) error {
		return &shardlog.InvalidError{Field: field, Value: value, Limit: fmt.Sprintf(limit, args...)}
	}
	if n := len(req.Ranges); req.Ranges != nil && n != len(req.Records) {
		return invalid("Ranges", n, "nil, or one for each of the %d records", len(req.Records))
	}
	for i := range req.Ranges {
		if r := &req.Ranges[i]; !r.First.IsSet() || !r.Last.IsSet() || r.First.Compare(r.Last) > 0 {
			return invalid(fmt.Sprintf("Ranges[%d]", i), fmt.Sprintf("%v to %v", r.First, r.Last), "two hash keys, the lower first")
		}
	}
	if req.Producer == "" {
		if req.Numbers != nil || req.Epoch != 0 || req.Done != 0 {
			return invalid("Numbers", len(req.Numbers), "nil, and Epoch and Done 0, without a Producer")
		}
		return nil
	}
	if err := checkProducerID(req.Producer); err != nil {
		return err
	}
	if n := len(req.Numbers); n != len(req.Records) {
		return invalid("Numbers", n, "one for each of the %d records", len(req.Records))
	}
	for i, n := range req.Numbers {
		limit, of := "", req.Done
		switch {
		case n < req.Done:
			limit = "at least Done, %d"
		case n-req.Done >= most:
			limit = fmt.Sprintf("less than %d above Done, %%d", most)
		case i > 0 && n <= req.Numbers[i-1]:
			limit, of = "above the one before, %d", req.Numbers[i-1]
		}
		if limit != "" {
			return invalid(fmt.Sprintf("Numbers[%d]", i), n, limit, of)
		}
	}
	return nil
}

// call is one attempt at a request.
type call struct {
	st    *Stream
	meta  *streamMeta
	req   *shardlog.PutRequest
	keys  []shardlog.HashKey // of each record
	sc    *scratch
	res   []shardlog.PutResult
	ident *identity  // nil for none
	ids   []dedupKey // of each record; nil for none
	claim *claim
	taken *takenNumbers // nil for none
	held  []bool        // what of the claim no group has taken yet, by record
	known int           // about how many numbers the identity has, where it matters

	todo    []int    // indexes of the records that are to be stored
	copies  []sameID // records with the ID of one in todo
	noted   []int    // records whose ID is stored already; their numbers are not
	records []shardlog.Record
	targets []*logstore.Shard
	out     []shardlog.PutResult
	arrived []int64
}

// sameID is a record of a call with the ID of an earlier one in it.
type sameID struct{ index, of int }

// try stores what is not stored yet. If something is in the way it stores
// nothing and returns what to wait for.
func (c *call) try(ctx context.Context) (wait <-chan struct{}, err error) {
	st := c.st
	if err := st.shape.RLock(ctx); err != nil {
		return nil, err
	}
	defer st.shape.RUnlock()
	if st.deleted.Load() {
		return nil, shardlog.ErrNotFound
	}
	if wait, err := c.begin(); wait != nil || err != nil {
		return wait, err
	}
	c.choose()
	if len(c.todo) > 0 || len(c.noted) > 0 && c.ident != nil {
		opts := &logstore.AppendOptions{Check: c.enter, Joined: c.join, InlineBytes: c.inline(), Arrivals: c.arrived}
		err = st.db.log.AppendWith(ctx, c.records, c.targets, c.out, opts)
	}
	c.giveBack()
	if errors.Is(err, errMoved) {
		return closedChan, nil // it says then how
	}
	if err != nil {
		return nil, err
	}
	c.finish()
	return nil, nil
}

// finish puts together the results.
func (c *call) finish() {
	for k, i := range c.todo {
		err := c.out[k].Err
		if errors.Is(err, errMoved) {
			err = shardlog.ErrNotTried // the next try says why
		}
		if c.res[i] = c.out[k]; err != nil {
			c.res[i].Err = c.st.fail("put", c.targets[k].Name(), err)
		}
	}
	for _, d := range c.copies {
		c.res[d.index] = c.res[d.of]
		c.res[d.index].Duplicate = c.res[d.of].Err == nil
	}
	if len(c.todo) < len(c.res) {
		c.count()
	}
}

// count adds what was not stored to the stream's figures.
func (c *call) count() {
	duplicates, misrouted := int64(0), int64(0)
	for i := range c.res {
		if c.res[i].Duplicate {
			duplicates++
		} else if errors.Is(c.res[i].Err, shardlog.ErrWrongShard) {
			misrouted++
		}
	}
	c.st.duplicates.Add(duplicates)
	c.st.misrouted.Add(misrouted)
}

// begin finds out what is stored already, and claims the rest.
func (c *call) begin() (wait <-chan struct{}, err error) {
	n := len(c.req.Records)
	if c.req.Producer != "" {
		p := c.st.producers.find(c.req.Producer)
		if p == nil {
			return nil, unknownIdentity(c.req.Producer)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		wait, err = p.begin(c.req.Epoch, c.req.Done, c.req.Numbers, func(i int, seq shardlog.SequenceNumber) {
			c.res[i] = duplicate(seq)
		})
		if wait != nil || err != nil {
			return wait, err
		}
		p.used.Store(time.Now().UnixMilli())
		c.ident, c.known = p, min(len(p.stored), baseNumbers)
	}
	c.todo = make([]int, 0, n)
	for i := range n {
		if !c.res[i].Duplicate {
			c.todo = append(c.todo, i)
		}
	}
	withIDs := c.meta.DedupWindow > 0 && hasIDs(c.req.Records)
	if c.ident == nil && !withIDs {
		return nil, nil
	}
	c.claim, c.held = newClaim(), make([]bool, n)
	if withIDs {
		d := &c.st.dedup
		d.mu.Lock()
		defer d.mu.Unlock()
		if wait, err = c.claimIDs(d); wait != nil || err != nil {
			return wait, err
		}
	}
	c.claimNumbers()
	return nil, nil
}

func duplicate(seq shardlog.SequenceNumber) shardlog.PutResult {
	return shardlog.PutResult{ShardID: shardlog.ShardID(shardOf(seq)), Sequence: seq, Duplicate: true}
}

// claimIDs claims the IDs of what is to be stored, and takes out of todo what
// has that of another record. If it has to wait, or there is no room, it claims
// nothing; d.mu is held.
func (c *call) claimIDs(d *dedupIndex) (wait <-chan struct{}, err error) {
	after := windowStart(time.Now(), c.meta.DedupWindow)
	c.ids = make([]dedupKey, len(c.req.Records))
	kept := make([]int, 0, len(c.todo))
	for _, i := range c.todo {
		id := c.req.Records[i].DedupID
		if id == "" {
			kept = append(kept, i)
			continue
		}
		k := dedupKeyOf(id)
		c.ids[i] = k
		if p, ok := d.pending[k]; ok && p.claim != c.claim {
			c.takeBackIDs(d, kept)
			return p.claim.done, nil
		} else if ok {
			c.copies = append(c.copies, sameID{i, p.index})
		} else if seq, ok := d.find(k, after); ok {
			c.res[i] = duplicate(seq)
			c.noted = append(c.noted, i)
		} else {
			d.pending[k] = pendingID{c.claim, i}
			c.held[i] = true
			c.claim.left.Add(1)
			kept = append(kept, i)
		}
	}
	if err := d.room(after); err != nil {
		c.takeBackIDs(d, kept)
		return nil, err
	}
	c.todo = kept
	return nil, nil
}

// takeBackIDs undoes claimIDs, with d.mu held.
func (c *call) takeBackIDs(d *dedupIndex, claimed []int) {
	for _, i := range claimed {
		if c.held[i] {
			delete(d.pending, c.ids[i])
		}
	}
}

// claimNumbers claims the numbers of what is not stored yet, with the
// identity's lock held.
func (c *call) claimNumbers() {
	if c.ident == nil {
		return
	}
	numbers := make([]uint64, 0, len(c.todo)+len(c.noted)+len(c.copies))
	number := func(i int) {
		c.held[i] = true
		numbers = append(numbers, c.req.Numbers[i])
	}
	for _, i := range c.todo {
		number(i)
	}
	for _, i := range c.noted {
		number(i)
	}
	for _, d := range c.copies {
		number(d.index)
	}
	c.taken = c.ident.claimed(numbers, c.claim)
}

// hasID tells whether a record of todo has an ID.
func (c *call) hasID(i int) bool { return c.ids != nil && c.req.Records[i].DedupID != "" }

// choose finds each record's shard, refuses what may not go there, and
// collects the others.
func (c *call) choose() {
	st, req := c.st, c.req
	r := st.routes.Load()
	now := time.Now()
	over := map[*member]error{} // shards at their limit
	var misrouted refusals
	kept := c.todo[:0]
	c.targets = c.sc.targetsFor(len(c.todo))[:0]
	for _, i := range c.todo {
		key := c.keys[i]
		m := r.route(key)
		var err error
		if req.Ranges != nil {
			err = misrouted.check(m, key, req.Ranges[i])
		}
		if err == nil && over[m] != nil {
			err = over[m]
			m.ctr.writeThrottles.Add(1)
		}
		if err == nil && m.lim != nil && m.lim.writes {
			// A smaller record may not slip past one that was refused: it
			// could be of the same key.
			if err = st.admit(m, now, &req.Records[i]); err != nil {
				over[m] = err
			}
		}
		if err != nil {
			c.res[i].Err = st.fail("put", m.s.Name(), err)
			c.unclaim([]int{i}, nil)
			continue
		}
		kept, c.targets = append(kept, i), append(c.targets, m.s)
	}
	c.todo = kept
	c.records, c.out = req.Records, c.res
	if len(kept) < len(req.Records) {
		c.records, c.out = make([]shardlog.Record, len(kept)), make([]shardlog.PutResult, len(kept))
		for k, i := range kept {
			c.records[k] = req.Records[i]
		}
	}
	if c.ids != nil {
		c.arrived = make([]int64, len(kept))
	}
}

// refusals are the ranges of records that were refused because of them.
type refusals struct{ ranges []shardlog.HashRange }

// maxRefusals is how many are kept apart; more are taken for one.
const maxRefusals = 32

// check refuses a record whose range is not inside its shard, and one behind
// it that may have a key in common with it.
func (f *refusals) check(m *member, key shardlog.HashKey, r shardlog.HashRange) error {
	misrouted := r.First.Compare(m.meta.Start) < 0 || r.Last.Compare(m.meta.End) > 0
	// The record's own key counts, wherever its range is.
	if key.Compare(r.First) < 0 {
		r.First = key
	}
	if key.Compare(r.Last) > 0 {
		r.Last = key
	}
	behind := false
	for i := 0; i < len(f.ranges) && !behind; i++ {
		o := &f.ranges[i]
		behind = r.First.Compare(o.Last) <= 0 && o.First.Compare(r.Last) <= 0
	}
	if !misrouted && !behind {
		return nil
	}
	if len(f.ranges) < maxRefusals {
		f.ranges = append(f.ranges, r)
	} else {
		last := &f.ranges[maxRefusals-1]
		if r.First.Compare(last.First) < 0 {
			last.First = r.First
		}
		if r.Last.Compare(last.Last) > 0 {
			last.Last = r.Last
		}
	}
	if misrouted {
		return fmt.Errorf("%w: keys %v to %v on a shard of %v to %v", shardlog.ErrWrongShard, r.First, r.Last, m.meta.Start, m.meta.End)
	}
	return shardlog.ErrNotTried
}

// enter keeps a request of an older epoch from being stored behind the call
// that opened the next.
func (c *call) enter() error {
	if c.ident != nil && c.ident.assigned.Load() != c.req.Epoch {
		return errMoved
	}
	return nil
}

// inline is about how much the numbers add to the store's tree.
func (c *call) inline() int {
	if c.ident == nil {
		return 0
	}
	return min(len(c.req.Producer)+identityHeader+64+8*(len(c.todo)+c.known), kv.InlineValue)
}

// join makes the tickets of what a group has taken.
func (c *call) join(from, to int, attach func(logstore.Participant, any)) {
	if c.claim == nil {
		return
	}
	t := &ticket{epoch: c.req.Epoch, done: c.req.Done, taken: c.taken}
	var ids dedupTicket
	if c.ident != nil {
		t.numbers = make([]numbered, 0, to-from+len(c.noted)+len(c.copies))
	}
	number := func(i int, seq shardlog.SequenceNumber) {
		if c.ident != nil {
			t.numbers = append(t.numbers, numbered{c.req.Numbers[i], seq})
		}
		c.held[i] = false
	}
	if from == 0 {
		for _, i := range c.noted {
			number(i, c.res[i].Sequence)
		}
	}
	var taken map[int]shardlog.SequenceNumber // for the copies, if there are any
	if len(c.copies) > 0 {
		taken = make(map[int]shardlog.SequenceNumber, to-from)
	}
	for k := from; k < to; k++ {
		if c.out[k].Err != nil {
			continue
		}
		i, seq := c.todo[k], c.out[k].Sequence
		number(i, seq)
		if c.hasID(i) {
			ids.keys, ids.places = append(ids.keys, c.ids[i]), append(ids.places, dedupPlace{seq, c.arrived[k]})
			if taken != nil {
				taken[i] = seq
			}
		}
	}
	for _, d := range c.copies {
		if seq, ok := taken[d.of]; ok {
			number(d.index, seq)
		}
	}
	if len(t.numbers) > 0 {
		attach(c.ident, t)
	}
	if len(ids.keys) > 0 {
		ids.claim = c.claim
		attach(&c.st.dedup, &ids)
	}
}

// giveBack ends the claims to what no group took.
func (c *call) giveBack() {
	if c.claim == nil {
		return
	}
	var rest []int
	for _, d := range c.copies {
		rest = append(rest, d.index)
	}
	c.unclaim(c.todo, append(rest, c.noted...))
}

// unclaim gives back what no group took: records of todo, and others, of which
// only the number was claimed.
func (c *call) unclaim(todo, others []int) {
	numbers := 0
	var keys []dedupKey
	for j, list := range [][]int{todo, others} {
		for _, i := range list {
			if c.held == nil || !c.held[i] {
				continue
			}
			c.held[i] = false
			if c.ident != nil {
				numbers++
			}
			if j == 0 && c.hasID(i) {
				keys = append(keys, c.ids[i])
			}
		}
	}
	if numbers > 0 {
		c.ident.unclaim(c.taken, numbers)
	}
	if len(keys) > 0 {
		c.st.dedup.unclaim(c.claim, keys)
	}
}
