// Package logstore is the log below package stream: shards, each one ordered run
// of records, that share one storage engine and one committer.
//
// The committer turns everything that is asked for at the same time into one
// transaction, so that many small writes cost what one large one does. Readers
// never wait for it and never hold it up.
package logstore

import (
	"context"
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
	// TailBytes is how much of the newest records is kept in memory for
	// readers near the tail, over all shards. Defaults to 8 MiB.
	TailBytes int64
	// CacheBytes is how much is kept of the stored blocks that were read
	// last. Defaults to 8 MiB.
	CacheBytes int64
	// Logger gets what an operator must see. Defaults to none.
	Logger *slog.Logger
	// Wake is called by the committer, and must not block, when retention or
	// Reclaim may have something to do. Defaults to nothing.
	Wake func()
}

// Sizes and bounds of the write path, in bytes unless said otherwise.
const (
	groupBytes = 4 << 20   // one transaction
	blockBytes = 256 << 10 // records of one block, unless one record is larger
	// directBytes is the size from which a shard's part of a group is stored
	// as a block at once; smaller ones gather in the journal.
	directBytes = 8 << 10
	// journalBytes is about the size of one journal value at the most.
	journalBytes = 256 << 10
	// settleBytes is when what gathered becomes a block.
	settleBytes = 64 << 10
	// maxSlots and maxJournal bound the journal, and with it the memory that
	// its records take and what is read at open.
	maxSlots   = 8192 // values
	maxJournal = 16 << 20
	// maxChanges and maxInline bound one transaction, with room for one more
	// operation: the store takes 1,000 changes, and 15 % of a memtable of
	// 1 MiB in its tree.
	maxChanges = 600
	maxInline  = 48 << 10
	// maxGaps is how many pieces that cannot be joined, because failed records
	// left gaps in the numbers, a shard may have in the journal.
	maxGaps = 32
	// trimChanges is how many blocks one transaction removes for one shard.
	trimChanges = 100
	// wakeDead and wakeStored are how much has to die, or to be stored, before
	// Wake is called.
	wakeDead   = 8 << 20
	wakeStored = 32 << 20
	// paceDead and paceOver are how much may be dead, or over a Usage's limit,
	// before writers are slowed down, or an eighth of what is live or allowed
	// if that is more.
	paceDead = 16 << 20
	paceOver = 8 << 20
	// gatherRounds is how often in a row the committer lets others run without
	// another writer coming before it takes a group.
	gatherRounds = 24
)

// Log is a set of shards over one store. All methods are safe for concurrent
// use. Use Open.
type Log struct {
	store kv.Store
	opts  Options

	// mu guards the open group, the assignment of sequence numbers, and the
	// fields of Shard that say so. It is never held during I/O or a wait.
	mu   sync.Mutex
	open *group
	// lastParts is how many parts the group had that was taken last.
	lastParts int
	room      chan struct{} // closed when the open group was taken; nil if nobody waits
	idle      bool          // the committer sleeps
	paced     bool          // writers wait for an owner that lags; fixed
	stopping  bool
	err       error // why nothing is taken any more
	shards    map[ID]*Shard

	lagging atomic.Bool   // the owner does not keep up; see pace
	round   chan struct{} // closed by Round; nil if nobody waits; guarded by mu
	seen    atomic.Int64  // dead bytes when Reclaim was last called

	// Calls of the store's Sync, by number: begun and done.
	syncBegun, syncDone atomic.Uint64

	wake chan struct{} // for the committer, one token
	quit chan struct{} // closed when the log closes; ends waits
	// closed is closed when the store is, too.
	closed chan struct{}
	wg     sync.WaitGroup

	c     committer
	coder block.Coder
	cache *cache

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
	paced := o.Wake != nil
	if !paced {
		o.Wake = func() {}
	}
	l := &Log{
		store: store, opts: o, paced: paced,
		shards: map[ID]*Shard{},
		wake:   make(chan struct{}, 1),
		quit:   make(chan struct{}),
		closed: make(chan struct{}),
		cache:  newCache(o.CacheBytes),
	}
	l.open = newGroup()
	l.c.log = l
	return l
}

