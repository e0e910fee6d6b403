// Package badgerkv stores the log in Badger. It deals with Badger's pitfalls,
// so that the rest of the module need not know them: file names left by a
// crash, errors that are only logged, a full disk, space that is never
// reclaimed.
//
// Badger is opened in managed mode: the one committer gives out the versions,
// so that a commit does not pay for Badger's oracle.
package badgerkv

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

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
	pager  *pager // nil where there is none
	places *places
	blocks *reserve // under txMu
	// mergeAtClose says that Close merges the tables of level zero; see manyTables.
	mergeAtClose bool
	// threshold is the size from which values go to the value log.
	threshold int64

	commits, syncs atomic.Int64

	files *badgerfile.Report // what was found; while the store is opened

	boot string // run of the system that the files were written in, see noteOpen
	gaps uint64 // see badgerfile.Inventory

	redo      *redoLog      // nil while the store is opened
	durable   atomic.Uint64 // version up to which Badger has everything on disk
	lastValue []byte        // key of the last change that went to the value log; under txMu
	newest    newestFiles

	disk   *Disk
	fileMu sync.Mutex // held while files are synced; after txMu
	filled uint64     // value log files before this one need no sync; see syncFiles
	named  uint64     // the newest log of a memtable whose name is durable
}

// usable reports whether the store may still be written to.
func (s *Store) usable() error {
	if s.closed.Load() {
		return shardlog.ErrClosed
	}
	return s.log.failure()
}

// path returns the path of a file of the store.
func (s *Store) path(name string) string { return filepath.Join(s.opts.Dir, name) }

func (s *Store) warn(msg string, args ...any) {
	if s.opts.Logger != nil {
		s.opts.Logger.Warn("shardlog: "+msg, args...)
	}
}

// gcState is what Reclaim remembers between calls.
type gcState struct {
	written atomic.Int64 // bytes committed since the mappings were advised
	rotated int64        // dead bytes at the last rotation of the memtable
	last    int64        // dead bytes at the last call
	idle    int          // calls since something was reclaimed or rotated
}
