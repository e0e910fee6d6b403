package stream

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
	"github.com/shardlog/shardlog/internal/once"
)

// txTry is one attempt at a transaction: a part for each of its streams, in
// the order of their numbers, which is that of their locks.
type txTry struct {
	rows   *txRows
	only   *logstore.Shard
	parts  []*putTry
	of     []*putTry // of each of the transaction's streams, in its order
	joined bool
}

func newTxTry(tx *Tx, rows *txRows) *txTry {
	t := &txTry{rows: rows, only: tx.only}
	for _, s := range tx.streams {
		t.of = append(t.of, &putTry{st: s.st, meta: s.st.meta.Load(), req: &shardlog.PutRequest{Records: s.records}})
	}
	t.parts = slices.Clone(t.of)
	slices.SortFunc(t.parts, func(a, b *putTry) int { return cmp.Compare(a.st.id, b.st.id) })
	return t
}

// try stores the transaction. If something is in the way it stores nothing and
// returns what to wait for.
func (t *txTry) try(ctx context.Context) (wait <-chan struct{}, err error) {
	for _, p := range t.parts {
		if err := p.st.shape.RLock(ctx); err != nil {
			return nil, p.st.fail("commit", "", err)
		}
		defer p.st.shape.RUnlock()
		if p.st.deleted.Load() {
			return nil, p.st.fail("commit", "", shardlog.ErrNotFound)
		}
	}
	if err := t.checkOnly(); err != nil {
		return nil, err
	}
	if wait, err := t.reserve(ctx); wait != nil || err != nil {
		return wait, err
	}
	defer t.release()
	records, targets, out, arrivals, err := t.route()
	if err != nil {
		return nil, err
	}
	if len(records) > 0 || len(t.rows.keys) > 0 {
		err = t.store(ctx, records, targets, out, arrivals)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range t.parts {
		p.finish()
	}
	return nil, nil
}

// store appends the records together with the rows.
func (t *txTry) store(ctx context.Context, records []shardlog.Record, targets []*logstore.Shard, out []shardlog.PutResult, arrivals []int64) error {
	return t.rows.db.log.AppendWith(ctx, records, targets, out, &logstore.AppendOptions{
		Atomic: true, InlineBytes: t.rows.inline, Arrivals: arrivals,
		Joined: func(_, _ int, attach func(logstore.Participant, any)) {
			t.joined = true
			attach(t.rows, nil)
			for _, p := range t.parts {
				p.once.Attach(0, len(p.once.Todo), attach)
			}
		},
	})
}

// reserve reserves the dedup IDs of the records, all or none.
func (t *txTry) reserve(ctx context.Context) (wait <-chan struct{}, err error) {
	attempts := make([]*once.Attempt, len(t.parts))
	for i, p := range t.parts {
		if err := p.prepare(); err != nil {
			return nil, err
		}
		attempts[i] = &p.once
	}
	return once.Reserve(ctx, attempts...)
}

func (t *txTry) release() {
	for _, p := range t.parts {
		p.once.Release()
	}
}

// route finds the shards of the records and checks whether their limits admit
// all of them.
func (t *txTry) route() (records []shardlog.Record, targets []*logstore.Shard, out []shardlog.PutResult, arrivals []int64, err error) {
	buf := bufferPool.Get().(*buffers)
	defer bufferPool.Put(buf)
	n := 0
	for _, p := range t.parts {
		n += len(p.once.Todo)
	}
	targets = make([]*logstore.Shard, 0, n)
	whole := len(t.parts) == 1 && n == len(t.parts[0].req.Records)
	if whole {
		records = t.parts[0].req.Records
	} else {
		records = make([]shardlog.Record, 0, n)
	}
	loads := txLoads{}
	for _, p := range t.parts {
		r := p.st.routes.Load()
		for _, i := range p.once.Todo {
			sh := r.route(p.meta.Hash.cachedKey(&p.req.Records[i], &buf.hashes))
			if targets = append(targets, sh.s); !whole {
				records = append(records, p.req.Records[i])
			}
			if sh.lim != nil && sh.lim.writes {
				loads.add(p.st, sh, p.req.Records[i].Size())
			}
		}
	}
	if err := loads.admit(time.Now()); err != nil {
		return nil, nil, nil, nil, err
	}
	out, arrivals = make([]shardlog.PutResult, len(records)), make([]int64, len(records))
	from := 0
	for _, p := range t.parts {
		to := from + len(p.once.Todo)
		p.records, p.targets, p.once.Out, p.once.Arrivals = records[from:to], targets[from:to], out[from:to], arrivals[from:to]
		from = to
	}
	return records, targets, out, arrivals, nil
}

// txLoads are what a transaction would store on shards with write limits.
type txLoads map[*streamShard]*txLoad

type txLoad struct {
	st             *Stream
	records, bytes int
}

func (loads txLoads) add(st *Stream, sh *streamShard, size int) {
	l := loads[sh]
	if l == nil {
		l = &txLoad{st: st}
		loads[sh] = l
	}
	l.records++
	l.bytes += size
}

// admit takes what the records cost from the limits of their shards, of all or of
// none.
func (loads txLoads) admit(now time.Time) error {
	for sh, l := range loads {
		if wait := sh.lim.wait(now, l.records, l.bytes); wait > 0 {
			sh.ctr.writeThrottles.Add(int64(l.records))
			return &shardlog.Error{Op: "put", Stream: l.st.name, Shard: sh.s.Name(), RetryAfter: wait, Err: shardlog.ErrThroughputExceeded}
		}
	}
	for sh, l := range loads {
		sh.lim.spendWrites(now, l.records, l.bytes)
	}
	return nil
}

// results puts the results in the order of the transaction's records.
func (t *txTry) results(tx *Tx) []shardlog.PutResult {
	res := make([]shardlog.PutResult, len(tx.order))
	for i, at := range tx.order {
		res[i] = t.of[at.stream].once.Results[at.record]
	}
	return res
}

// checkOnly returns why the records do not all belong on the one shard of the
// transaction, if it has one. Those that are duplicates count as well: what is
// refused must not depend on what was stored before.
func (t *txTry) checkOnly() error {
	if t.only == nil {
		return nil
	}
	buf := bufferPool.Get().(*buffers)
	defer bufferPool.Put(buf)
	for _, p := range t.parts {
		sh := p.st.routes.Load().current(t.only)
		if sh == nil {
			return shardlog.ErrNotFound
		}
		if sh.meta.Closed {
			return shardlog.ErrShardClosed
		}
		for i := range p.req.Records {
			if err := sh.covers(i, p.meta.Hash.cachedKey(&p.req.Records[i], &buf.hashes)); err != nil {
				return err
			}
		}
	}
	return nil
}
