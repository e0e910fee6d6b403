// Package badgerkv stores the log in Badger. It knows Badger's traps and keeps
// them from the rest of the module: file names left by a crash, errors that
// are only logged, a full disk, space that is never reclaimed.
//
// Badger is opened in managed mode: the one committer gives out the versions,
// so that a commit does not pay for Badger's oracle.
package badgerkv

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// Options say how to open a store.
type Options struct {
	Dir           string
	SyncWrites    bool   // every commit is on disk when it returns
	ValueLogFile  int64  // size at which a value log file is full, in bytes
	EncryptionKey []byte // 16, 24 or 32 bytes; nil for none
	MinFree       int64  // bytes of the file system that ordinary commits leave free
	Logger        *slog.Logger
	// Restoring says that the directory was emptied and marked with
	// RestoreMarker for this store.
	Restoring bool
	// FreeSpace returns the free bytes of the file system that holds a
	// directory; nil means to ask the operating system. Tests set it.
	FreeSpace func(dir string) (int64, error)
}

// Sizes of the store. The memtable is small on purpose: an overwritten or
// deleted block can only be reclaimed once its key has left the memtable, and
// a memtable entry is about a hundred bytes whatever the block's size.
const (
	memTableSize = 1 << 20
	// maxOps is how many changes one transaction takes; Badger's
	// own limit is 15 % of the memtable at some hundred bytes a change.
	maxOps = 1000
	// entryOverhead is more than what Badger adds to a key and a value.
	entryOverhead = 64
)

// Store is a kv.Store in a directory. Use Open.
type Store struct {
	db     *badger.DB
	opts   Options
	dir    os.FileInfo // of the directory, which may be removed while it is in use
	log    *badgerLog
	space  *spaceGuard
	gc     gcState
	txMu   sync.Mutex     // one commit at a time: ours, and those that rotate the memtable
	mapMu  sync.RWMutex   // read-held by whatever uses the mapped files, so that Close and advise wait for it
	ts     atomic.Uint64  // version of the last commit
	pins   map[uint64]int // versions that snapshots read; under txMu
	gcMu   sync.Mutex     // held while value log GC may write; after txMu
	closed atomic.Bool
	jammed atomic.Bool // Badger panicked while it held the lock of a file, which its Close waits for
	pager  *pager      // nil where there is none
	// threshold is the size from which values go to the value log.
	threshold int64

	commits, syncs atomic.Int64

	syncMu   sync.Mutex         // one Sync at a time, and none while Close takes the files away
	filled   uint64             // value log files before this one need no sync; see syncFilled
	syncFile func(string) error // tests look on
}

// Open opens or creates the store in o.Dir. Its errors wrap shardlog.ErrLocked
// and shardlog.ErrInvalid where they apply.
func Open(o Options) (*Store, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	// Badger opens files by name later, too, and the process may go elsewhere.
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	o.Dir = dir
	s := &Store{opts: o, pins: map[uint64]int{}, log: newBadgerLog(o.Logger), syncFile: syncFile}
	if s.dir, err = os.Stat(dir); err != nil {
		return nil, err
	}
	s.space = newSpaceGuard(o)
	// A disk with too little room for records can still be opened, to remove
	// some.
	if err := s.space.check(0, true); err != nil {
		return nil, err
	}
	if err := s.examine(); err != nil {
		return nil, err
	}
	s.threshold = 1 << 10
	if o.SyncWrites {
		// This saves no sync: in this mode Badger syncs the value log in every
		// commit, also when it wrote nothing to it. It keeps small values, such
		// as those of the journal, which are overwritten soon, out of the value
		// log, whose space is costly to reclaim. The disk bounds the rate of
		// commits here, so the tree has the capacity for them.
		s.threshold = kv.InlineValue
	}
	bo := badger.DefaultOptions(o.Dir).
		WithLogger(s.log).
		WithSyncWrites(o.SyncWrites).
		WithValueLogFileSize(o.ValueLogFile).
		WithValueThreshold(s.threshold).
		WithMemTableSize(memTableSize).
		WithNumMemtables(4).
		WithNumLevelZeroTables(1).
		WithNumLevelZeroTablesStall(12).
		WithNumCompactors(2).
		WithBaseTableSize(2 << 20).
		WithBaseLevelSize(10 << 20).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1)
	encrypted, err := checkKey(o.Dir, o.EncryptionKey)
	if err != nil {
		return nil, err
	}
	if encrypted {
		// Badger insists on a block cache with encryption; the index cache
		// saves decrypting a table's index at each access.
		bo = bo.WithEncryptionKey(o.EncryptionKey).WithBlockCacheSize(8 << 20).WithIndexCacheSize(8 << 20)
	}
	db, err := openBadger(bo)
	if err != nil {
		return nil, err
	}
	s.db = db
	if o.SyncWrites {
		// An earlier process may not have synced what it wrote, and from now on
		// everything that is there counts as durable.
		if err := s.syncFilled(); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	if err := s.noteState(badgerfile.StateOpen); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s.pager = newPager(s)
	s.ts.Store(db.MaxVersion())
	return s, nil
}

