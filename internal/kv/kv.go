// Package kv is the interface between the log and the storage engine: an
// ordered store of small keys and values of any size with atomic batches. Its
// implementations are package badgerkv and Memory; tests wrap either of them to
// make the i-th operation fail.
package kv

import "time"

// Store is an ordered key-value store. Get, Scan and Usage may be called
// concurrently with each other and with everything else; Commit, by one
// goroutine at a time.
type Store interface {
	// Commit applies a batch, all of it or nothing, as durably as the store
	// was opened for. After an error that wraps shardlog.ErrStorage the
	// outcome is not known; after any other, nothing was applied. The store
	// does not keep the batch's keys, and may keep its values until they are
	// overwritten, so they must not change.
	Commit(b *Batch) error
	// Get returns a copy of a value, or shardlog.ErrNotFound.
	Get(key []byte) ([]byte, error)
	// GetMany calls f with the value of each of the keys, which are sorted, in
	// their order, or with nil where there is none, until f returns false.
	// The value is f's until it returns. It is cheaper than as many Gets when
	// the keys are neighbours. f must not call the store.
	GetMany(keys [][]byte, f func(i int, value []byte) bool) error
	// Scan calls f for each key with the prefix, in order, until f returns
	// false. The key is f's until it returns; size is about that of the value.
	Scan(prefix []byte, f func(key []byte, size int64) bool) error
	// Snapshot returns the store as it is after the last commit.
	Snapshot() (Snapshot, error)
	// Sync makes everything committed so far durable.
	Sync() error
	// Reclaim gives back disk space that overwritten and deleted values hold.
	// It gets the bytes of values that are live now, and of all that were
	// overwritten or deleted since the store was opened; more says that
	// another call soon is useful, and moved that stored values were copied.
	// One call at a time.
	Reclaim(live, dead int64) (more, moved bool, err error)
	// Usage returns how much disk the store takes.
	Usage() Usage
	// Journal returns the store's journal, always the same.
	Journal() Journal
	// Close releases everything. Nothing may be called after it.
	Close() error
}

// Position is the place of an entry in a journal. Those of later entries have a
// higher Seq.
type Position struct {
	Seq uint64
	At  int64 // the store's own
}

// Journal keeps entries: bytes that are in no value of the store yet, each whole or
// not at all. It has them until the caller says that values have what they are
// for. Its methods may be called concurrently with each other and with those of the
// store, unless they say otherwise.
type Journal interface {
	// Read calls f with the position and the bytes of each entry, in order, as the
	// last process left them. They are f's. It is called before Restart.
	Read(f func(p Position, entry []byte) error) error
	// Restart makes these the entries of the journal, in the place of all others, or
	// fails and leaves it as it was, and returns their positions. They are durable
	// then. It is called once, before Append and before a commit that has an entry.
	Restart(entries [][]byte) ([]Position, error)
	// Append adds an entry, of which it gets the pieces, and which is there when the
	// process is killed, and durable after Sync. It does not block for the disk. Not ok
	// means that nothing was done: the store makes each write durable, the journal has
	// no room for it, or the disk has none; see Batch.Entry for what to do then.
	Append(pieces ...[]byte) (p Position, ok bool)
	// Needed says that values that are committed have what the entries before p are
	// for. They are removed once the values are as durable as the entries were. It is
	// called by the goroutine that commits, or while none does.
	Needed(p Position)
	// End returns the position of the next entry.
	End() Position
	// Room reports whether a batch with an entry of n bytes can be committed, and
	// makes the journal larger for it if it may be. Append does not take that room until
	// an entry was committed, or Room is called again. It is for the goroutine that commits.
	Room(n int) bool
	// Use returns how many bytes are taken from the first entry on that is needed, and how
	// many can be taken. What is before waits to be removed.
	Use() (used, most int64)
}

// MaxEntry is the largest entry of a journal, in bytes: a group of the log with the
// largest transaction, each of whose records is in another shard.
const MaxEntry = 48 << 20

// Snapshot is a store at one moment. It must be closed, and soon: what is
// overwritten or deleted meanwhile is kept for it. Its methods are those of
// Store, and may be called concurrently.
type Snapshot interface {
	Get(key []byte) ([]byte, error)
	Scan(prefix []byte, f func(key []byte, size int64) bool) error
	Close()
}

// Usage is a store's use of disk.
type Usage struct {
	DiskBytes int64 // allocated on disk
	FreeBytes int64 // free on the file system; -1 where there is none
	Syncs     int64 // commits and calls that reached the disk before they returned
	Commits   int64
}

// Op is one change of a batch.
type Op struct {
	Key, Value []byte
	Delete     bool
}

// Batch is a list of changes to be applied together. Of two changes to one
// key, the later holds. The zero value is ready.
type Batch struct {
	Ops   []Op
	Bytes int // of keys and values
	// Inline is the part of Bytes that a store may keep in its tree, of which
	// one transaction takes little; see InlineValue.
	Inline int
	// Entry is stored in the journal together with the changes, all or nothing; nil
	// for none. Without changes it is all that is stored. There has to be room for it, see Journal.
	Entry []byte
	// At is set by Commit to the position of the entry.
	At Position
	// Small says that the batch only makes room (deletes, moves a horizon),
	// so that it may use the space that is kept back on a full disk.
	Small bool
}

// Set adds a change that stores value under key. Both are kept.
func (b *Batch) Set(key, value []byte) {
	b.Ops = append(b.Ops, Op{Key: key, Value: value})
	b.Bytes += len(key) + len(value)
	b.Inline += len(key)
	if len(value) <= InlineValue {
		b.Inline += len(value)
	}
}

// Delete adds a change that removes key.
func (b *Batch) Delete(key []byte) {
	b.Ops = append(b.Ops, Op{Key: key, Delete: true})
	b.Bytes += len(key)
	b.Inline += len(key)
}

// Truncate takes back the changes from the n-th on.
func (b *Batch) Truncate(n int) {
	dropped := b.Ops[n:]
	for i := range dropped {
		op := &dropped[i]
		b.Bytes -= len(op.Key) + len(op.Value)
		b.Inline -= len(op.Key)
		if len(op.Value) <= InlineValue {
			b.Inline -= len(op.Value)
		}
	}
	clear(dropped)
	b.Ops = b.Ops[:n]
}

// InlineValue is the largest value that a store may keep in its tree.
const InlineValue = 8 << 10

// Lookup returns what the batch would leave under key.
func (b *Batch) Lookup(key []byte) (value []byte, deleted, found bool) {
	for i := len(b.Ops) - 1; i >= 0; i-- {
		if op := &b.Ops[i]; string(op.Key) == string(key) {
			return op.Value, op.Delete, true
		}
	}
	return nil, false, false
}

// Reset empties b and keeps its memory.
func (b *Batch) Reset() {
	clear(b.Ops)
	*b = Batch{Ops: b.Ops[:0]}
}

// RetryAfterFull is how long a caller should wait before it tries again to
// write to a full disk: retention and space reclaiming run several times a
// second.
const RetryAfterFull = time.Second
