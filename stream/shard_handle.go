package stream

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
	"github.com/shardlog/shardlog/shard"
)

// Shard returns a handle on the shard with the ID, one that is listed by
// Shards. It does not block. The error matches shardlog.ErrNotFound if there is
// no such shard, or the stream was deleted, and shardlog.ErrClosed if the
// database is closed.
func (st *Stream) Shard(id string) (*shard.Shard, error) {
	return st.shard(context.Background(), "shard", id)
}

// shard is Shard for a method that has a context and a name.
func (st *Stream) shard(ctx context.Context, op, id string) (*shard.Shard, error) {
	if err := st.enter(ctx, op); err != nil {
		return nil, err
	}
	sh := st.routes.Load().find(id)
	if sh == nil {
		return nil, st.fail(op, id, shardlog.ErrNotFound)
	}
	return sh.handle, nil
}

// Read implements shardlog.Source. It blocks for at most req.Wait. Errors match
// shardlog.ErrInvalid for a bad request or a position of another shard,
// ErrNotFound, ErrExpired if retention has removed records after the position,
// ErrCorrupt if the next record is damaged, ErrThroughputExceeded, ErrClosed,
// or that of ctx.
func (st *Stream) Read(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	s, err := st.shard(ctx, "read", req.ShardID)
	if err != nil {
		return shardlog.Page{}, err
	}
	return s.Read(ctx, req)
}

// ReadDedicated is Read for a reader with a throughput of its own, such as a
// registered consumer of Kinesis: read limits neither stop it nor count what
// it reads.
func (st *Stream) ReadDedicated(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	s, err := st.shard(ctx, "read", req.ShardID)
	if err != nil {
		return shardlog.Page{}, err
	}
	return s.ReadDedicated(ctx, req)
}

// Resolve returns the place that a position names at this moment, in a form
// that stays; see shard.Shard.Resolve.
func (st *Stream) Resolve(ctx context.Context, shardID string, from shardlog.Position) (shardlog.Position, error) {
	s, err := st.shard(ctx, "read", shardID)
	if err != nil {
		return shardlog.Position{}, err
	}
	return s.Resolve(ctx, from)
}

// Records iterates over the records of a shard from a position to its tail, and
// ends there; see shard.Shard.Records.
func (st *Stream) Records(ctx context.Context, shardID string, from shardlog.Position) iter.Seq2[shardlog.Record, error] {
	return overShard(ctx, st, "records", shardID, from, (*shard.Shard).Records)
}

// Scan is Records whose records are borrowed: the record and the bytes of its
// Data, its strings and its Headers are valid until the loop asks for the next
// one, and must not be changed or kept. It is for reading large amounts at the
// highest speed. With an error the record is nil; see shard.Shard.Scan.
func (st *Stream) Scan(ctx context.Context, shardID string, from shardlog.Position) iter.Seq2[*shardlog.Record, error] {
	return overShard(ctx, st, "scan", shardID, from, (*shard.Shard).Scan)
}

// ScanTail is Tail whose records are borrowed, as those of Scan are.
func (st *Stream) ScanTail(ctx context.Context, shardID string, from shardlog.Position) iter.Seq2[*shardlog.Record, error] {
	return overShard(ctx, st, "tail", shardID, from, (*shard.Shard).ScanTail)
}

// Tail is Records that follows the shard: at the tail it waits for more. It
// ends at the end of a closed shard, and when ctx ends, with its cause.
func (st *Stream) Tail(ctx context.Context, shardID string, from shardlog.Position) iter.Seq2[shardlog.Record, error] {
	return overShard(ctx, st, "tail", shardID, from, (*shard.Shard).Tail)
}

// overShard looks the shard up when the loop begins. R is shardlog.Record, or a
// pointer to one.
func overShard[R any](ctx context.Context, st *Stream, op, shardID string, from shardlog.Position, over func(*shard.Shard, context.Context, shardlog.Position) iter.Seq2[R, error]) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		s, err := st.shard(ctx, op, shardID)
		if err != nil {
			var none R
			yield(none, err)
			return
		}
		over(s, ctx, from)(yield)
	}
}

// PutIf stores records on one shard if its last record is the one given, or,
// if expected is unset, if it never had one: optimistic locking for event
// sourcing. All records are stored together or none is; see shard.Shard.PutIf.
func (st *Stream) PutIf(ctx context.Context, shardID string, expected shardlog.SequenceNumber, records []shardlog.Record) ([]shardlog.PutResult, error) {
	s, err := st.shard(ctx, "put if", shardID)
	if err != nil {
		return nil, err
	}
	return s.PutIf(ctx, expected, records)
}

// shardOwner is what a shard's handle asks the stream. The shard may be closed
// or removed meanwhile, so it looks for its current state each time.
type shardOwner struct {
	st *Stream
	s  *logstore.Shard
}

// current returns the shard's current state. It fails with shardlog.ErrNotFound
// if retention has removed it.
func (o *shardOwner) current() (*streamShard, error) {
	if sh := o.st.routes.Load().current(o.s); sh != nil {
		return sh, nil
	}
	return nil, shardlog.ErrNotFound
}

// Name implements shard's owner, as the methods below do.
func (o *shardOwner) Name() string { return o.st.name }

