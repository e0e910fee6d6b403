// Package logstore is the engine of the log: shards, each one ordered run of
// records, that share one storage engine and one committer. Package stream
// decides which shard a record goes to; this package stores it.
//
// Where commits are not synced, an append of few records ends in the journal of the
// store, and its writer makes them readable (instant.go). Larger appends and other changes
// join the open group. The committer, one goroutine,
// turns a group into one transaction, so that many small writes cost what one
// large one does, and then publishes a new view of each shard. A view never
// changes, so readers take no lock: they never wait for a writer and never
// delay one.
package logstore

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kv"
)

// Options configure a Log. The zero value of each field means its default.
type Options struct {
	// SyncEvery makes everything written durable at this interval, in the
	// background; 0 means never, because the store syncs each commit itself
	// or nobody asked for it.
	SyncEvery time.Duration
	// CommitsSynced says that the store syncs each commit itself.
	CommitsSynced bool
	// TailBytes is how much of the newest records is kept in memory for
	// readers near the tail, over all shards. Defaults to 8 MiB.
	TailBytes int64
	// CacheBytes is how much is kept of the stored blocks that were read
	// last. Defaults to 8 MiB.
	CacheBytes int64
	// Logger gets what an operator must see. Defaults to none.
	Logger *slog.Logger
	// Wake is called when retention or Reclaim may have something to do, with the log
	// locked: it must not block, nor call the log. Defaults to nothing.
	Wake func()
}

// Log is a set of shards over one store. All methods are safe for concurrent
// use. Use Open.
type Log struct {
	store   kv.Store
	journal kv.Journal
	opts    Options

	// mu guards the open group, the assignment of sequence numbers, the runs and
	// what is readable of shards, and the fields of Shard that are marked. It is never
	// held during a wait, nor during I/O but for what the journal copies to a mapped file.
	mu       sync.Mutex
	open     *group
	direct   bool     // appends may be acknowledged when the journal has them; fixed
	failure  error    // why the store takes nothing any more
	entry    []byte   // memory of an append's entry
	pieces   [][]byte // and of what it consists of; empty
	clock    clock
	instants []instant     // of the call that holds mu
	flush    []*Shard      // those of which blocks are to be made
	runs     []*runRef     // in the order in which the journal has them
	gathered int64         // bytes of the runs
	added    int64         // bytes that were added to them since the journal was looked at
	making   bool          // the committer makes room in the journal, which takes only groups meanwhile
	roomy    int           // runs that began with room for a block
	steps    []step        // of the clock; for the committer to log
	taken    chan struct{} // closed when the open group was taken; nil if nobody waits
	idle     bool          // the committer sleeps
	stalls   bool          // there is an owner for whom writers wait; fixed
	stopping bool
	err      error // why nothing is taken any more
	shards   map[ID]*Shard
	spare    spareParts

	stalled  atomic.Bool   // the owner does not keep up; see stall
	caughtUp chan struct{} // closed by CaughtUp; nil if nobody waits; guarded by mu
	deadSeen atomic.Int64  // dead bytes when Reclaim was last called

	wake chan struct{} // for the committer, one token
	quit chan struct{} // closed when the log closes; ends waits
	// closed is closed when the store is, too.
	closed chan struct{}
	wg     sync.WaitGroup

	tail tail // the committer's

	coder block.Coder
	cache *cache
	moves moves

	live, dead atomic.Int64 // stored bytes in use; ever overwritten or deleted
	unsynced   atomic.Bool
	purgedMu   sync.Mutex
	purged     map[ID]bool // dropped shards; see sweep
}

// newLog returns a log that has neither shards nor a running committer.
func newLog(store kv.Store, o Options) *Log {
	if o.TailBytes == 0 {
		o.TailBytes = 8 << 20
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 8 << 20
	}
	stalls := o.Wake != nil
	if !stalls {
		o.Wake = func() {}
	}
	l := &Log{
		store: store, journal: store.Journal(), opts: o, stalls: stalls, direct: !o.CommitsSynced,
		shards: map[ID]*Shard{},
		wake:   make(chan struct{}, 1),
		quit:   make(chan struct{}),
		closed: make(chan struct{}),
		cache:  newCache(o.CacheBytes),
	}
	l.open = l.newGroup()
	return l
}

// syncLoop makes commits durable at an interval. A failure poisons the store,
// which then refuses further commits.
func (l *Log) syncLoop() {
	defer l.wg.Done()
	t := time.NewTicker(l.opts.SyncEvery)
	defer t.Stop()
	for {
		select {
		case <-l.quit:
			return
		case <-t.C:
		}
		if l.unsynced.Swap(false) {
			if err := l.store.Sync(); err != nil {
				l.logError("sync failed", err)
			}
		}
	}
}

// mustSync has the sync loop, if there is one, make durable what was stored just now.
func (l *Log) mustSync() {
	if l.opts.SyncEvery > 0 && !l.unsynced.Load() {
		l.unsynced.Store(true)
	}
}

// Sync makes everything acknowledged so far durable, also where the store does
// not do that by itself.
func (l *Log) Sync() error {
	if err := l.closing(); err != nil {
		return err
	}
	return l.store.Sync()
}

// Close commits what has been accepted, stops the log and closes its store.
// Readers and writers that wait get shardlog.ErrClosed. It is idempotent.
func (l *Log) Close() error { return l.CloseWith(nil) }

// CloseWith is Close that calls last with the store when nothing writes to it
// any more, before it is closed.
func (l *Log) CloseWith(last func(kv.Store) error) error {
	l.mu.Lock()
	if l.stopping {
		l.mu.Unlock()
		<-l.closed
		return nil
	}
	l.stopping = true
	l.err = shardlog.ErrClosed
	l.wakeCommitter()
	l.mu.Unlock()
	defer close(l.closed)
	close(l.quit)
	l.wg.Wait()
	var err error
	if last != nil {
		err = last(l.store)
	}
	return errors.Join(err, l.store.Close())
}

// closing returns shardlog.ErrClosed once Close was called.
func (l *Log) closing() error {
	select {
	case <-l.quit:
		return shardlog.ErrClosed
	default:
		return nil
	}
}

// wakeCommitter is called with mu held.
func (l *Log) wakeCommitter() {
	if l.idle {
		l.idle = false
		l.wake <- struct{}{}
	}
}

func (l *Log) logError(msg string, err error) {
	if l.opts.Logger != nil {
		l.opts.Logger.Error("shardlog: "+msg, "error", err)
	}
}

func (l *Log) logWarn(msg string, args ...any) {
	if l.opts.Logger != nil {
		l.opts.Logger.Warn("shardlog: "+msg, args...)
	}
}

// Get returns a copy of a stored value, or shardlog.ErrNotFound.
func (l *Log) Get(key []byte) ([]byte, error) { return l.store.Get(key) }

// Scan calls f for each key with the prefix, in order, until it returns false.
func (l *Log) Scan(prefix []byte, f func(key []byte) bool) error {
	return l.store.Scan(prefix, func(key []byte, _ int64) bool { return f(key) })
}