// checkKey reports whether files in dir are or will be encrypted. That also those
// of a database without a key may be, from before the key was taken off, Badger
// finds out by a panic in a goroutine of its own. And a wrong key is an error
// here because OpenManaged leaves goroutines behind when it fails on one.
func checkKey(dir string, key []byte) (encrypted bool, err error) {
	switch len(key) {
	case 0, 16, 24, 32:
	default:
		return false, keyError(badger.ErrInvalidEncryptionKey)
	}
	fi, err := os.Stat(filepath.Join(dir, badger.KeyRegistryFileName))
	if err != nil {
		return key != nil, nil // a new database, or an error that Badger meets too
	}
	kr, err := badger.OpenKeyRegistry(badger.KeyRegistryOptions{Dir: dir, ReadOnly: true, EncryptionKey: key})
	if err != nil {
		return false, keyError(err)
	}
	const empty = 16 + len("Hello Badger") // an IV and a text; data keys follow
	return key != nil || fi.Size() > int64(empty), kr.Close()
}

// keyError is an *shardlog.InvalidError if err says that the key is not right.
func keyError(err error) error {
	if errors.Is(err, badger.ErrEncryptionKeyMismatch) || errors.Is(err, badger.ErrInvalidEncryptionKey) ||
		strings.Contains(err.Error(), "Encryption key's length") {
		return &shardlog.InvalidError{Field: "EncryptionKey", Value: "(hidden)", Limit: "the 16, 24 or 32 bytes that the database was created with"}
	}
	return err
}

// openBadger turns what Badger says as text into our errors, and its panics
// about options into errors too.
func openBadger(bo badger.Options) (db *badger.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: opening: %v", shardlog.ErrCorrupt, p)
		}
	}()
	db, err = badger.OpenManaged(bo)
	switch {
	case err == nil:
		return db, nil
	case strings.Contains(err.Error(), "Cannot acquire directory lock"):
		return nil, fmt.Errorf("%w: %s", shardlog.ErrLocked, bo.Dir)
	}
	return nil, keyError(err)
}

// Commit implements kv.Store.
func (s *Store) Commit(b *kv.Batch) error {
	if len(b.Ops) == 0 {
		return nil
	}
	for i := range b.Ops {
		if n := len(b.Ops[i].Value); int64(n) > s.opts.ValueLogFile {
			return &shardlog.InvalidError{Field: "value", Value: fmt.Sprintf("of %d bytes", n), Limit: fmt.Sprintf("at most the %d bytes of a value log file", s.opts.ValueLogFile)}
		}
	}
	if len(b.Ops) > maxOps {
		return fmt.Errorf("badgerkv: %d changes in one batch, at most %d", len(b.Ops), maxOps)
	}
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.space.check(int64(b.Bytes), b.Small); err != nil {
		return err
	}
	s.txMu.Lock()
	defer s.txMu.Unlock()
	if s.closed.Load() {
		return shardlog.ErrClosed
	}
	s.noteWritten(b)
	if s.remaps(b) {
		s.mapMu.Lock()
		defer s.mapMu.Unlock()
	}
	if err := s.commit(b); err != nil {
		return err
	}
	s.commits.Add(1)
	s.gc.written.Add(int64(b.Bytes))
	if s.opts.SyncWrites {
		s.syncs.Add(1)
	}
	return nil
}

