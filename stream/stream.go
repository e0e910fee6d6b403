package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/ctxsync"
	"github.com/shardlog/shardlog/internal/logstore"
	"github.com/shardlog/shardlog/internal/once"
)

// Stream is one stream of a DB. Use DB.Create or DB.Stream.
type Stream struct {
	db    *DB
	id    uint32
	name  string
	usage logstore.Usage

	// shape is read-held by writers until their records are committed, and held
	// by whatever changes the set of open shards, so that a writer never meets
	// a shard that is being closed. It and config are held across commits, so
	// waits for them end with the context of the caller.
	shape   *ctxsync.RWMutex
	routes  atomic.Pointer[routes] // replaced with shape held
	config  ctxsync.Mutex
	meta    atomic.Pointer[streamMeta] // replaced with config held
	deleted atomic.Bool                // set with config and shape held
	// resharding is held by Reshard between its steps as well: two at the same
	// time would undo each other's.
	resharding ctxsync.Mutex

	producers *once.Identities
	dedup     *once.IDs

	duplicates, misrouted atomic.Int64 // see StreamStats
}

var (
	_ shardlog.RequestSink     = (*Stream)(nil)
	_ shardlog.Source          = (*Stream)(nil)
	_ shardlog.Capable         = (*Stream)(nil)
	_ shardlog.Named           = (*Stream)(nil)
	_ shardlog.DedicatedReader = (*Stream)(nil)
	_ checkpoint.Provider      = (*Stream)(nil)
)

func newStream(db *DB, id uint32, meta streamMeta) *Stream {
	st := &Stream{db: db, id: id, name: meta.Name, shape: ctxsync.NewRWMutex(), config: ctxsync.NewMutex(), resharding: ctxsync.NewMutex()}
	st.meta.Store(&meta)
	st.usage.Limit.Store(meta.RetentionBytes)
	return st
}

// begin makes st ready for calls once the log of its database is open.
func (st *Stream) begin(r *routes) {
	st.routes.Store(r)
	of := st.onceStream()
	st.producers, st.dedup = once.NewIdentities(of), once.NewIDs(of)
}

// Name returns the stream's name.
func (st *Stream) Name() string { return st.name }

// Info describes a stream.
type Info struct {
	Name    string
	Created time.Time
	// OpenShards counts those that take records, Shards all that can be read.
	OpenShards, Shards int
	Retention          time.Duration // Forever if records do not expire
	RetentionBytes     int64         // 0 for no bound
	MaxRecordSize      int
	Compression        Compression
	Hash               Hash
	Limits             Limits
	DedupWindow        time.Duration // 0 if dedup IDs are not taken
	Tags               map[string]string
}

// Info returns a description of the stream.
func (st *Stream) Info() Info {
	m, r := st.meta.Load(), st.routes.Load()
	return Info{
		Name: st.name, Created: time.UnixMilli(m.Created), OpenShards: len(r.open), Shards: len(r.all),
		Retention: m.Retention, RetentionBytes: m.RetentionBytes, MaxRecordSize: m.MaxRecordSize,
		Compression: m.Compression, Hash: m.Hash, Limits: m.Limits, DedupWindow: m.DedupWindow, Tags: maps.Clone(m.Tags),
	}
}

// enter checks what every call checks first.
func (st *Stream) enter(ctx context.Context, op string) error {
	if err := st.db.enter(ctx, op, st.name); err != nil {
		return err
	}
	if st.deleted.Load() {
		return &shardlog.Error{Op: op, Stream: st.name, Err: shardlog.ErrNotFound}
	}
	return nil
}

func (st *Stream) fail(op, shardID string, err error) error {
	var retry time.Duration
	var e *shardlog.Error
	if errors.As(err, &e) {
		retry = e.RetryAfter
	}
	return &shardlog.Error{Op: op, Stream: st.name, Shard: shardID, RetryAfter: retry, Err: err}
}

// Shards implements shardlog.Sink and shardlog.Source.
func (st *Stream) Shards(ctx context.Context) ([]shardlog.ShardInfo, error) {
	if err := st.enter(ctx, "shards"); err != nil {
		return nil, err
	}
	all := st.routes.Load().all
	infos := make([]shardlog.ShardInfo, len(all))
	for i, sh := range all {
		infos[i] = sh.info()
	}
	return infos, nil
}

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
	limited := false
	for i := range records {
		key, invalid := checkAndHash(&records[i], limit, meta.Hash, &buf.hashes, idsOff)
		if records[i].DedupID != "" {
			return nil, true, nil
		}
		if invalid != nil {
			return nil, false, checkRecords(records, limit, meta.idRule())
		}
		sh := r.route(key)
		targets[i] = sh.s
		limited = limited || sh.lim != nil && sh.lim.writes
	}
	res = make([]shardlog.PutResult, len(records))
	if limited {
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

// checkRecords returns the faults of records, at most ten of them.
func checkRecords(records []shardlog.Record, maxSize int, ids idRule) error {
	var errs []error
	for i := range records {
		if err := checkRecord(&records[i], maxSize, ids); err != nil {
			if err.Field = fmt.Sprintf("records[%d].%s", i, err.Field); len(records) == 1 {
				err.Field = err.Field[len("records[0]."):]
			}
			if errs = append(errs, err); len(errs) == 10 {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// checkAndHash returns where a valid record belongs, or what is wrong with it;
// it need not look at the dedup ID.
func checkAndHash(r *shardlog.Record, maxSize int, hash Hash, known *hashCache, ids idRule) (shardlog.HashKey, *shardlog.InvalidError) {
	k := r.PartitionKey
	if r.ExplicitHashKey.IsSet() || hash != MD5 || len(k) > hashCacheKey {
		if err := checkRecord(r, maxSize, ids); err != nil {
			return shardlog.HashKey{}, err
		}
		return hash.hashKey(r), nil
	}
	key, ok := known.keyHash(k)
	if !ok || k == "" || len(r.Headers) > 0 || len(k)+len(r.Data) > maxSize {
		if err := checkRecord(r, maxSize, ids); err != nil {
			return shardlog.HashKey{}, err
		}
	}
	return key, nil
}

// checkRecord returns what is wrong with a record.
func checkRecord(r *shardlog.Record, maxSize int, ids idRule) *shardlog.InvalidError {
	if err := r.Validate(maxSize); err != nil {
		return err.(*shardlog.InvalidError) // as it promises
	}
	if r.DedupID != "" {
		return ids.check(r.DedupID)
	}
	return nil
}

// reshaped waits until the change that closed a shard is visible as a whole,
// with the children. It fails if that was the deletion of the stream.
func (st *Stream) reshaped(ctx context.Context) error {
	if err := st.shape.RLock(ctx); err != nil {
		return err
	}
	defer st.shape.RUnlock()
	return st.orDeleted(nil)
}

// orDeleted returns shardlog.ErrNotFound if the stream was deleted: that is
// more useful to readers than what the deletion looks like to them.
func (st *Stream) orDeleted(err error) error {
	if st.deleted.Load() {
		return shardlog.ErrNotFound
	}
	return err
}
