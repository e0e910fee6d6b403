package stream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
	"github.com/shardlog/shardlog/internal/logstore"
)

// RepairReport is the result of Repair.
type RepairReport struct {
	// Before is what Check says of the database as it was. Its findings are
	// what is lost. It is nil if the repair was begun by an earlier call.
	Before *CheckReport
	// Kept is how many keys were kept.
	Kept int
	// Old is the directory, below that of the database, with the files as they
	// were; "" if there was nothing to repair. It can be removed.
	Old string
}

const (
	repairedName = "repaired.new"   // the directory with the new files while they are made
	oldPrefix    = "before-repair-" // directories with old files
)

// Repair replaces a damaged database by one that holds all of it that can be
// read, and keeps the old files in a directory below. A database that is sound
// is left as it is. It needs room for a second copy of what is kept, and blocks
// until it is done or ctx ends. Of opts only the encryption key and the file
// size matter.
//
// Until the new files are complete and on disk nothing is changed. If the
// process is killed after that, the next call continues; until then Open
// refuses the directory. Sequence numbers continue far above those that are
// there. The errors are those of Check, and one that matches shardlog.ErrCorrupt
// if nothing can be read, as without the data keys of an encrypted database.
func Repair(ctx context.Context, dir string, opts *Options) (*RepairReport, error) {
	r, err := repair(ctx, dir, opts)
	if err != nil {
		return nil, &shardlog.Error{Op: "repair", Err: err}
	}
	return r, nil
}

func repair(ctx context.Context, dir string, opts *Options) (*RepairReport, error) {
	dir, key, err := closedDir(ctx, dir, opts)
	if err != nil {
		return nil, err
	}
	unlock, err := lockClosed(dir)
	if err != nil {
		return nil, err
	}
	p := &fileSwap{dir: dir, report: &RepairReport{}}
	if err = p.resume(); err == nil && p.report.Old == "" {
		o, _ := opts.withDefaults(dir)
		err = p.begin(ctx, key, o)
	}
	if err = errors.Join(err, unlock()); err != nil {
		return nil, err
	}
	return p.report, nil
}

// fileSwap puts new files in the place of old ones. The file REPAIRING records
// how far it has got: "out DIR" while the old files are moved to DIR, "in DIR"
// while the new ones are moved in. Each move is done or not, so the swap can be
// continued after the process was killed.
type fileSwap struct {
	dir    string
	report *RepairReport
}

func (p *fileSwap) marker() string { return filepath.Join(p.dir, badgerkv.RepairMarker) }

// begin makes the new files, and then puts them in place.
func (p *fileSwap) begin(ctx context.Context, key []byte, o Options) error {
	c, err := newChecker(ctx, p.dir, key)
	if err != nil {
		return err
	}
	defer c.view.Close()
	if err := c.run(); err != nil {
		return err
	}
	p.report.Before = &c.CheckReport
	if c.Sound() {
		return nil
	}
	fresh := filepath.Join(p.dir, repairedName)
	if err := os.RemoveAll(fresh); err != nil { // of a repair that was killed
		return err
	}
	if p.report.Kept, err = c.copyTo(fresh, o); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	if p.report.Kept == 0 {
		return errors.Join(fmt.Errorf("%w: nothing can be read; the files are left as they are", shardlog.ErrCorrupt), c.files.Err(), os.RemoveAll(fresh))
	}
	if err := errors.Join(syncDir(fresh), syncDir(p.dir)); err != nil {
		return err
	}
	old := oldPrefix + strconv.FormatInt(time.Now().UnixNano(), 10)
	if err := os.Mkdir(filepath.Join(p.dir, old), 0o755); err != nil {
		return err
	}
	if err := p.note("out " + old); err != nil {
		return err
	}
	return p.resume()
}

