package stream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
	"github.com/shardlog/shardlog/internal/logstore"
)

// Finding is one thing that Check found.
type Finding struct {
	// Path is the damaged file, and Offset where in it, in bytes; -1 when it is
	// about the whole file. Path is "" where records are missing.
	Path   string
	Offset int64
	// Stream and Shard are whose records it is about, "" when not known.
	Stream, Shard string
	// Records is how many records are lost, at most; 0 when not known.
	Records uint64
	// Reason says what is wrong, and Lost what is lost, "" when not known.
	Reason, Lost string
	// Refused says that Open refuses the database because of it.
	Refused bool
}

// String describes f in one line.
func (f Finding) String() string {
	s := ""
	if f.Stream != "" {
		s += fmt.Sprintf("stream %q: ", f.Stream)
	}
	if f.Shard != "" {
		s += f.Shard + ": "
	}
	if f.Path != "" {
		s += f.Path + ": "
		if f.Offset >= 0 {
			s += fmt.Sprintf("offset %d: ", f.Offset)
		}
	}
	s += f.Reason
	if f.Lost != "" {
		s += "; lost: " + f.Lost
	}
	return s
}

// CheckReport is the result of Check.
type CheckReport struct {
	// Findings lists what is damaged or missing; files come first.
	Findings []Finding
	// Files and Bytes are what the directory holds of a database.
	Files int
	Bytes int64
	// Streams, Shards, Blocks, JournalEntries and Records are what was found
	// whole.
	Streams, Shards, Blocks, JournalEntries int
	Records                                 int64
}

// Sound reports whether nothing was found.
func (r *CheckReport) Sound() bool { return len(r.Findings) == 0 }

// Check verifies everything in a database that nobody has open: all files with
// their checksums, the metadata, each stored block, and that no records are
// missing between blocks. It writes nothing. It reads all data, and keeps the
// keys of the blocks in memory; it blocks until it is done or ctx ends. Of opts
// only the encryption key matters; nil for none.
//
// Damage is in the report and is no error. The error matches
// shardlog.ErrInvalid if the encryption key is wrong, ErrLocked if the database
// is open, ErrNotFound if there is none, and otherwise is that of the file
// system or of ctx.
func Check(ctx context.Context, dir string, opts *Options) (*CheckReport, error) {
	r, err := check(ctx, dir, opts)
	if err != nil {
		return nil, &shardlog.Error{Op: "check", Err: err}
	}
	return r, nil
}

func check(ctx context.Context, dir string, opts *Options) (*CheckReport, error) {
	dir, key, err := closedDir(ctx, dir, opts)
	if err != nil {
		return nil, err
	}
	unlock, err := lockClosed(dir)
	if err != nil {
		return nil, err
	}
	c, err := newChecker(ctx, dir, key)
	if err == nil {
		err = c.run()
		c.view.Close()
	}
	if err = errors.Join(err, unlock()); err != nil {
		return nil, err
	}
	return &c.CheckReport, nil
}

// closedDir checks the arguments of Check and Repair.
func closedDir(ctx context.Context, dir string, opts *Options) (abs string, key []byte, err error) {
	if ctx == nil {
		return "", nil, &shardlog.InvalidError{Field: "ctx", Value: nil, Limit: "not nil"}
	}
	o, err := opts.withDefaults(dir)
	if err != nil {
		return "", nil, err
	}
	if o.InMemory {
		return "", nil, &shardlog.InvalidError{Field: "Options.InMemory", Value: true, Limit: "false: there are no files"}
	}
	abs, err = filepath.Abs(dir)
	return abs, o.EncryptionKey, err
}

// lockClosed keeps a database from being opened until unlock.
func lockClosed(dir string) (unlock func() error, err error) {
	unlock, err = badgerkv.Lock(dir)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: no database: %w", shardlog.ErrNotFound, err)
	}
	return unlock, err
}

// checker is a Check under way.
type checker struct {
	CheckReport
	ctx   context.Context
	files *badgerkv.Files
	view  *badgerkv.View
	meta  *stored
	lost  map[string]bool // keys whose values are damaged
}

