package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
)

// Durability says what an acknowledged write survives. In every mode it
// survives the end of the process, however sudden, because the operating
// system has the bytes by then. The modes differ in what a power loss or a
// crash of the operating system may take. An in-memory database survives
// nothing.
type Durability uint8

const (
	// SyncAlways: every acknowledged write is on disk. Nothing acknowledged
	// is lost in a power failure. Writes that arrive at the same time share a sync.
	SyncAlways Durability = iota
	// SyncInterval: writes are acknowledged immediately and written to disk every
	// Options.SyncInterval. A power loss may take the writes of about the
	// last interval; what is older is safe.
	SyncInterval
	// SyncNever: the operating system decides when to write, some tens of
	// seconds later as a rule. A power loss may take what was not written
	// yet, also from the middle of the newest records of a shard.
	SyncNever
)

// String returns "always", "interval" or "never".
func (d Durability) String() string {
	switch d {
	case SyncAlways:
		return "always"
	case SyncInterval:
		return "interval"
	case SyncNever:
		return "never"
	}
	return fmt.Sprintf("Durability(%d)", uint8(d))
}

// Options say how a database is opened. They are not stored in it. The zero
// value of each field means its default.
type Options struct {
	// InMemory keeps everything in memory; dir must be "". For tests: what
	// is written ends with the DB.
	InMemory bool
	// Durability of acknowledged writes. Defaults to SyncAlways.
	Durability Durability
	// SyncInterval is the interval of Durability SyncInterval. Defaults to
	// 100 ms; 1 ms to 1 min.
	SyncInterval time.Duration
	// EncryptionKey encrypts everything on disk with AES-CTR: 16, 24 or 32
	// bytes for AES-128, -192 or -256. It must be the one that the database
	// was created with, or was given by RotateEncryptionKey. Defaults to
	// none. The key is copied.
	EncryptionKey []byte
	// MinFreeBytes is what is left free on the file system: writes that
	// would go below are refused with shardlog.ErrNoSpace until there is
	// room again, and earlier where other programs are filling it. What
	// makes room, such as retention, may use it up to the last 32 MiB. Less
	// than four value log files is unsafe where others fill the disk under
	// load: what they take while the storage engine writes a table ends the
	// process. Defaults to 4 x ValueLogFileBytes + 64 MiB.
	MinFreeBytes int64
	// ValueLogFileBytes is the size of the files that hold the records.
	// Disk space is given back by the file. Defaults to 64 MiB; 1 MiB to
	// 1 GiB.
	ValueLogFileBytes int64
	// RedoLogBytes is how large the redo log may become. It has the records of small
	// appends until there are enough of a shard for a block, and with Durability
	// SyncAlways each small or medium group, before these are acknowledged.
	// It begins with 256 KiB and grows under load, beyond RedoLogBytes only for
	// a single group that would not fit; the file stays as large as it
	// became. Open reads it. Defaults to 64 MiB; 1 MiB to 4 GiB.
	RedoLogBytes int64
	// TailBytes is how much of the newest records is kept in memory for
	// readers near the tail, over all streams. Defaults to 8 MiB; at most
	// 1 GiB.
	TailBytes int64
	// CacheBytes is how much is kept in memory of the blocks read last, over
	// all streams. Defaults to 8 MiB; at most 1 GiB.
	CacheBytes int64
	// Logger gets what an operator must see. Defaults to none.
	Logger *slog.Logger
}

// withDefaults returns a checked copy of o; the error joins all faults.
func (o *Options) withDefaults(dir string) (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	c.EncryptionKey = append([]byte(nil), c.EncryptionKey...)
	if len(c.EncryptionKey) == 0 {
		c.EncryptionKey = nil
	}
	setDefault(&c.SyncInterval, 100*time.Millisecond)
	setDefault(&c.ValueLogFileBytes, 64<<20)
	setDefault(&c.MinFreeBytes, 4*c.ValueLogFileBytes+64<<20)
	setDefault(&c.RedoLogBytes, badgerkv.DefaultRedoMax)
	setDefault(&c.TailBytes, 8<<20)
	setDefault(&c.CacheBytes, 8<<20)
	var errs []error
	check := func(ok bool, field string, value any, limit string) {
		if !ok {
			errs = append(errs, &shardlog.InvalidError{Field: field, Value: value, Limit: limit})
		}
	}
	check(dir != "" || c.InMemory, "dir", dir, "a directory, or empty with Options.InMemory")
	check(dir == "" || !c.InMemory, "dir", dir, "empty with Options.InMemory")
	check(c.Durability <= SyncNever, "Options.Durability", c.Durability, "SyncAlways, SyncInterval or SyncNever")
	check(c.SyncInterval >= time.Millisecond && c.SyncInterval <= time.Minute, "Options.SyncInterval", c.SyncInterval, "1ms to 1m")
	switch len(c.EncryptionKey) {
	case 0, 16, 24, 32:
	default:
		check(false, "Options.EncryptionKey", fmt.Sprintf("of %d bytes", len(c.EncryptionKey)), "16, 24 or 32 bytes")
	}
	check(c.EncryptionKey == nil || !c.InMemory, "Options.EncryptionKey", "(hidden)", "unset with Options.InMemory")
	check(c.MinFreeBytes > 0, "Options.MinFreeBytes", c.MinFreeBytes, "above 0")
	check(c.ValueLogFileBytes >= 1<<20 && c.ValueLogFileBytes <= 1<<30, "Options.ValueLogFileBytes", c.ValueLogFileBytes, "1 MiB to 1 GiB")
	check(c.RedoLogBytes >= 1<<20 && c.RedoLogBytes <= 4<<30, "Options.RedoLogBytes", c.RedoLogBytes, "1 MiB to 4 GiB")
	check(c.TailBytes > 0 && c.TailBytes <= 1<<30, "Options.TailBytes", c.TailBytes, "1 to 1 GiB")
	check(c.CacheBytes > 0 && c.CacheBytes <= 1<<30, "Options.CacheBytes", c.CacheBytes, "1 to 1 GiB")
	return c, errors.Join(errs...)
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
