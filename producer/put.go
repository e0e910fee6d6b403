package producer

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
)

// Put stores one record and returns when it is as durable as the sink promises.
// It does not linger: alone, it goes at once. It blocks while the buffer is
// full (see Options.WhenFull) and until the record has its result.
//
// When ctx ends first, Put returns at once with an error that matches that of
// ctx. The record is then not stored, unless the error matches
// shardlog.ErrUnknownOutcome too. The context is not given to the sink, since
// the request may hold other records.
//
// Other errors: *shardlog.InvalidError for a record that breaks a limit,
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
		return Result{}, putError(endOf(ctx))
	}
	in := p.prepare(&r, size)
	w, ok := p.waiters.Get().(*waiter)
	if !ok {
		w = &waiter{ch: make(chan struct{}, 1)}
	}
	w.left, w.out = 1, w.one[:]

	now := p.now()
	p.mu.Lock()
	e, err := p.enter(&r, &in, p.opts.WhenFull == Block, now)
	if err != nil {
		p.unlock()
		p.waiters.Put(w)
		return Result{}, putError(err)
	}
	e.waiter = w
	if e.state != awaitsRoom {
		p.flushUpTo = max(p.flushUpTo, e.seq)
		p.onArrival(e)
	}
	p.unlock()

	p.awaitResult(ctx, w, func(cause error) { p.abandon(e, cause) })
	out := w.one[0]
	w.one[0], w.out = outcome{}, nil
	p.waiters.Put(w)
	return out.res, out.err
}

// awaitResult blocks until w was told, which it is soon after abandon was called.
func (p *Producer) awaitResult(ctx context.Context, w *waiter, abandon func(cause error)) {
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
		abandon(endOf(ctx))
	}
	p.advance(p.now())
	p.unlock()
	<-w.ch
}

// abandon gives an entry whose caller stops waiting its result. The caller
// knows that it has none yet.
func (p *Producer) abandon(e *entry, cause error) {
	err := cause
	if e.state == inRequest || e.inDoubt {
		err = both(shardlog.ErrUnknownOutcome, cause)
	}
	p.decide(e, &Result{}, putError(err))
}

