package badgerfile

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"

	"github.com/shardlog/shardlog"
)

// Report is what Inspect found.
type Report struct {
	// Damage lists what must be repaired before Badger may open the directory.
	// Warnings are what does not keep it from that.
	Damage, Warnings []*shardlog.DamageError

	// Fresh says that there is no database.
	Fresh bool
	// Dir, Manifest and Keys are what was read; the latter two are nil if they
	// could not be.
	Dir      *Dir
	Manifest *Manifest
	Keys     Keys
	// Inventory is nil if there is none, or none that says anything.
	Inventory *Inventory
	// Own has the newest version of each key of the store's own, see IsOwn.
	Own map[string]Entry

	// Guard is the number of a value log file to be made, empty, so that Badger
	// does not read all of a large newest file, nor cut off what follows damage in
	// it; 0 for none. Trim cuts the newest to what was written, nil for not; it
	// has to be done first, as the file is not the newest any more then.
	Guard uint64
	Trim  *Trim
	// Empty are files that were never written to.
	Empty []File
	// CutManifest says that the manifest is to be cut at Manifest.End.
	CutManifest bool
	// StaleDiscard says that the statistics of dead values are useless.
	StaleDiscard bool
}

// Err joins the damage, nil if there is none.
func (r *Report) Err() error {
	var errs []error
	for _, d := range r.Damage {
		errs = append(errs, d)
	}
	return errors.Join(errs...)
}

// inspection is an Inspect under way.
type inspection struct {
	Report
	key     []byte
	full    bool
	durable uint64
	wals    []wal
	// known is the last place in the newest file of the value log that is known,
	// nil for none.
	known *Pointer
}

// wal is a write-ahead log.
type wal struct {
	File
	log *Log
}

// Inspect looks at a directory that nobody has open, without writing to it. It
// reads all of the manifest, the key registry, the tables and the write-ahead
// logs, as Badger does when it opens the directory; of the value log, the end of
// the newest file, and headers and sizes of the others, unless full asks for all. Key is the
// encryption key, nil for none. Commits up to version durable, 0 if that is not
// known, were synced.
//
// The error is ErrKey or that of the file system; damage is in the report.
func Inspect(path string, key []byte, full bool, durable uint64) (*Report, error) {
	in := &inspection{key: key, full: full, durable: durable}
	in.Own = map[string]Entry{}
	var err error
	if in.Dir, err = List(path); err != nil {
		return nil, err
	}
	if _, err := os.Stat(in.Dir.File(RestoreName)); err == nil {
		in.damaged(&shardlog.DamageError{Path: in.Dir.File(RestoreName), Offset: -1, Reason: "a restore into this directory did not finish", Remedy: "restore again, which starts over"})
		return &in.Report, nil
	}
	if _, err := os.Stat(in.Dir.File(RepairName)); err == nil {
		in.damaged(&shardlog.DamageError{Path: in.Dir.File(RepairName), Offset: -1, Reason: "a repair did not finish", Remedy: "run it again; it continues where it was"})
		return &in.Report, nil
	}
	for _, name := range in.Dir.Foreign {
		in.damaged(&shardlog.DamageError{Path: in.Dir.File(name), Offset: -1, Reason: "it has the name of a log and is none", Remedy: "move it to another directory"})
	}
	in.Inventory, err = ReadInventory(path)
	if err = in.note(err, in.warn); err != nil {
		return nil, err
	}
	for _, step := range []func() error{in.present, in.registry, in.manifest, in.listed, in.tables, in.walFiles, in.walRules, in.unnamed, in.values} {
		if in.Fresh {
			break
		}
		if err := step(); err != nil {
			return nil, err
		}
	}
	in.discard()
	return &in.Report, nil
}

func (in *inspection) damaged(d *shardlog.DamageError) { in.Damage = append(in.Damage, d) }
func (in *inspection) warn(d *shardlog.DamageError)    { in.Warnings = append(in.Warnings, d) }

// note passes a *shardlog.DamageError to what, and returns any other error.
func (in *inspection) note(err error, what func(*shardlog.DamageError)) error {
	var d *shardlog.DamageError
	if errors.As(err, &d) {
		what(d)
		return nil
	}
	return err
}

// present reports whether there is a database, and whether the manifest is
// missing from it.
func (in *inspection) present() error {
	d := in.Dir
	rest := len(d.Tables) + len(d.Values) + len(d.WALs)
	inv := in.Inventory
	if d.Manifest != nil {
		// Badger makes the manifest first, and the rest behind it.
		in.Fresh = rest == 0 && d.Registry == nil && d.Redo == nil && d.Manifest.Size <= manifestHeader+8 && (inv == nil || len(inv.Files) == 0)
		return nil
	}
	if rest == 0 && d.Registry == nil && d.Redo == nil && (inv == nil || len(inv.Files) == 0 && inv.State == StateOpening) {
		in.Fresh = true
		return nil
	}
	in.damaged(damage(d.File(ManifestName), -1, "it is missing, and there are %d tables, %d files of values and %d write-ahead logs", len(d.Tables), len(d.Values), len(d.WALs)))
	return nil
}

