package stream

import (
	"context"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// PutEncoded is for packages of this module: its argument's type is internal. It
// is PutRecords for records that a producer in the same process, or the endpoint,
// has checked and encoded, and sets res, which has one element for each. Neither is
// used after the call.
func (st *Stream) PutEncoded(ctx context.Context, run block.Run, res []shardlog.PutResult) error {
	if err := st.enter(ctx, "put"); err != nil {
		return err
	}
	done, err := st.putRun(ctx, run, res)
	if err != nil {
		return st.fail("put", "", err)
	}
	if done {
		return nil
	}
	records := make([]shardlog.Record, run.Len())
	var it block.Encoded
	for i := range records {
		run.At(i, &it)
		records[i] = it.Record()
	}
	out, err := st.PutRecords(ctx, records)
	copy(res, out)
	return err
}

// IsSink reports whether sink is the stream itself, and not something that
// contains it and has a PutRecords of its own.
func (st *Stream) IsSink(sink shardlog.Sink) bool { return sink == shardlog.Sink(st) }

// putRun is PutEncoded for the usual case. In others, which are limits, faults
// and hashes that need more than a key, it stores nothing and reports false.
func (st *Stream) putRun(ctx context.Context, run block.Run, res []shardlog.PutResult) (done bool, err error) {
	meta := st.meta.Load()
	if meta.Hash != MD5 {
		return false, nil
	}
	buf := bufferPool.Get().(*buffers)
	defer bufferPool.Put(buf)
	if err := st.shape.RLock(ctx); err != nil {
		return false, err
	}
	defer st.shape.RUnlock()
	if st.deleted.Load() {
		return false, shardlog.ErrNotFound
	}
	r, targets, limit := st.routes.Load(), buf.targetsFor(run.Len()), min(meta.MaxRecordSize, st.db.largestRecord())
	var it block.Encoded
	for i := range targets {
		if i%aheadKeys == 0 {
			n := min(aheadKeys, len(targets)-i)
			for k := range n {
				run.At(i+k, &it)
				buf.ahead.places[k] = placeOf(it.Key)
			}
			buf.ahead.fetch(&buf.hashes, n)
		}
		run.At(i, &it)
		key, valid := it.HashKey, true
		if !key.IsSet() {
			key, valid = buf.hashes.keyHashIn(buf.ahead.places[i%aheadKeys], it.Key)
		}
		sh := r.route(key)
		if !valid || it.Size() > limit || sh.lim != nil && sh.lim.writes {
			return false, nil
		}
		targets[i] = sh.s
	}
	if err := st.db.log.AppendRun(ctx, run, targets, res); err != nil {
		return false, err
	}
	st.wrapErrors(targets, res)
	return true, nil
}
