package badgerkv

import (
	"log/slog"
	"os"

	"github.com/shardlog/shardlog/internal/kv/redo"
)

// Options say how to open a store.
type Options struct {
	Dir           string
	SyncWrites    bool   // every commit is on disk when it returns
	RedoMax       int64  // how large the redo log may become, in bytes; 0 for DefaultRedoMax
	RedoTurn      int64  // redo.Options.TurnRoom; tests set it
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

	// Accept is asked, with a function that returns values, before anything but
	// Badger's own files is written; nil accepts all. Its error is that of Open.
	Accept func(get func(key []byte) ([]byte, error)) error
	// Disk stands between the store and what it syncs; nil for the operating system.
	Disk *Disk
}

// Disk is how a store makes things durable. Tests record and fail it.
type Disk struct {
	// Sync makes the data of one of Badger's files durable, also what was changed
	// through a mapping, and of its metadata what is needed to read it.
	Sync func(*os.File) error
	// SyncDir makes the names of the files in the directory durable.
	SyncDir func(dir string) error
	// OpenRedo opens or creates the file of the redo log.
	OpenRedo func(path string) (redo.File, error)
}

// System is the disk of the operating system.
func System() *Disk { return &Disk{Sync: datasync, SyncDir: syncDir, OpenRedo: redo.OpenFile} }

// DefaultRedoMax is how large the redo log may become if nothing else is set, in
// bytes.
const DefaultRedoMax = 64 << 20