func (in *inspection) registry() error {
	path := in.Dir.File(RegistryName)
	if in.Dir.Registry == nil {
		in.Keys = Keys{}
		if in.key != nil {
			in.damaged(withoutKeys(damage(path, -1, "it is missing, and with it the keys that the data is encrypted with")))
		} else {
			in.warn(damage(path, -1, "it is missing; a new one is made"))
		}
		return nil
	}
	keys, err := ReadRegistry(path, in.key)
	if errors.Is(err, ErrKey) && in.Inventory != nil && in.Inventory.Registry != 0 {
		// If the header has not changed, the key is wrong.
		if sum, serr := registrySum(path); serr == nil && sum != in.Inventory.Registry {
			err = damage(path, 0, "its header has changed since the database was opened last")
		}
	}
	in.Keys = keys
	return in.note(err, in.damaged)
}

// withoutKeys says what the loss of data keys means: they are random, and nowhere
// else.
func withoutKeys(d *shardlog.DamageError) *shardlog.DamageError {
	d.Lost = "everything that is encrypted with them, unless the file comes back"
	d.Remedy = "put the file back from a copy of the directory, or restore the database from a backup; a repair can read nothing that is encrypted"
	return d
}

func (in *inspection) manifest() error {
	if in.Dir.Manifest == nil {
		return nil
	}
	var err error
	in.Manifest, err = ReadManifest(in.Dir.File(ManifestName))
	if m := in.Manifest; m != nil && m.Torn != nil {
		// What a process has written is there in full as long as the system runs.
		if in.Inventory.SameBoot() {
			in.damaged(m.Torn)
			in.Manifest = nil
		} else {
			in.warn(m.Torn)
			in.CutManifest = true
		}
	}
	return in.note(err, in.damaged)
}

// listed compares the files with those that existed when the store was closed.
// If there are new ones, or the manifest has grown, another program has opened
// the directory since, and nothing can be concluded.
func (in *inspection) listed() error {
	inv, d := in.Inventory, in.Dir
	if inv != nil && inv.State != StateClean && inv.Redo && d.Redo == nil {
		missing := damage(d.File(RedoName), -1, "it is missing, and the database was not closed")
		missing.Lost = "what was acknowledged shortly before, if the system crashed"
		in.damaged(missing)
	}
	if inv == nil || inv.State != StateClean {
		return nil
	}
	if in.Manifest != nil && in.Manifest.End == in.Manifest.Size && in.Manifest.Size > inv.Files[ManifestName] {
		in.Inventory = nil
		return nil
	}
	sizes := map[string]int64{}
	for _, f := range d.All() {
		sizes[f.Name] = f.Size
		if _, ok := inv.Files[f.Name]; !ok {
			in.Inventory = nil
			return nil
		}
	}
	for name, want := range inv.Files {
		size, ok := sizes[name]
		switch {
		case ok && size == want, name == ManifestName && !ok, name == RegistryName && !ok:
		case name == DiscardName:
			in.StaleDiscard = true
		case size < want && want <= LogHeader && filepath.Ext(name) == valueSuffix:
			// It had no values. Badger removes such a file when it opens the directory,
			// and what else it did then may be lost in a power failure.
		case !ok:
			in.damaged(damage(d.File(name), -1, "it is missing; the database was closed with it, of %d bytes", want))
		case size < want:
			in.damaged(damage(d.File(name), size, "it is cut short: %d bytes, and %d when the database was closed", size, want))
		default:
			in.report(name, size, want)
		}
	}
	return in.sameManifest()
}

// report reports a file that has become longer, which alone does no harm to
// the value log.
func (in *inspection) report(name string, size, want int64) {
	d := damage(in.Dir.File(name), want, "something was added to it: %d bytes, and %d when the database was closed", size, want)
	for _, f := range in.Dir.Values {
		if f.Name == name {
			in.warn(d)
			return
		}
	}
	in.damaged(d)
}

// sameManifest compares the manifest's bytes with what they were.
func (in *inspection) sameManifest() error {
	if in.Manifest == nil || in.Manifest.Size != in.Inventory.Files[ManifestName] {
		return nil
	}
	b, err := os.ReadFile(in.Dir.File(ManifestName))
	if err != nil {
		return err
	}
	if crc32.Checksum(b, castagnoli) != in.Inventory.Manifest {
		in.damaged(damage(in.Dir.File(ManifestName), in.Manifest.End, "it has changed since the database was closed"))
	}
	return nil
}

// OwnPrefix begins the keys that a store has for itself.
const OwnPrefix = 'p'

// The range of the keys of IsOwn. Filler, which begins as they do, is below.
var ownFrom, ownTo = []byte{OwnPrefix, 'a'}, []byte{OwnPrefix + 1}

