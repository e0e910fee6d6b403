package badgerkv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
	"github.com/shardlog/shardlog/internal/kv/redo"
)

// examine looks at the directory before Badger does, while nobody has it open,
// and refuses one that is damaged. Only then is anything written: what Badger
// stumbles over is removed, and the inventory says from now on that the store
// is in use.
func (s *Store) examine() error {
	dir := s.opts.Dir
	unlock, err := Lock(dir)
	if err != nil {
		return err
	}
	err = s.examineLocked()
	return errors.Join(err, unlock())
}

func (s *Store) examineLocked() error {
	o := &s.opts
	switch len(o.EncryptionKey) {
	case 0, 16, 24, 32:
	default:
		return errKey
	}
	if o.Restoring {
		s.boot = badgerfile.BootID()
		return s.noteState(badgerfile.StateOpening)
	}
	mark, err := redo.Examine(s.path(badgerfile.RedoName))
	if err != nil {
		return err
	}
	report, err := badgerfile.Inspect(o.Dir, o.EncryptionKey, false, mark.Base)
	if errors.Is(err, badgerfile.ErrKey) {
		return errKey
	}
	if err != nil {
		return err
	}
	if err := errors.Join(report.Err(), examineRedo(report)); err != nil {
		return err
	}
	for _, w := range report.Warnings {
		s.warn("damage that does not keep the database from being opened", "file", w.Path, "offset", w.Offset, "reason", w.Reason, "lost", w.Lost)
	}
	if err := tidy(o.Dir, report); err != nil {
		return err
	}
	s.files = report
	// What an earlier run of the system has left counts as left by it until Badger
	// has taken it over: this process may be killed before.
	if inv := report.Inventory; inv != nil {
		s.boot, s.gaps = inv.Boot, inv.Gaps
	}
	if report.Fresh {
		s.boot = badgerfile.BootID()
	}
	s.mergeAtClose = s.manyTables(report)
	return s.noteState(badgerfile.StateOpening)
}

// noteOpen notes that the store is in use.
func (s *Store) noteOpen() error { return s.noteState(badgerfile.StateOpen) }

// noteBoot notes which run of the system has written what there is. It is called once
// everything that was found is in Badger or in a journal that was begun.
func (s *Store) noteBoot() error {
	boot := badgerfile.BootID()
	if s.boot == boot && boot != "" {
		return nil
	}
	s.boot, s.gaps = boot, s.ts.Load()
	return s.noteState(badgerfile.StateOpen)
}

// errKey says that the encryption key is not right.
var errKey = &shardlog.InvalidError{Field: "EncryptionKey", Value: "(hidden)", Limit: "the 16, 24 or 32 bytes that the database was created with"}

// tidy prepares a sound directory for Badger. It removes empty log files, which
// a process that was killed may leave and over which Badger refuses to open;
// removes statistics that are cut short, over which Badger ends the process;
// and makes a new newest value log file where the newest is large, because Badger
// reads all of it, or damaged, because Badger cuts off everything behind the damage.
// A process that is killed in between leaves a directory for which the rest is
// done by the next one.
func tidy(dir string, r *badgerfile.Report) error {
	var errs []error
	for _, f := range r.Empty {
		errs = append(errs, os.Remove(r.Dir.File(f.Name)))
	}
	if r.CutManifest {
		errs = append(errs, os.Truncate(r.Dir.File(badgerfile.ManifestName), r.Manifest.End))
	}
	if r.StaleDiscard && r.Dir.Discard != nil {
		errs = append(errs, os.Remove(r.Dir.File(badgerfile.DiscardName)))
	}
	if r.Trim != nil {
		errs = append(errs, os.Truncate(r.Dir.File(r.Trim.File.Name), r.Trim.Size))
	}
	if r.Guard > 0 && errors.Join(errs...) == nil {
		errs = append(errs, os.WriteFile(r.Dir.File(badgerfile.ValueName(r.Guard)), make([]byte, badgerfile.LogHeader), 0o644))
	}
	return errors.Join(errs...)
}

// noteState writes the inventory.
func (s *Store) noteState(state badgerfile.State) error {
	return noteState(s.opts.Dir, state, s.boot, s.gaps)
}

func noteState(dir string, state badgerfile.State, boot string, gaps uint64) error {
	// No commit is synced one by one: the redo log has those that must not be lost.
	inv, err := badgerfile.TakeInventory(dir, state, false)
	if err != nil {
		return err
	}
	inv.Boot, inv.Gaps = boot, gaps
	return inv.Write(dir)
}

// examineRedo verifies the redo log that a store has: all of it, as Open reads it, and that
// Badger's files have the commits that it shows. While the system runs all that was written
// is there.
func examineRedo(f *Files) error {
	e, ok := f.Own[string(redoKey)]
	if !ok || e.Deleted || e.Pointer != nil {
		return nil // it has none
	}
	i, err := decodeIdentity(e.Value)
	if err != nil {
		return err
	}
	var made commits
	o := redo.Options{Path: f.Dir.File(badgerfile.RedoName), ID: i.id, Key: i.key, Open: redo.OpenReadOnly}
	_, synced, err := eachFrame(o, !f.Inventory.SameBoot(), func(fr redo.Frame, synced bool) { made.see(&fr, synced) })
	if err != nil {
		return err
	}
	committed, err := entryVersion(func([]byte) ([]byte, error) {
		if e, ok := f.Own[string(entryKey)]; ok && !e.Deleted {
			return e.Value, nil
		}
		return nil, shardlog.ErrNotFound
	})
	if err != nil {
		return err
	}
	return made.missing(f.Dir.Path, committed, synced || f.Inventory.SameBoot())
}

// Boot names the run of the operating system, "" where that is not known. What a
// process wrote to a store is there as long as the run lasts, whatever was synced.
func (s *Store) Boot() string { return badgerfile.BootID() }

// RestoreMarker is the name of a file that keeps a directory from being opened
// while a database is restored into it.
const RestoreMarker = badgerfile.RestoreName

// errHeld says that a lock is held.
var errHeld = errors.New("held")

// Lock takes the lock of a directory that an open store holds. It does not wait:
// the error wraps shardlog.ErrLocked if somebody has it, and otherwise is that of
// the file system, such as os.ErrNotExist.
func Lock(dir string) (unlock func() error, err error) {
	unlock, err = lockDir(dir)
	if errors.Is(err, errHeld) {
		err = fmt.Errorf("%w: %s", shardlog.ErrLocked, dir)
	}
	return unlock, err
}

// OwnFile reports whether a store makes files with the name, but for
// RestoreMarker.
func OwnFile(name string) bool { return badgerfile.OwnFile(name) }

// RepairMarker is the name of a file that keeps a directory from being opened
// while its files are being replaced.
const RepairMarker = badgerfile.RepairName

// Files is what Inspect found.
type Files = badgerfile.Report

// Inspect looks at all files of a directory that is locked, without writing to
// it. The error wraps shardlog.ErrInvalid if the key is wrong.
func Inspect(dir string, key []byte) (*Files, error) {
	mark, damaged := redo.Examine(filepath.Join(dir, badgerfile.RedoName))
	if damaged != nil && !errors.Is(damaged, shardlog.ErrCorrupt) {
		return nil, damaged
	}
	// OpenView reports the damage, if the redo log is this store's.
	r, err := badgerfile.Inspect(dir, key, true, mark.Base)
	if errors.Is(err, badgerfile.ErrKey) {
		return nil, errKey
	}
	return r, err
}