// copyTo stores what can be read in a new store.
func (c *checker) copyTo(dir string, o Options) (kept int, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return 0, err
	}
	store, err := badgerkv.Open(badgerkv.Options{Dir: dir, ValueLogFile: o.ValueLogFileBytes, EncryptionKey: o.EncryptionKey, MinFree: o.MinFreeBytes, Logger: o.Logger})
	if err != nil {
		return 0, err
	}
	kept, err = c.copyInto(store)
	if err == nil {
		err = store.Sync()
	}
	return kept, errors.Join(err, store.Close())
}

func (c *checker) copyInto(store kv.Store) (kept int, err error) {
	var keys [][]byte
	if err := c.view.Scan(nil, func(k []byte, _ int64) bool {
		if k[0] != badgerkv.FillerPrefix {
			keys = append(keys, append([]byte(nil), k...))
		}
		return true
	}); err != nil {
		return 0, err
	}
	w := batchWriter{store: store}
	next := uint32(1)
	for id := range c.meta.streams {
		next = max(next, id+1)
	}
	var slots logstore.Slots
	for _, k := range keys {
		if c.ctx.Err() != nil {
			return kept, shardlog.ContextError(c.ctx)
		}
		v, err := c.view.Get(k)
		lost := c.lost[string(k)] && !logstore.Useful(k, v)
		if err != nil {
			v, err = c.view.Original(k)
			lost = false
		}
		if err != nil || lost {
			continue
		}
		kept++
		slots.Keep(k, v)
		if err := w.set(k, v); err != nil {
			return kept, err
		}
	}
	for _, e := range c.view.Entries {
		if err := slots.Values(e, func(k, v []byte) error { kept++; return w.set(k, v) }); err != nil {
			return kept, err
		}
	}
	if kept == 0 {
		return 0, nil
	}
	// What every database has, in case it was lost; and the next Open must skip
	// the numbers of what was.
	for _, pair := range []struct{ key, value []byte }{
		{keyFormat, strconv.AppendInt(nil, formatVersion, 10)}, {keyNext, strconv.AppendUint(nil, uint64(max(next, c.meta.next)), 10)},
		{keyState, []byte(stateOpen + SyncNever.String())},
	} {
		if err := w.set(pair.key, pair.value); err != nil {
			return kept, err
		}
	}
	return kept, w.flush()
}

// resume continues the swap that the marker describes, if there is one.
func (p *fileSwap) resume() error {
	b, err := os.ReadFile(p.marker())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	step, old, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	if !strings.HasPrefix(old, oldPrefix) || strings.ContainsAny(old, `/\`) {
		return fmt.Errorf("%w: %s says %q", shardlog.ErrCorrupt, p.marker(), b)
	}
	p.report.Old = filepath.Join(p.dir, old)
	fresh := filepath.Join(p.dir, repairedName)
	if step == "out" {
		if err := moveFiles(p.dir, p.report.Old); err != nil {
			return err
		}
		if err := p.note("in " + old); err != nil {
			return err
		}
	}
	if err := moveFiles(fresh, p.dir); err != nil {
		return err
	}
	if err := os.Remove(p.marker()); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(fresh), syncDir(p.dir))
}

// note writes the marker, durably, and as a whole or not at all.
func (p *fileSwap) note(text string) error {
	f, err := os.Create(p.marker() + ".new")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(p.marker()+".new", p.marker()); err != nil {
		return err
	}
	return syncDir(p.dir)
}

// moveFiles moves the files of a database from one directory to another.
func moveFiles(from, to string) error {
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || !badgerkv.OwnFile(e.Name()) {
			continue
		}
		if err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(to), syncDir(from))
}

// batchWriter stores pairs in transactions of a bounded size.
type batchWriter struct {
	store kv.Store
	batch kv.Batch
}

func (w *batchWriter) set(k, v []byte) error {
	w.batch.Set(k, v)
	if len(w.batch.Ops) >= restorePairs || w.batch.Bytes >= restoreBytes || w.batch.Inline >= restoreInline {
		return w.flush()
	}
	return nil
}

func (w *batchWriter) flush() error {
	err := w.store.Commit(&w.batch)
	w.batch.Reset()
	return err
}