// PutAsync takes one record into the buffer; done is called once with what
// became of it, unless PutAsync returns an error, which says that the record
// was not taken. A nil done leaves that to Stats.
//
// PutAsync blocks only while the buffer is full, and no longer than ctx; ctx
// has no meaning for a record that was taken. When more than four requests'
// worth of records wait for a sink that answers within 5 ms, or for their
// callbacks, it also waits for that to go on, until no request has been sent
// for 5 ms. The errors are those of Put that arise before a record is sent.
//
// Callbacks run one at a time, for each partition key in the order in which
// the records were put; for each shard, in the order of a request, and of all
// requests with MaxInFlight 1. One that takes long holds up the others, and in the
// end, by a full buffer, the writers, but no requests. A callback that panics is
// logged and counted, its panic is returned by Shutdown, and the others run.
// The methods of the Producer may be called from inside a callback; Flush and
// Shutdown then do not wait for callbacks, and puts do not wait for room.
func (p *Producer) PutAsync(ctx context.Context, r shardlog.Record, done func(Result, error)) error {
	return p.put(ctx, r, done, p.opts.WhenFull == Block)
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
		return putError(endOf(ctx))
	}
	in := p.prepare(&r, size)

	now := p.now()
	p.mu.Lock()
	e, err := p.enter(&r, &in, block, now)
	if err != nil {
		p.unlock()
		return putError(err)
	}
	e.callback = done
	if e.state != awaitsRoom {
		p.onArrival(e)
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
// given. Records are checked first: if one breaks a limit, nothing is taken and
// the error names all that do, by index. They enter the buffer in order, as far
// as there is room, then as room comes, so a batch may be larger than the
// buffer. It is not atomic.
//
// The error is nil when all are stored, and else a *BatchError that has the
// error of each. It matches what Put returns.
func (p *Producer) PutBatch(ctx context.Context, records []shardlog.Record) ([]Result, error) {
	sizes := make([]int, len(records))
	var faults []error
	for i := range records {
		var err error
		if sizes[i], err = p.check(&records[i]); err != nil {
			var bad *shardlog.InvalidError
			if errors.As(err, &bad) {
				bad.Field = fmt.Sprintf("records[%d].%s", i, bad.Field)
			}
			faults = append(faults, err)
		}
	}
	if faults != nil {
		return nil, putError(errors.Join(faults...))
	}
	if len(records) == 0 {
		return []Result{}, nil
	}
	w := &waiter{ch: make(chan struct{}, 1), left: len(records), out: make([]outcome, len(records))}
	entries := make([]*entry, len(records))
	for i := 0; i < len(records); {
		n, err := p.enterSome(ctx, w, i, records, sizes, entries)
		if i += n; err != nil {
			p.refuseFrom(w, i, putError(err))
			break
		}
	}
	p.awaitResult(ctx, w, func(cause error) {
		for i, e := range entries {
			if !w.out[i].set {
				p.abandon(e, cause)
			}
		}
	})
	res := make([]Result, len(records))
	errs := make([]error, len(records))
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
// is room. It returns how many were taken.
func (p *Producer) enterSome(ctx context.Context, w *waiter, i int, records []shardlog.Record, sizes []int, entries []*entry) (n int, err error) {
	if ctx.Err() != nil {
		return 0, endOf(ctx)
	}
	some := slices.Clone(records[i:min(i+p.opts.MaxBatchRecords, i+p.opts.BufferRecords, len(records))])
	in := make([]prepared, len(some))
	for j := range some {
		in[j] = p.prepare(&some[j], sizes[i+j])
	}
	now := p.now()
	p.mu.Lock()
	var last uint64
	for n < len(some) {
		r := &some[n]
		e, err := p.enter(r, &in[n], p.opts.WhenFull == Block, now)
		if err != nil {
			p.flushThrough(last)
			p.unlock()
			return n, err
		}
		entries[i+n], e.waiter, e.outIndex = e, w, i+n
		if e.state == awaitsRoom {
			admit := make(chan error, 1)
			e.admit = admit
			p.flushThrough(last)
			p.unlock()
			if err := p.awaitRoom(ctx, e, admit); err != nil {
				return n, err
			}
			return n + 1, nil
		}
		last = e.seq
		n++
	}
	p.flushThrough(last)
	p.unlock()
	return n, nil
}

// flushThrough sends what was accepted up to a number without lingering.
func (p *Producer) flushThrough(seq uint64) {
	p.flushUpTo = max(p.flushUpTo, seq)
	p.startSender(p.now())
	p.planTimer()
}

// refuseFrom gives the records from index i on, which were not taken, their
// error.
func (p *Producer) refuseFrom(w *waiter, i int, err error) {
	p.mu.Lock()
	defer p.unlock()
	for j := i; j < len(w.out); j++ {
		w.out[j] = outcome{set: true, err: err}
		p.noteResult(w)
	}
}

// check returns the size of a record, or the limit that it breaks.
func (p *Producer) check(r *shardlog.Record) (int, error) {
	k := r.PartitionKey
	switch {
	case k == "" && !p.opts.Spread:
		return 0, &shardlog.InvalidError{Field: "PartitionKey", Value: k, Limit: "at least 1 character"}
	case !utf8.ValidString(k):
		return 0, &shardlog.InvalidError{Field: "PartitionKey", Value: k, Limit: "valid UTF-8"}
	case len(k) > shardlog.MaxPartitionKeyLength && utf8.RuneCountInString(k) > shardlog.MaxPartitionKeyLength:
		return 0, &shardlog.InvalidError{Field: "PartitionKey", Value: fmt.Sprintf("of %d characters", utf8.RuneCountInString(k)),
			Limit: fmt.Sprintf("at most %d characters", shardlog.MaxPartitionKeyLength)}
	case k == "" && r.ExplicitHashKey.IsSet():
		return 0, &shardlog.InvalidError{Field: "ExplicitHashKey", Value: r.ExplicitHashKey, Limit: "unset in a record without partition key"}
	case len(r.Headers) > shardlog.MaxHeaders:
		return 0, &shardlog.InvalidError{Field: "Headers", Value: len(r.Headers), Limit: fmt.Sprintf("at most %d", shardlog.MaxHeaders)}
	}
	for i := range r.Headers {
		// They travel as strings of a format that has no others.
		if h := &r.Headers[i]; !utf8.ValidString(h.Key) || !utf8.ValidString(h.Value) {
			return 0, &shardlog.InvalidError{Field: fmt.Sprintf("Headers[%d]", i), Value: h.Key, Limit: "valid UTF-8"}
		}
	}
	if err := p.checkHeaders(r); err != nil {
		return 0, err
	}
	if r.DedupID != "" {
		if err := p.checkDedupID(r.DedupID); err != nil {
			return 0, err
		}
	}
	n := r.Size()
	if k == "" {
		n += madeUpKeyLength
	}
	most, what := n, "with key and headers"
	if p.mustWrap(r.Data, r.Headers) {
		most, what = p.wrappedSize(r), "when it is wrapped as an aggregate"
	}
	if most > p.opts.MaxRecordSize {
		return 0, &shardlog.InvalidError{Field: "Data", Value: fmt.Sprintf("of %d bytes %s", most, what), Limit: fmt.Sprintf("at most %d bytes", p.opts.MaxRecordSize)}
	}
	return n, nil
}

// wrappedSize is the size of a record that goes as an aggregate of one.
func (p *Producer) wrappedSize(r *shardlog.Record) int {
	u := kpl.UserRecord{PartitionKey: r.PartitionKey, HashKey: r.ExplicitHashKey, Data: r.Data, Headers: r.Headers}
	if u.PartitionKey == "" {
		u.PartitionKey, u.HashKey = strings.Repeat("k", madeUpKeyLength), shardlog.MaxHashKey // as long as any that is made up
	}
	return kpl.Alone(u) + len(u.PartitionKey)
}

func (p *Producer) checkDedupID(id string) error {
	switch {
	case len(id) > maxDedupID:
		return &shardlog.InvalidError{Field: "DedupID", Value: id, Limit: fmt.Sprintf("at most %d bytes", maxDedupID)}
	case !utf8.ValidString(id):
		return &shardlog.InvalidError{Field: "DedupID", Value: id, Limit: "valid UTF-8"}
	case !shardlog.CapabilitiesOf(p.sink).DedupID: // may be turned on later
		return fmt.Errorf("%w: the sink does not look at DedupID", shardlog.ErrUnsupported)
	}
	return nil
}

// maxDedupID is what shardlog.Record.DedupID says.
const maxDedupID = 256

// prepared is what a record becomes an entry with, besides itself.
type prepared struct {
	size              int
	hash              uint64
	explicit, keyless bool
	extras            *extras
}

// prepare makes r independent of what the caller may change, but for small data,
// and finds out what needs no lock.
func (p *Producer) prepare(r *shardlog.Record, size int) prepared {
	in := prepared{size: size, explicit: r.ExplicitHashKey.IsSet(), keyless: r.PartitionKey == ""}
	if !p.opts.BorrowData && len(r.Data) > smallData {
		r.Data = slices.Clone(r.Data) // smaller data is copied by enter
	}
	if r.Headers != nil || r.DedupID != "" {
		in.extras = &extras{headers: r.Headers, dedupID: r.DedupID}
		if !p.opts.BorrowData {
			in.extras.headers = slices.Clone(r.Headers)
		}
	}
	if in.keyless {
		in.hash = rand.Uint64() // its order matters to no other
		return in
	}
	in.hash = maphash.String(p.seed, r.PartitionKey)
	if p.needsShards && !in.explicit {
		r.ExplicitHashKey = shardlog.KeyHash(r.PartitionKey)
	}
	return in
}
