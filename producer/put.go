package producer

import (
	"context"
	"slices"

	"github.com/shardlog/shardlog"
)

// Put stores one record and returns when it is as durable as the sink promises.
// It does not linger: alone, it goes immediately. It blocks while the buffer is
// full (see Options.WhenFull) and until the record has its result.
//
// When ctx ends first, Put returns immediately with an error that matches that
// of ctx. If the record is in a request at the sink, or was in one whose outcome
// is not known, the error matches shardlog.ErrUnknownOutcome as well: the record
// may be stored, or may be later. Otherwise it never will be. The context is not
// given to the sink, because the request may hold other records.
//
// Other errors: *shardlog.InvalidError for a record that breaks a limit,
// shardlog.ErrUnsupported for headers or a DedupID that the sink would not store,
// shardlog.ErrClosed, ErrBufferFull, ErrTTLExpired, shardlog.ErrUnknownOutcome
// if the record may be stored, and those of the sink. From inside a callback,
// where waiting for room could be waiting for itself, a full buffer gives
// ErrBufferFull.
func (p *Producer) Put(ctx context.Context, r shardlog.Record) (Result, error) {
	size, err := p.check(&r)
	if err != nil {
		return Result{}, putError(err)
	}
	if ctx.Err() != nil {
		return Result{}, putError(shardlog.ContextError(ctx))
	}
	in := p.prepare(&r, size)
	w, ok := p.waiters.Get().(*waiter)
	if !ok {
		w = &waiter{ch: make(chan struct{}, 1)}
	}
	w.left, w.out, w.entries = 1, w.one[:], w.oneEntry[:]

	now := p.now()
	p.mu.Lock()
	waiting, err := p.enterLocked(&r, &in, recipient{waiter: w}, p.conf.WhenFull == Block, now)
	if err != nil {
		p.unlock()
		p.waiters.Put(w)
		return Result{}, putError(err)
	}
	if waiting == nil {
		p.core.flushThrough(p.core.buffer.seq)
		p.core.onArrival(in.size, now)
	}
	p.unlock()

	p.awaitResult(ctx, w)
	out := w.one[0]
	w.one[0], w.out = outcome{}, nil
	w.oneEntry[0], w.entries = nil, nil
	p.waiters.Put(w)
	return out.res, out.err
}

// enterLocked takes a record in; its number is buffer.seq then. If it has to wait for
// room, it returns an entry whose state is awaitsRoom, and the caller waits; a
// callback cannot, because it keeps others from making room. The caller holds mu,
// which may be released meanwhile.
func (p *Producer) enterLocked(r *shardlog.Record, in *prepared, to recipient, block bool, now int64) (waiting *entry, err error) {
	c := &p.core
	wait := c.mustWait(in.size, block, now)
	if wait && block && c.outbox.running {
		block = !p.insideCallbackLocked()
		wait = c.mustWait(in.size, block, now)
	}
	if !wait && c.life == stateOpen && in.extras == nil && c.packs() {
		c.pack(r.PartitionKey, r.Data, c.conf.storing(len(r.Data), c.conf.BorrowData), r.ExplicitHashKey, to, now)
		return nil, nil
	}
	if c.conf.packs {
		in.hash = c.conf.hashOf(r.PartitionKey)
	}
	e, err := c.enter(r, in, wait, block, now)
	if err != nil {
		return nil, err
	}
	e.setRecipient(to)
	if !wait {
		return nil, nil
	}
	c.planTimer(now)
	return e, nil
}

// awaitResult blocks until w was notified. When ctx ends first, it gives the
// records of w that have none their results.
func (p *Producer) awaitResult(ctx context.Context, w *waiter) {
	if ctx.Done() == nil {
		<-w.ch
		return
	}
	select {
	case <-w.ch:
		return
	case <-ctx.Done():
	}
	p.mu.Lock()
	if w.left > 0 {
		p.core.abandonAll(w, shardlog.ContextError(ctx))
	}
	p.core.advance(p.now())
	p.unlock()
	<-w.ch
}