func (o *shardOwner) Enter(ctx context.Context, op string) error {
	err := o.st.db.refusal(ctx)
	if err == nil {
		_, err = o.current()
		err = o.st.orDeleted(err)
	}
	if err != nil {
		return o.st.fail(op, o.s.Name(), err)
	}
	return nil
}

func (o *shardOwner) Fail(op string, err error) error {
	return o.st.fail(op, o.s.Name(), o.st.orDeleted(err))
}

func (o *shardOwner) Describe() (shardlog.ShardInfo, error) {
	sh, err := o.current()
	if err != nil {
		return shardlog.ShardInfo{}, err
	}
	return sh.info(), nil
}

func (o *shardOwner) AdmitRead(op string) error {
	sh, err := o.current()
	if err != nil {
		return o.Fail(op, err)
	}
	if sh.lim != nil && sh.lim.reads {
		if wait := sh.lim.read(time.Now()); wait > 0 {
			sh.ctr.readThrottles.Add(1)
			return &shardlog.Error{Op: op, Stream: o.st.name, Shard: o.s.Name(), RetryAfter: wait, Err: shardlog.ErrThroughputExceeded}
		}
	}
	return nil
}

func (o *shardOwner) CountRead(p *shardlog.Page, dedicated bool) {
	sh, err := o.current()
	if err != nil || dedicated {
		return
	}
	sh.ctr.behind.Store(int64(p.Behind))
	if sh.lim != nil && sh.lim.reads {
		size := 0
		for i := range p.Records {
			size += p.Records[i].Size()
		}
		sh.lim.readBytes(time.Now(), size)
	}
}

func (o *shardOwner) AwaitChange(ctx context.Context) error { return o.st.reshaped(ctx) }

func (o *shardOwner) Children() ([]string, error) {
	r := o.st.routes.Load()
	sh := r.current(o.s)
	if sh == nil {
		// Its children may be gone as well by now, which must not look as if
		// there had never been any.
		return nil, shardlog.ErrNotFound
	}
	return r.children(sh.index()), nil
}

// Append is a transaction whose records all belong on this shard.
func (o *shardOwner) Append(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	if err := o.Enter(ctx, "append"); err != nil {
		return nil, err
	}
	if len(records) > MaxTxRecords {
		return nil, o.Fail("append", &shardlog.InvalidError{Field: "records", Value: len(records), Limit: fmt.Sprintf("at most %d", MaxTxRecords)})
	}
	size := 0
	for i := range records {
		size += records[i].Size() + len(records[i].DedupID)
	}
	if size > maxAtomic {
		return nil, o.Fail("append", tooLarge(size))
	}
	tx := &Tx{db: o.st.db, only: o.s}
	tx.Put(o.st, records...)
	res, err := tx.commit(ctx)
	if e, ok := err.(*shardlog.Error); ok {
		// The error of a transaction names the shard that failed among many;
		// here there is one, and the operation is append.
		return nil, &shardlog.Error{Op: "append", Stream: o.st.name, Shard: o.s.Name(), RetryAfter: e.RetryAfter, Err: e.Err}
	}
	if err != nil {
		return nil, o.Fail("append", err)
	}
	return res.Records, nil
}

func tooLarge(size int) error {
	return &shardlog.InvalidError{Field: "records", Value: fmt.Sprintf("of %d bytes", size), Limit: fmt.Sprintf("at most %d bytes together", maxAtomic)}
}

func (o *shardOwner) PutIf(ctx context.Context, expected shardlog.SequenceNumber, records []shardlog.Record) ([]shardlog.PutResult, error) {
	const op = "put if"
	if err := o.Enter(ctx, op); err != nil {
		return nil, err
	}
	st, id := o.st, o.s.Name()
	meta := st.meta.Load()
	if err := checkRecords(records, min(meta.MaxRecordSize, st.db.largestRecord()), idsCondition); err != nil {
		return nil, st.fail(op, id, err)
	}
	size := 0
	for i := range records {
		size += records[i].Size()
	}
	if size > maxAtomic {
		return nil, st.fail(op, id, tooLarge(size))
	}
	if err := st.shape.RLock(ctx); err != nil {
		return nil, st.fail(op, id, err)
	}
	defer st.shape.RUnlock()
	sh, err := o.current()
	if err != nil || st.deleted.Load() {
		return nil, st.fail(op, id, shardlog.ErrNotFound)
	}
	if sh.meta.Closed {
		return nil, st.fail(op, id, shardlog.ErrShardClosed)
	}
	for i := range records {
		if err := sh.covers(i, meta.Hash.hashKey(&records[i])); err != nil {
			return nil, st.fail(op, id, err)
		}
	}
	if sh.lim != nil && sh.lim.writes && len(records) > 0 {
		if wait := sh.lim.writeAll(time.Now(), len(records), size); wait > 0 {
			sh.ctr.writeThrottles.Add(int64(len(records)))
			return nil, &shardlog.Error{Op: op, Stream: st.name, Shard: id, RetryAfter: wait, Err: shardlog.ErrThroughputExceeded}
		}
	}
	seqs, err := st.db.log.AppendIf(ctx, sh.s, expected, records)
	if err != nil {
		return nil, st.fail(op, id, err)
	}
	res := make([]shardlog.PutResult, len(seqs))
	for i := range seqs {
		res[i] = shardlog.PutResult{ShardID: id, Sequence: seqs[i]}
	}
	return res, nil
}
