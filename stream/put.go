package stream

import (
	"context"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
)

// Put stores one record. It is PutRecords with one, a little cheaper. The error
// matches shardlog.ErrUnknownOutcome if ctx ends while the write is under way;
// after any other error the record is not stored, and will not be.
func (st *Stream) Put(ctx context.Context, r shardlog.Record) (shardlog.PutResult, error) {
	if err := st.enter(ctx, "put"); err != nil {
		return shardlog.PutResult{}, err
	}
	if r.DedupID != "" {
		res, err := st.putWithIDs(ctx, []shardlog.Record{r})
		if err == nil {
			err = res[0].Err
		}
		if err != nil {
			return shardlog.PutResult{}, err
		}
		return res[0], nil
	}
	meta := st.meta.Load()
	buf := bufferPool.Get().(*buffers)
	key, invalid := checkAndHash(&r, min(meta.MaxRecordSize, st.db.largestRecord()), meta.Hash, &buf.hashes, idsOff)
	bufferPool.Put(buf)
	if invalid != nil {
		return shardlog.PutResult{}, st.fail("put", "", invalid)
	}
	if err := st.shape.RLock(ctx); err != nil {
		return shardlog.PutResult{}, st.fail("put", "", err)
	}
	defer st.shape.RUnlock()
	if st.deleted.Load() {
		return shardlog.PutResult{}, st.fail("put", "", shardlog.ErrNotFound)
	}
	sh := st.routes.Load().route(key)
	if sh.lim != nil && sh.lim.writes {
		if err := st.admit(sh, time.Now(), &r); err != nil {
			return shardlog.PutResult{}, err
		}
	}
	seq, err := st.db.log.AppendOne(ctx, sh.s, &r)
	if err != nil {
		return shardlog.PutResult{}, st.fail("put", sh.s.Name(), err)
	}
	return shardlog.PutResult{ShardID: sh.s.Name(), Sequence: seq}, nil
}

// admit takes what a record costs from its shard's write limits.
func (st *Stream) admit(sh *streamShard, now time.Time, r *shardlog.Record) error {
	wait := sh.lim.write(now, r.Size())
	if wait == 0 {
		return nil
	}
	sh.ctr.writeThrottles.Add(1)
	return &shardlog.Error{Op: "put", Stream: st.name, Shard: sh.s.Name(), RetryAfter: wait, Err: shardlog.ErrThroughputExceeded}
}

// PutRecords implements shardlog.Sink. It blocks until the records are as
// durable as the database promises. Records with faults fail the whole call
// before anything is written, with all faults named by index.
//
// A record whose DedupID was stored within Config.DedupWindow is not stored
// again; see shardlog.Record.
//
// Records that go into one transaction, which is all of a call of up to about
// 4 MiB, are stored together or not at all. If ctx ends while a write is under
// way the results match shardlog.ErrUnknownOutcome.
func (st *Stream) PutRecords(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	if err := st.enter(ctx, "put"); err != nil {
		return nil, err
	}
	res, withIDs, err := st.putRecords(ctx, records)
	if withIDs {
		return st.putWithIDs(ctx, records)
	}
	if err != nil {
		return nil, st.fail("put", "", err)
	}
	return res, nil
}

// putRecords is PutRecords for records without dedup IDs; if it finds one it
// stores nothing.
func (st *Stream) putRecords(ctx context.Context, records []shardlog.Record) (res []shardlog.PutResult, withIDs bool, err error) {
	meta := st.meta.Load()
	buf := bufferPool.Get().(*buffers)
	defer bufferPool.Put(buf)
	if err := st.shape.RLock(ctx); err != nil {
		return nil, false, err
	}
	defer st.shape.RUnlock()
	if st.deleted.Load() {
		return nil, false, shardlog.ErrNotFound
	}
	r, targets := st.routes.Load(), buf.targetsFor(len(records))
	limit := min(meta.MaxRecordSize, st.db.largestRecord())
	for i := range records {
		key, invalid := checkAndHash(&records[i], limit, meta.Hash, &buf.hashes, idsOff)
		if records[i].DedupID != "" {
			return nil, true, nil
		}
		if invalid != nil {
			return nil, false, checkRecords(records, limit, meta.idRule())
		}
		targets[i] = r.targets[r.place(key)]
	}
	res = make([]shardlog.PutResult, len(records))
	if r.limited {
		err = st.putLimited(ctx, r, records, targets, res)
	} else {
		err = st.db.log.Append(ctx, records, targets, res)
		st.wrapErrors(targets, res)
	}
	return res, false, err
}

// putLimited appends those records that the shards' limits admit.
func (st *Stream) putLimited(ctx context.Context, r *routes, records []shardlog.Record, targets []*logstore.Shard, res []shardlog.PutResult) error {
	now, over := time.Now(), map[*streamShard]error{} // shards at their limit
	admitted := len(records)
	for i := range records {
		sh := r.byShard(targets[i])
		if sh.lim == nil || !sh.lim.writes {
			continue
		}
		// A smaller record may not slip past one that was refused: it could
		// be of the same key.
		if err := over[sh]; err != nil {
			sh.ctr.writeThrottles.Add(1)
			res[i].Err = err
		} else if res[i].Err = st.admit(sh, now, &records[i]); res[i].Err != nil {
			over[sh] = res[i].Err
		}
		if res[i].Err != nil {
			admitted--
		}
	}
	return st.putSome(ctx, records, targets, res, admitted)
}

// putSome appends the records that have no error yet.
func (st *Stream) putSome(ctx context.Context, records []shardlog.Record, targets []*logstore.Shard, res []shardlog.PutResult, n int) error {
	if n == 0 {
		return nil
	}
	index := make([]int, 0, n)
	some, on := make([]shardlog.Record, 0, n), make([]*logstore.Shard, 0, n)
	for i := range records {
		if res[i].Err == nil {
			index, some, on = append(index, i), append(some, records[i]), append(on, targets[i])
		}
	}
	out := make([]shardlog.PutResult, n)
	if err := st.db.log.Append(ctx, some, on, out); err != nil {
		return err
	}
	st.wrapErrors(on, out)
	for i, j := range index {
		res[j] = out[i]
	}
	return nil
}

// wrapErrors adds to the errors of results where they arose.
func (st *Stream) wrapErrors(targets []*logstore.Shard, res []shardlog.PutResult) {
	for i := range res {
		if res[i].Err != nil {
			res[i].Err = st.fail("put", targets[i].Name(), res[i].Err)
		}
	}
}