// awaitRoom blocks until e was accepted or refused, or ctx ends. E may be in
// other hands as soon as it was accepted.
func (p *Producer) awaitRoom(ctx context.Context, e *entry, admit chan error) error {
	select {
	case err := <-admit:
		return err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.unlock()
	select {
	case err := <-admit:
		return err
	default:
	}
	p.core.withdraw(e, p.now())
	return shardlog.ContextError(ctx)
}

// PutAsync accepts one record into the buffer; done is called once with its
// result, unless PutAsync returns an error, which says that the record was not
// accepted and will not be stored. With a nil done, only Stats shows the result.
//
// PutAsync blocks only while the buffer is full, and no longer than ctx; ctx
// has no meaning for a record that was accepted. When more than four requests'
// worth of records wait for a sink that answers within 5 ms, or for their
// callbacks, it also waits until half of them are done, or no request has been
// sent for 5 ms. The errors are those of Put that arise before a record is sent.
//
// Callbacks run one at a time, for each partition key in the order in which
// the records were put; for each shard, in the order of a request, and of all
// requests with MaxInFlight 1. One that takes long delays the others, and in the
// end, by a full buffer, the writers, but no requests. A callback that panics is
// logged and counted, its panic is returned by Shutdown, and the others run.
// The methods of the Producer may be called from inside a callback; Flush and
// Shutdown then do not wait for callbacks, and puts do not wait for room.
func (p *Producer) PutAsync(ctx context.Context, r shardlog.Record, done func(Result, error)) error {
	return p.put(ctx, r, done, p.conf.WhenFull == Block)
}

// TryPut is PutAsync that never blocks: it returns ErrBufferFull when the
// buffer has no room.
func (p *Producer) TryPut(r shardlog.Record, done func(Result, error)) error {
	return p.put(context.Background(), r, done, false)
}

func (p *Producer) put(ctx context.Context, r shardlog.Record, done func(Result, error), block bool) error {
	size, err := p.check(&r)
	if err != nil {
		return putError(err)
	}
	if ctx.Err() != nil {
		return putError(shardlog.ContextError(ctx))
	}
	in := p.prepare(&r, size)

	now := p.now()
	p.mu.Lock()
	e, err := p.enterLocked(&r, &in, recipient{callback: done}, block, now)
	if err != nil {
		p.unlock()
		return putError(err)
	}
	if e == nil {
		p.core.onArrival(in.size, now)
		p.unlock()
		return nil
	}
	admit := make(chan error, 1)
	e.admit = admit
	p.unlock()
	if err := p.awaitRoom(ctx, e, admit); err != nil {
		return putError(err)
	}
	return nil
}

// PutBatch stores records and returns when each has its result, in the order
// given. Records are checked first: if one breaks a limit, nothing is accepted
// and the error names all that do, by index. They enter the buffer in order, as
// many as there is room for, then as room comes, so a batch may be larger than
// the buffer. It is not atomic.
//
// The error is nil when all are stored, and otherwise a *BatchError that has the
// error of each, which is what Put would return. When ctx ends first, PutBatch
// returns immediately, and the error of each record without a result says
// whether that record may be stored.
func (p *Producer) PutBatch(ctx context.Context, records []shardlog.Record) ([]Result, error) {
	sizes, err := p.checkAll(records)
	if err != nil {
		return nil, putError(err)
	}
	if len(records) == 0 {
		return []Result{}, nil
	}
	w := &waiter{ch: make(chan struct{}, 1), left: len(records), out: make([]outcome, len(records)), entries: make([]*entry, len(records))}
	for i := 0; i < len(records); {
		n, err := p.enterSome(ctx, w, i, records, sizes)
		if i += n; err != nil {
			p.mu.Lock()
			p.core.refuseFrom(w, i, putError(err))
			p.unlock()
			break
		}
	}
	p.awaitResult(ctx, w)
	return w.results()
}

// results returns the results of a batch.
func (w *waiter) results() ([]Result, error) {
	res := make([]Result, len(w.out))
	errs := make([]error, len(w.out))
	failed := false
	for i, out := range w.out {
		res[i], errs[i] = out.res, out.err
		failed = failed || out.err != nil
	}
	if failed {
		return res, &BatchError{Errors: errs}
	}
	return res, nil
}

// enterSome enters records of a batch from index i on, up to a request's worth
// at a time so that they can go together and are not all copied before there
// is room. It returns how many were accepted.
func (p *Producer) enterSome(ctx context.Context, w *waiter, i int, records []shardlog.Record, sizes []int) (n int, err error) {
	if ctx.Err() != nil {
		return 0, shardlog.ContextError(ctx)
	}
	some := slices.Clone(records[i:min(i+p.conf.MaxBatchRecords, i+p.conf.BufferRecords, len(records))])
	in := make([]prepared, len(some))
	for j := range some {
		in[j] = p.prepare(&some[j], sizes[i+j])
	}
	now := p.now()
	p.mu.Lock()
	var last uint64
	for n < len(some) {
		e, err := p.enterLocked(&some[n], &in[n], recipient{waiter: w, outIndex: i + n}, p.conf.WhenFull == Block, now)
		if err != nil {
			p.core.rush(last, now)
			p.unlock()
			return n, err
		}
		if e != nil {
			admit := make(chan error, 1)
			e.admit = admit
			p.core.rush(last, now)
			p.unlock()
			if err := p.awaitRoom(ctx, e, admit); err != nil {
				return n, err
			}
			return n + 1, nil
		}
		last = p.core.buffer.seq
		n++
	}
	p.core.rush(last, now)
	p.unlock()
	return n, nil
}