// IsOwn reports whether a key is one in which a store keeps what it has to know of itself.
func IsOwn(key []byte) bool { return len(key) == 2 && key[0] == OwnPrefix && key[1] >= ownFrom[1] }

// own notes an entry if its key is the store's own.
func (in *inspection) own(e Entry) {
	if !IsOwn(e.Key) {
		return
	}
	if old, known := in.Own[string(e.Key)]; known && old.Version > e.Version {
		return
	}
	e.Key, e.Value = slices.Clone(e.Key), slices.Clone(e.Value)
	if e.Value != nil {
		e.Pointer = nil // its place in a write-ahead log
	}
	in.Own[string(e.Key)] = e
}

// tableNumbers returns the numbers of the tables that there are.
func (d *Dir) tableNumbers() map[uint64]bool {
	there := map[uint64]bool{}
	for _, f := range d.Tables {
		there[f.Number] = true
	}
	return there
}

// tables verifies the tables of the manifest.
func (in *inspection) tables() error {
	if in.Manifest == nil || in.Keys == nil {
		return nil
	}
	there := in.Dir.tableNumbers()
	for number, t := range in.Manifest.Tables {
		path := in.Dir.File(TableName(number))
		switch {
		case !there[number]:
			if in.Inventory == nil || in.Inventory.State != StateClean { // or listed has said so
				in.damaged(damage(path, -1, "it is missing, and the manifest names it"))
			}
		case !in.Keys.Has(t.KeyID):
			in.damaged(withoutKeys(damage(in.Dir.File(RegistryName), -1, "it lacks data key %d, which encrypts %s", t.KeyID, TableName(number))))
		default:
			if err := in.note(readRange(path, t, in.Keys, ownFrom, ownTo, in.own), in.damaged); err != nil {
				return err
			}
		}
	}
	return nil
}

// unnamed looks for tables that the manifest should name: those that came
// later than all that it names, and have entries that are nowhere else. A
// process that is killed leaves tables that are not named, too, but their
// entries are still in a write-ahead log or in the tables that they were merged
// from. After a crash of the system that is so only for what was synced.
func (in *inspection) unnamed() error {
	if in.Manifest == nil || in.Keys == nil {
		return nil
	}
	var last uint64
	for n := range in.Manifest.Named {
		last = max(last, n)
	}
	var known map[string]bool
	for _, f := range in.Dir.Tables {
		if f.Number <= last {
			continue
		}
		if known == nil {
			var err error
			if known, err = in.entries(); err != nil {
				return err
			}
		}
		lost, synced := 0, in.synced()
		whole, err := in.readUnnamed(f, func(e Entry) {
			if !known[versioned(e)] && (synced || e.Version <= in.durable) {
				lost++
			}
		})
		if err != nil {
			return err
		}
		if whole && lost > 0 {
			d := damage(in.Dir.File(ManifestName), in.Manifest.End, "it does not name %s, the newest table, which has %d entries that are nowhere else", f.Name, lost)
			in.damaged(d)
		}
	}
	return nil
}

// versioned names a version of a key.
func versioned(e Entry) string { return fmt.Sprintf("%s\x00%d", e.Key, e.Version) }

// readUnnamed reads a table without knowing what encrypts it.
func (in *inspection) readUnnamed(f File, each func(Entry)) (whole bool, err error) {
	ids := []uint64{0}
	for id := range in.Keys {
		ids = append(ids, id)
	}
	for _, id := range ids {
		t := Table{KeyID: id}
		// Verify first, so that each is called for one key alone.
		if err = ReadTable(in.Dir.File(f.Name), t, in.Keys, nil); err == nil {
			return true, ReadTable(in.Dir.File(f.Name), t, in.Keys, func(e Entry) bool { each(e); return true })
		}
	}
	return false, in.note(err, func(*shardlog.DamageError) {})
}

// entries returns the versions of keys in the tables and write-ahead logs.
func (in *inspection) entries() (map[string]bool, error) {
	known := map[string]bool{}
	for number, t := range in.Manifest.Tables {
		err := ReadTable(in.Dir.File(TableName(number)), t, in.Keys, func(e Entry) bool { known[versioned(e)] = true; return true })
		if err != nil && !errors.Is(err, shardlog.ErrCorrupt) && !os.IsNotExist(err) {
			return nil, err
		}
	}
	for _, w := range in.wals {
		if _, err := ReadLog(in.Dir.File(w.Name), w.Number, in.Keys, true, func(e Entry) { known[versioned(e)] = true }); err != nil {
			return nil, err
		}
	}
	return known, nil
}

// discardBytes is the least size of the file of statistics.
const discardBytes = 1 << 20

// discard looks at the file of statistics, which can be recreated.
func (in *inspection) discard() {
	if f := in.Dir.Discard; f != nil && (f.Size < discardBytes || f.Size%16 != 0) {
		in.StaleDiscard = true
	}
	if in.StaleDiscard {
		in.warn(damage(in.Dir.File(DiscardName), -1, "the statistics of dead values are damaged; they are counted from zero, and space is given back later"))
	}
}