// remaps reports whether a batch may be too large for the mapping of a value log
// file, which is twice as long as the file. Badger maps the file elsewhere then
// without a thought for those who read it, so nobody may.
func (s *Store) remaps(b *kv.Batch) bool {
	return int64(b.Bytes)+int64(len(b.Ops)+1)*entryOverhead >= s.opts.ValueLogFile
}

// usable reports whether the store may still be written to.
func (s *Store) usable() error {
	if s.closed.Load() {
		return shardlog.ErrClosed
	}
	return s.log.failure()
}

// commit writes a batch as one transaction. Every error from Badger past this
// point leaves an uncertain state, so it stops all further writing.
func (s *Store) commit(b *kv.Batch) error {
	txn := s.db.NewTransactionAt(newest, true)
	defer txn.Discard()
	entries := make([]badger.Entry, len(b.Ops))
	for i := range b.Ops {
		op, e := &b.Ops[i], &entries[i]
		var err error
		if op.Delete {
			err = txn.Delete(op.Key)
		} else {
			e.Key, e.Value = op.Key, op.Value
			err = txn.SetEntry(e)
		}
		if err != nil {
			return fmt.Errorf("badgerkv: %w", err) // nothing was sent yet
		}
	}
	if err := txn.CommitAt(s.ts.Add(1), nil); err != nil {
		s.log.fail(err.Error())
		return fmt.Errorf("%w: %v", shardlog.ErrStorage, err)
	}
	// Badger logs a failed sync of the value log and reports success.
	return s.log.failure()
}

// Sync implements kv.Store.
func (s *Store) Sync() error {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	s.syncs.Add(1)
	return s.syncLocked()
}

// syncLocked is Sync with syncMu held.
func (s *Store) syncLocked() error {
	var err error
	if !s.opts.SyncWrites {
		err = s.syncFilled()
	}
	if err = errors.Join(err, s.db.Sync()); err != nil {
		s.log.fail(err.Error())
		return fmt.Errorf("%w: %v", shardlog.ErrStorage, err)
	}
	return s.log.failure()
}

// Usage implements kv.Store.
func (s *Store) Usage() kv.Usage {
	free, err := s.space.free()
	if err != nil {
		free = -1
	}
	return kv.Usage{DiskBytes: diskBytes(s.opts.Dir, ""), FreeBytes: free, Syncs: s.syncs.Load(), Commits: s.commits.Load()}
}

// RotateKey re-encrypts the data keys of a closed store under a new master
// key, or from none to one or back (nil means none). Files keep the data key
// that they were written with; their contents are not rewritten.
func RotateKey(dir string, old, new []byte) error {
	ko := badger.KeyRegistryOptions{Dir: dir, ReadOnly: true, EncryptionKey: old, EncryptionKeyRotationDuration: badger.DefaultOptions(dir).EncryptionKeyRotationDuration}
	kr, err := badger.OpenKeyRegistry(ko)
	if err != nil {
		if errors.Is(err, badger.ErrEncryptionKeyMismatch) {
			return &shardlog.InvalidError{Field: "old EncryptionKey", Value: "(hidden)", Limit: "the key that the database was opened with"}
		}
		return err
	}
	defer kr.Close()
	ko.EncryptionKey = new
	if err := badger.WriteKeyRegistry(kr, ko); err != nil {
		return err
	}
	return noteState(dir, badgerfile.StateClean, true)
}
