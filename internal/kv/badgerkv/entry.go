package badgerkv

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/redo"
)

// An entry of the journal that comes with changes counts if they were committed. Where one
// frame has both, it does if the frame does. Otherwise the entry's frame names the version of
// the changes, which store it under entryKey: so the frame counts if the version found
// there is not below its own. It is written before the changes are.

// entryKey is where the version is of the last commit that came with an entry.
var entryKey = []byte{FillerPrefix, 'e'}

// entryVersion returns what is stored under entryKey, as get finds it.
func entryVersion(get func(key []byte) ([]byte, error)) (uint64, error) {
	v, err := get(entryKey)
	if errors.Is(err, shardlog.ErrNotFound) {
		return 0, nil
	}
	if err == nil && len(v) != 8 {
		err = fmt.Errorf("%w: the version of the last entry has %d bytes", shardlog.ErrCorrupt, len(v))
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// counts reports whether the entry of a frame does, where commits with one reached a
// version.
func counts(f *redo.Frame, committed uint64) bool {
	return f.Entry != nil && (f.Version == 0 || len(f.Ops) > 0 || f.Version <= committed)
}

// versionBytes is how a version is stored.
func versionBytes(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// commits follows the frames of a redo log to find which commits must be in Badger, of
// those whose entry has a frame of its own. It is written before the commit, and one commit
// is made at a time: so all but the last one have ended.
type commits struct {
	last  uint64 // version that the last such frame is for
	ended uint64 // the highest version of those that have ended
}

// see notes a frame. Synced says that only commits write frames; otherwise Append of the
// journal does so meanwhile.
func (c *commits) see(f *redo.Frame, synced bool) {
	alone := len(f.Ops) == 0 && f.Version > 0
	if alone || synced {
		c.ended = max(c.ended, c.last)
	}
	if alone {
		c.last = f.Version
	}
}

// missing returns damage if Badger lacks a commit that has ended. Committed is the version of
// the last commit with an entry that it has; durable says that nothing may be lost of what has
// ended.
func (c *commits) missing(dir string, committed uint64, durable bool) error {
	if !durable || committed >= c.ended {
		return nil
	}
	return &shardlog.DamageError{Path: dir, Offset: -1,
		Reason: fmt.Sprintf("the write-ahead logs have commits with records up to %d, and the redo log shows that there was commit %d", committed, c.ended),
		Lost:   "what these commits changed, but for their records",
		Remedy: `restore the database from a backup, or keep what is readable with "shardlog check -repair"`}
}
