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
	_ shardlog.Identified      = (*Stream)(nil)
	_ shardlog.DedicatedReader = (*Stream)(nil)
	_ checkpoint.Provider      = (*Stream)(nil)
)

func newStream(db *DB, id uint32, meta streamMeta) *Stream {
	st := &Stream{db: db, id: id, name: meta.Name, shape: ctxsync.NewRWMutex(), config: ctxsync.NewMutex(), resharding: ctxsync.NewMutex()}
	st.meta.Store(&meta)
	st.usage.Limit.Store(meta.RetentionBytes)
	return st
}

// Name returns the stream's name.
func (st *Stream) Name() string { return st.name }

// StreamID implements shardlog.Identified. The text is the same as long as the
// stream exists, in all processes and in databases restored from its backups,
// and no other stream ever has it. It does not block. Errors match
// shardlog.ErrNotFound once the stream was deleted, ErrClosed, or are that of ctx.
func (st *Stream) StreamID(ctx context.Context) (string, error) {
	if err := st.enter(ctx, "stream ID"); err != nil {
		return "", err
	}
	return st.streamID(), nil
}

func (st *Stream) streamID() string {
	m := st.meta.Load()
	if m.ID == "" {
		// The stream is older than its random ID. Within a database the number
		// would do; the time is for another one in its directory.
		return fmt.Sprintf("%d-%d", st.id, m.Created)
	}
	return m.ID
}

// Info describes a stream.
type Info struct {
	Name string
	// ID is Stream.StreamID.
	ID      string
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
		Name: st.name, ID: st.streamID(), Created: time.UnixMilli(m.Created), OpenShards: len(r.open), Shards: len(r.all),
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

// await waits until c is closed, as when another call has its outcome. The
// caller holds no lock.
func (st *Stream) await(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return shardlog.ContextError(ctx)
	case <-st.db.quit:
		return shardlog.ErrClosed
	}
}
