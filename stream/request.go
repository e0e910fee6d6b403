package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/shard"
)

// Capabilities implements shardlog.Capable.
func (st *Stream) Capabilities() shardlog.Capabilities {
	return shardlog.Capabilities{RefusesMisrouted: true, Idempotent: true, Pushes: true}
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
// ErrInvalid if a number is below a Done that was given before, or more than
// 1,048,576 above. In results, ErrWrongShard is a record whose range is not
// inside its shard; shardlog.ErrNotTried, one behind it whose range overlaps.
func (st *Stream) PutRequest(ctx context.Context, req *shardlog.PutRequest) ([]shardlog.PutResult, error) {
	if err := st.enter(ctx, "put"); err != nil {
		return nil, err
	}
	if req == nil {
		return nil, st.fail("put", "", &shardlog.InvalidError{Field: "req", Value: nil, Limit: "not nil"})
	}
	meta := st.meta.Load()
	err := errors.Join(checkRequest(req), checkRecords(req.Records, min(meta.MaxRecordSize, st.db.largestRecord())))
	if err != nil {
		return nil, st.fail("put", "", err)
	}
	if len(req.Records) == 0 && req.Producer == "" {
		return []shardlog.PutResult{}, nil
	}
	return st.request(ctx, meta, req)
}

// request tries until nothing is in the way.
func (st *Stream) request(ctx context.Context, meta *streamMeta, req *shardlog.PutRequest) ([]shardlog.PutResult, error) {
	for {
		c := &call{st: st, meta: meta, req: req, res: make([]shardlog.PutResult, len(req.Records))}
		wait, err := c.try(ctx)
		if err == nil && wait == nil {
			return c.res, nil
		}
		if err == nil {
			err = st.await(ctx, wait)
		}
		if err != nil {
			return nil, st.fail("put", "", err)
		}
	}
}

func checkRequest(req *shardlog.PutRequest) error {
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
		field := fmt.Sprintf("Numbers[%d]", i)
		switch {
		case n < req.Done:
			return invalid(field, n, "at least Done, %d", req.Done)
		case n-req.Done >= maxNumbers:
			return invalid(field, n, "less than %d above Done, %d", maxNumbers, req.Done)
		case i > 0 && n <= req.Numbers[i-1]:
			return invalid(field, n, "above the one before, %d", req.Numbers[i-1])
		}
	}
	return nil
}

// call is one attempt at a request.
type call struct {
	st    *Stream
	meta  *streamMeta
	req   *shardlog.PutRequest
	res   []shardlog.PutResult
	ident *identity
	claim *claim
	known int // about how many numbers the identity has, where it matters

	todo    []int // indexes of the records that are to be stored
	records []shardlog.Record
	targets []*shard.Shard
	out     []shardlog.PutResult
	joined  []bool // which of todo a group has taken
}

// try stores what is not stored yet. If something is in the way it stores
// nothing and returns what to wait for.
func (c *call) try(ctx context.Context) (wait <-chan struct{}, err error) {
	st := c.st
	st.shape.RLock()
	defer st.shape.RUnlock()
	if st.deleted.Load() {
		return nil, shardlog.ErrNotFound
	}
	if wait, err := c.begin(); wait != nil || err != nil {
		return wait, err
	}
	c.choose()
	if len(c.todo) == 0 {
		return nil, nil
	}
	err = st.db.log.AppendWith(ctx, c.records, c.targets, c.out, &shard.Trip{Enter: c.enter, Join: c.join, Inline: c.inline()})
	c.giveBack()
	if errors.Is(err, errMoved) {
		return closedChan, nil // it says then how
	}
	if err != nil {
		return nil, err
	}
	for k, i := range c.todo {
		err := c.out[k].Err
		if errors.Is(err, errMoved) {
			err = shardlog.ErrNotTried // the next try says why
		}
		if c.res[i] = c.out[k]; err != nil {
			c.res[i].Err = st.fail("put", c.targets[k].Name(), err)
		}
	}
	return nil, nil
}

// begin finds out what is stored already, and claims the rest.
func (c *call) begin() (wait <-chan struct{}, err error) {
	n := len(c.req.Records)
	c.todo = make([]int, 0, n)
	if c.req.Producer == "" {
		for i := range n {
			c.todo = append(c.todo, i)
		}
		return nil, nil
	}
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
	c.ident, c.claim, c.known = p, newClaim(), min(len(p.stored), baseNumbers)
	for i := range n {
		if !c.res[i].Duplicate {
			c.todo = append(c.todo, i)
			p.claimed(c.req.Numbers[i], c.claim)
		}
	}
	return nil, nil
}

func duplicate(seq shardlog.SequenceNumber) shardlog.PutResult {
	return shardlog.PutResult{ShardID: shard.Name(seq.Shard()), Sequence: seq, Duplicate: true}
}

// choose finds each record's shard, refuses what may not go there, and
// collects the others.
func (c *call) choose() {
	st, req := c.st, c.req
	r := st.routes.Load()
	sc := scratches.Get().(*scratch)
	defer scratches.Put(sc)
	now := time.Now()
	over := map[*member]error{} // shards at their limit
	var misrouted refusals
	kept := c.todo[:0]
	c.targets = make([]*shard.Shard, 0, len(c.todo))
	var refused []int
	for _, i := range c.todo {
		key := c.meta.Hash.cachedKey(&req.Records[i], &sc.hashes)
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
			refused = append(refused, i)
			continue
		}
		kept, c.targets = append(kept, i), append(c.targets, m.s)
	}
	c.todo = kept
	c.unclaim(refused)
	c.records = req.Records
	if len(kept) < len(req.Records) {
		c.records = make([]shardlog.Record, len(kept))
		for k, i := range kept {
			c.records[k] = req.Records[i]
		}
	}
	c.out, c.joined = make([]shardlog.PutResult, len(kept)), make([]bool, len(kept))
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
func (c *call) join(from, to int, ride func(shard.Rider, any)) {
	if c.ident == nil {
		return
	}
	t := &ticket{epoch: c.req.Epoch, done: c.req.Done, claim: c.claim, numbers: make([]numbered, 0, to-from)}
	for k := from; k < to; k++ {
		if c.out[k].Err == nil {
			c.joined[k] = true
			t.numbers = append(t.numbers, numbered{c.req.Numbers[c.todo[k]], c.out[k].Sequence})
		}
	}
	if len(t.numbers) > 0 {
		ride(c.ident, t)
	}
}

// giveBack ends the claims to what no group took.
func (c *call) giveBack() {
	var left []int
	for k, i := range c.todo {
		if !c.joined[k] {
			left = append(left, i)
		}
	}
	c.unclaim(left)
}

func (c *call) unclaim(left []int) {
	if c.ident == nil || len(left) == 0 {
		return
	}
	numbers := make([]uint64, len(left))
	for k, i := range left {
		numbers[k] = c.req.Numbers[i]
	}
	c.ident.unclaim(c.claim, numbers...)
}
