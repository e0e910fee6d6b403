package badgerkv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// Open opens or creates the store in o.Dir. Its errors wrap shardlog.ErrLocked
// and shardlog.ErrInvalid where they apply.
func Open(o Options) (*Store, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	// Badger opens files by name later as well, and the process may change its
	// working directory.
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	o.Dir = dir
	if o.RedoMax == 0 {
		o.RedoMax = DefaultRedoMax
	}
	s := &Store{opts: o, pins: map[uint64]int{}, log: newBadgerLog(o.Logger), disk: o.Disk}
	if s.disk == nil {
		s.disk = System()
	}
	if s.dir, err = os.Stat(dir); err != nil {
		return nil, err
	}
	s.space = newSpaceGuard(o)
	s.log.gate, s.blocks = &gate{space: s.space}, newReserve(o, s.space.took)
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
		// The disk bounds the rate of commits here, so the tree has the capacity for
		// small values, such as those of the journal. They are overwritten soon, and
		// space in the value log is costly to reclaim.
		s.threshold = kv.InlineValue
	}
	bo := s.badgerOptions()
	encrypted, err := checkKey(o.Dir, o.EncryptionKey)
	if err != nil {
		return nil, err
	}
	if encrypted {
		// Badger insists on a block cache with encryption; the index cache
		// saves decrypting a table's index at each access.
		bo = bo.WithEncryptionKey(o.EncryptionKey).WithBlockCacheSize(8 << 20).WithIndexCacheSize(8 << 20)
	}
	s.places = newPlaces(o, encrypted)
	db, err := openBadger(bo)
	if err != nil {
		return nil, err
	}
	s.db = db
	s.ts.Store(db.MaxVersion())
	if o.Accept != nil {
		err = o.Accept(s.Get)
	}
	if err == nil {
		err = s.openRedo(encrypted)
	}
	s.files = nil
	if err == nil {
		err = s.noteOpen()
	}
	if err != nil {
		s.redo.stop()
		s.blocks.close()
		s.newest.close()
		defer s.places.close()
		return nil, errors.Join(err, s.closeRedo(false), db.Close())
	}
	s.pager = newPager(s)
	return s, nil
}

func (s *Store) badgerOptions() badger.Options {
	return badger.DefaultOptions(s.opts.Dir).
		WithLogger(s.log).
		WithSyncWrites(false). // see syncFiles
		WithValueLogFileSize(s.opts.ValueLogFile).
		WithValueThreshold(s.threshold).
		WithMemTableSize(memTableSize).
		WithNumMemtables(4).
		WithNumLevelZeroTables(1).
		WithNumLevelZeroTablesStall(12).
		WithNumCompactors(2).
		WithCompactL0OnClose(s.mergeAtClose).
		WithBaseTableSize(2 << 20).
		WithBaseLevelSize(10 << 20).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		WithVerifyValueChecksum(verifyByBadger)
}

// checkKey reports whether files in dir are or will be encrypted. Files of a
// database without a key may be encrypted from before the key was removed;
// Badger would panic over them in a goroutine of its own. A wrong key is found
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

// openBadger converts Badger's errors that are only text, and its panics about
// options, into errors of this module.
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
	boot, gaps := badgerfile.BootID(), uint64(0)
	if inv, _ := badgerfile.ReadInventory(dir); inv != nil {
		boot, gaps = inv.Boot, inv.Gaps
	}
	return noteState(dir, badgerfile.StateClean, boot, gaps)
}
