package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/once"
)

// Capabilities implements shardlog.Capable. DedupID is set while the stream has
// a Config.DedupWindow, and KeyRanges if its Config.Hash is MD5. MaxRecord is the
// database's limit, because that of the stream can change at any time. The
// number and size of records in a call are not limited.
func (st *Stream) Capabilities() shardlog.Capabilities {
	meta := st.meta.Load()
	return shardlog.Capabilities{
		RefusesMisrouted: true, Idempotent: true, DedupID: meta.DedupWindow > 0, Pushes: true,
		KeyRanges: meta.Hash == MD5, OrderedRequest: true, Lineage: true, Headers: true, TimeSeek: shardlog.TimeSeekArrival,
		MaxRecord: st.db.largestRecord(),
	}
}

// PutRequest implements shardlog.RequestSink. It blocks, uses transactions and
// respects ctx as PutRecords does.
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
	if err := checkRequest(req, st.db.maxNumbers()); err != nil {
		meta := st.meta.Load()
		return nil, st.fail("put", "", errors.Join(err, checkRecords(req.Records, min(meta.MaxRecordSize, st.db.largestRecord()), meta.idRule())))
	}
	if len(req.Records) == 0 && req.Producer == "" {
		return []shardlog.PutResult{}, nil
	}
	return st.request(ctx, req)
}

// request checks the records and tries to store them until nothing is in the way.
func (st *Stream) request(ctx context.Context, req *shardlog.PutRequest) ([]shardlog.PutResult, error) {
	meta := st.meta.Load()
	buf := bufferPool.Get().(*buffers)
	defer bufferPool.Put(buf)
	keys, err := st.checkAll(req.Records, meta, buf)
	if err != nil {
		return nil, st.fail("put", "", err)
	}
	for {
		t := &putTry{st: st, meta: meta, req: req, keys: keys, buf: buf}
		wait, err := t.try(ctx)
		if err == nil && wait == nil {
			return t.once.Results, nil
		}
		if err == nil {
			err = st.await(ctx, wait)
		}
		var located *shardlog.Error
		if errors.As(err, &located) {
			return nil, err // it has a time to wait
		}
		if err != nil {
			return nil, st.fail("put", "", err)
		}
	}
}

// checkAll returns where the records belong, or all their faults.
func (st *Stream) checkAll(records []shardlog.Record, meta *streamMeta, buf *buffers) ([]shardlog.HashKey, error) {
	keys := buf.keysFor(len(records))
	limit, ids := min(meta.MaxRecordSize, st.db.largestRecord()), meta.idRule()
	for i := range records {
		r := &records[i]
		var invalid *shardlog.InvalidError
		keys[i], invalid = checkAndHash(r, limit, meta.Hash, &buf.hashes, ids)
		if invalid == nil && r.DedupID != "" {
			invalid = checkRecord(r, limit, ids) // checkAndHash need not have looked at the ID
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
	if err := shardlog.ValidateProducerID(req.Producer); err != nil {
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

// putWithIDs is PutRecords for records some of which have dedup IDs.
func (st *Stream) putWithIDs(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	return st.request(ctx, &shardlog.PutRequest{Records: records})
}

// maxNumbers is how far above Done the number of a record may be.
func (db *DB) maxNumbers() uint64 {
	if db.opts.InMemory {
		return once.MaxNumbers
	}
	return once.NumbersIn(db.opts.ValueLogFileBytes)
}
