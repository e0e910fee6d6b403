package stream

import (
	"context"
	"errors"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
	"github.com/shardlog/shardlog/internal/once"
)

// putTry is one attempt at a request, or at a stream's part of a transaction. It
// belongs to the goroutine of the call.
type putTry struct {
	st   *Stream
	meta *streamMeta
	req  *shardlog.PutRequest
	keys []shardlog.HashKey // of each record
	buf  *buffers
	once once.Attempt // what is stored already, and what is to be stored

	records []shardlog.Record // those of once.Todo
	targets []*logstore.Shard // where they go
}

// begin finds out what is stored already and reserves the rest; see once.Reserve.
func (t *putTry) begin(ctx context.Context) (wait <-chan struct{}, err error) {
	if err := t.prepare(); err != nil {
		return nil, err
	}
	return once.Reserve(ctx, &t.once)
}

// prepare sets what once.Reserve needs.
func (t *putTry) prepare() error {
	a := &t.once
	a.Records, a.Results = t.req.Records, make([]shardlog.PutResult, len(t.req.Records))
	if id := t.req.Producer; id != "" {
		a.Identity, a.Epoch, a.Done, a.Numbers = t.st.producers.Find(id), t.req.Epoch, t.req.Done, t.req.Numbers
		if a.Identity == nil {
			return once.UnknownIdentity(id)
		}
	}
	if t.meta.DedupWindow > 0 && hasIDs(t.req.Records) {
		a.IDs, a.Window = t.st.dedup, t.meta.DedupWindow
	}
	return nil
}

// try stores what is not stored yet. If something is in the way it stores
// nothing and returns what to wait for.
func (t *putTry) try(ctx context.Context) (wait <-chan struct{}, err error) {
	st, a := t.st, &t.once
	if err := st.shape.RLock(ctx); err != nil {
		return nil, err
	}
	defer st.shape.RUnlock()
	if st.deleted.Load() {
		return nil, shardlog.ErrNotFound
	}
	if wait, err := t.begin(ctx); wait != nil || err != nil {
		return wait, err
	}
	t.choose()
	if a.Needed() {
		opts := &logstore.AppendOptions{Check: a.Check, Joined: a.Attach, InlineBytes: a.InlineBytes(), Arrivals: a.Arrivals}
		err = st.db.log.AppendWith(ctx, t.records, t.targets, a.Out, opts)
	}
	a.Release()
	if errors.Is(err, once.ErrEpochChanging) {
		return closedChan, nil // the next attempt finds out how
	}
	if err != nil {
		return nil, err
	}
	t.finish()
	return nil, nil
}

// closedChan is what to wait for before an attempt that may be made
// immediately.
var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// finish puts together the results.
func (t *putTry) finish() {
	a := &t.once
	for k, i := range a.Todo {
		err := a.Out[k].Err
		if errors.Is(err, once.ErrEpochChanging) {
			err = shardlog.ErrNotTried // the next attempt says why
		}
		if a.Results[i] = a.Out[k]; err != nil {
			a.Results[i].Err = t.st.fail("put", t.targets[k].Name(), err)
		}
	}
	a.CopyResults()
	if len(a.Todo) < len(a.Results) {
		t.countNotStored()
	}
}

// countNotStored adds what was not stored to the stream's figures.
func (t *putTry) countNotStored() {
	duplicates, refused := int64(0), int64(0)
	for i := range t.once.Results {
		if t.once.Results[i].Duplicate {
			duplicates++
		} else if errors.Is(t.once.Results[i].Err, shardlog.ErrWrongShard) {
			refused++
		}
	}
	t.st.duplicates.Add(duplicates)
	t.st.misrouted.Add(refused)
}

// choose finds each record's shard, refuses what may not go there, and
// collects the others.
func (t *putTry) choose() {
	st, req, a := t.st, t.req, &t.once
	r := st.routes.Load()
	now := time.Now()
	over := map[*streamShard]error{} // shards at their limit
	var refused misrouted
	kept := a.Todo[:0]
	t.targets = t.buf.targetsFor(len(a.Todo))[:0]
	for _, i := range a.Todo {
		key := t.keys[i]
		sh := r.route(key)
		var err error
		if req.Ranges != nil {
			err = refused.check(sh, key, req.Ranges[i])
		}
		if err == nil && over[sh] != nil {
			err = over[sh]
			sh.ctr.writeThrottles.Add(1)
		}
		if err == nil && sh.lim != nil && sh.lim.writes {
			// A smaller record may not slip past one that was refused: it
			// could be of the same key.
			if err = st.admit(sh, now, &req.Records[i]); err != nil {
				over[sh] = err
			}
		}
		if err != nil {
			a.Results[i].Err = st.fail("put", sh.s.Name(), err)
			a.Refuse(i)
			continue
		}
		kept, t.targets = append(kept, i), append(t.targets, sh.s)
	}
	a.Todo = kept
	t.records, a.Out = req.Records, a.Results
	if len(kept) < len(req.Records) {
		t.records, a.Out = make([]shardlog.Record, len(kept)), make([]shardlog.PutResult, len(kept))
		for k, i := range kept {
			t.records[k] = req.Records[i]
		}
	}
	if a.HasIDs() {
		a.Arrivals = make([]int64, len(kept))
	}
}