// start launches the background work; recovery must be over.
func (l *Log) start() {
	l.wg.Add(1)
	go l.c.run()
	if l.opts.SyncEvery > 0 {
		l.wg.Add(1)
		go l.syncLoop()
	}
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
			if err := l.sync(); err != nil {
				l.logError("sync failed", err)
			}
		}
	}
}

// Sync makes everything acknowledged so far durable, also where the store does
// not do that by itself.
func (l *Log) Sync() error {
	if err := l.closing(); err != nil {
		return err
	}
	return l.sync()
}

// sync makes the store durable, and tells the committer.
func (l *Log) sync() error {
	n := l.syncBegun.Add(1)
	err := l.store.Sync()
	for done := l.syncDone.Load(); err == nil && done < n; done = l.syncDone.Load() {
		l.syncDone.CompareAndSwap(done, n)
	}
	return err
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

// Reclaim gives back disk space that nothing uses any more; more says that
// another call soon is of use. One call at a time.
func (l *Log) Reclaim() (more bool, err error) {
	dead := l.dead.Load()
	defer l.seen.Store(dead)
	more, moved, err := l.store.Reclaim(l.live.Load(), l.dead.Load())
	if err == nil && moved {
		err = l.sweep()
	}
	return more, err
}

// Usage returns the store's use of disk, and the stored bytes that are live.
func (l *Log) Usage() (u kv.Usage, live int64) { return l.store.Usage(), l.live.Load() }

// Tx is the view of the database inside a function run by Do: everything
// committed before, and its own changes.
type Tx struct {
	store kv.Store
	batch *kv.Batch
}

// Get returns a copy of a value, or shardlog.ErrNotFound.
func (t *Tx) Get(key []byte) ([]byte, error) {
	if v, deleted, found := t.batch.Lookup(key); found {
		if deleted {
			return nil, shardlog.ErrNotFound
		}
		return append([]byte(nil), v...), nil
	}
	return t.store.Get(key)
}

// Set stores value under key; both are kept.
func (t *Tx) Set(key, value []byte) { t.batch.Set(key, value) }

// Delete removes key.
func (t *Tx) Delete(key []byte) { t.batch.Delete(key) }

// Get returns a copy of a stored value, or shardlog.ErrNotFound.
func (l *Log) Get(key []byte) ([]byte, error) { return l.store.Get(key) }

// Scan calls f for each key with the prefix, in order, until it returns false.
func (l *Log) Scan(prefix []byte, f func(key []byte) bool) error {
	return l.store.Scan(prefix, func(key []byte, _ int64) bool { return f(key) })
}

// Snapshot returns everything stored, as the last commit left it.
func (l *Log) Snapshot() (kv.Snapshot, error) {
	if err := l.closing(); err != nil {
		return nil, err
	}
	return l.store.Snapshot()
}

// Do runs apply in the committer, one at a time with everything else that
// writes, and commits its changes, all or none. It returns apply's error, and
// then nothing was changed, or that of the commit. Apply must be quick and
// must not call the log. If ctx ends first the error matches
// shardlog.ErrUnknownOutcome.
func (l *Log) Do(ctx context.Context, apply func(*Tx) error) error {
	// Metadata is little, and what makes room on a full disk may depend on it.
	return l.submit(ctx, &op{apply: apply, small: true})
}

// submit adds an operation to the open group and waits for it.
func (l *Log) submit(ctx context.Context, o *op) error {
	o.done = make(chan struct{})
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return l.err
	}
	if o.enter != nil {
		if err := o.enter(); err != nil {
			l.mu.Unlock()
			return err
		}
	}
	l.open.ops = append(l.open.ops, o)
	l.wakeCommitter()
	l.mu.Unlock()
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return errors.Join(shardlog.ErrUnknownOutcome, shardlog.ContextError(ctx))
	}
}

// Codec is the compression of a shard's blocks.
type Codec = block.Codec
