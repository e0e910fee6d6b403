package badgerkv

import "log/slog"

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