func newChecker(ctx context.Context, dir string, key []byte) (*checker, error) {
	files, err := badgerkv.Inspect(dir, key)
	if err != nil {
		return nil, err
	}
	if files.Fresh {
		return nil, fmt.Errorf("%w: no database in %s", shardlog.ErrNotFound, dir)
	}
	c := &checker{ctx: ctx, files: files, lost: map[string]bool{}}
	if c.view, err = badgerkv.OpenView(files, logstore.IsBlock); err != nil {
		return nil, err
	}
	for _, d := range files.Damage {
		c.file(d, true)
	}
	for _, d := range files.Warnings {
		c.file(d, false)
	}
	for _, f := range files.Dir.All() {
		c.Files++
		c.Bytes += f.Size
	}
	return c, nil
}

// file adds a finding about a file.
func (c *checker) file(d *shardlog.DamageError, refused bool) {
	c.Findings = append(c.Findings, Finding{Path: d.Path, Offset: d.Offset, Reason: d.Reason, Lost: d.Lost, Refused: refused})
}

// run looks at what the files hold.
func (c *checker) run() error {
	meta, err := readMeta(c.view)
	switch {
	case errors.Is(err, shardlog.ErrCorrupt), errors.Is(err, shardlog.ErrNotFound):
		c.Findings = append(c.Findings, Finding{Offset: -1, Reason: "metadata: " + err.Error(), Refused: true})
		meta = &stored{streams: map[uint32]*streamMeta{}, shards: map[logstore.ID]*shardMeta{}}
	case err != nil:
		return err
	case meta.fresh && len(c.Findings) > 0:
		c.Findings = append(c.Findings, Finding{Offset: -1, Reason: "the metadata is missing", Refused: true})
	}
	c.meta = meta
	shards := map[logstore.ID]uint64{}
	for id, m := range meta.shards {
		if s := meta.streams[id.Stream]; s != nil && !s.Deleting {
			shards[id] = m.Base
			c.Shards++
		}
	}
	for _, s := range meta.streams {
		if !s.Deleting {
			c.Streams++
		}
	}
	v, err := logstore.Verify(c.ctx, c.view, c.view.Entries, shards, c.fault)
	c.Blocks, c.JournalEntries, c.Records = v.Blocks, v.Journal, v.Records
	if err != nil {
		return err
	}
	return c.values()
}

// fault adds a finding about records.
func (c *checker) fault(f logstore.Fault) {
	finding := Finding{Offset: -1, Reason: f.Err.Error()}
	var d *shardlog.DamageError
	if errors.As(f.Err, &d) {
		finding.Path, finding.Offset, finding.Reason = d.Path, d.Offset, d.Reason
	}
	if f.Key != nil {
		c.lost[string(f.Key)] = true
	}
	if s := c.meta.streams[f.ID.Stream]; s != nil {
		finding.Stream, finding.Shard = s.Name, shardlog.ShardID(f.ID.Shard)
	}
	if f.Last > 0 {
		finding.Records = f.Last - f.First + 1
		finding.Lost = fmt.Sprintf("up to %d records, numbers %d to %d of the shard", finding.Records, f.First, f.Last)
	}
	c.Findings = append(c.Findings, finding)
}

// values reads all other values.
func (c *checker) values() error {
	var keys [][]byte
	err := c.view.Scan(nil, func(k []byte, _ int64) bool {
		if k[0] != badgerkv.FillerPrefix && !logstore.Owns(k) {
			keys = append(keys, append([]byte(nil), k...))
		}
		return true
	})
	for _, k := range keys {
		if c.ctx.Err() != nil {
			return shardlog.ContextError(c.ctx)
		}
		var d *shardlog.DamageError
		if _, err := c.view.Get(k); errors.As(err, &d) {
			c.lost[string(k)] = true
			c.Findings = append(c.Findings, Finding{Path: d.Path, Offset: d.Offset, Reason: fmt.Sprintf("the value of key %q: %s", k, d.Reason), Refused: k[0] == 'm'})
		} else if err != nil {
			return err
		}
	}
	return err
}
