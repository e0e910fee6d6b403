package badgerkv

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
	"github.com/shardlog/shardlog/internal/kv/redo"
)

// recovery brings a store to the state after the last frame of its redo log. What
// a crash of the system leaves in Badger is
//
//   - all that was committed before the ring was advanced last (Mark.Base), and all
//     batches that were synced themselves because they are large;
//   - of the others any part, where a batch has all of its keys or none, but a
//     key may be there without its value;
//   - the same of the one batch behind the last frame, which was not
//     acknowledged. It is kept if it is whole, and taken back if not;
//   - values that space reclaiming has copied, whose new place is known and whose
//     copy is lost. The original is still there.
//
// All reads are of the versions up to limit, so that a recovery that is cut off
// does not confuse the next one: what it writes has higher versions.
//
// Where commits are not synced one by one, no frame has changes. What was committed behind
// the base was promised to nobody, and stays as it is; recovery finds the originals of
// values that were on disk and whose copy is lost.
type recovery struct {
	s      *Store
	ring   *redo.Ring
	mark   redo.Mark
	values *badgerfile.Values
	last   uint64            // version of the last frame, or Mark.Base
	limit  uint64            // see above
	wanted map[string]uint64 // keys of the frames, with the version of the last change
	found  map[string][]found
	torn   map[uint64]bool // versions behind last of which a value is lost
	later  []string        // keys with a version behind last
	// committed is the version of the last batch with an entry that Badger has, and half
	// that version if its entry was not written, 0 otherwise.
	committed, half uint64
	// same says that the system has run since the store was written. Then nothing is
	// lost: a value that cannot be read is damaged, and its readers get that error.
	same bool
	// loose says that commits were not synced.
	loose bool
}

// keepTorn makes recovery keep batches of which a part is lost. Tests set it, to see
// that they notice.
var keepTorn bool

// found is a version of a key.
type found struct {
	version  uint64
	deleted  bool
	readable bool
	moved    bool // it is readable where space reclaiming has copied it from
}

// recover applies what the ring has and Badger has not, and syncs it.
func (s *Store) recover(ring *redo.Ring) error {
	r := &recovery{s: s, ring: ring, mark: ring.Mark(), wanted: map[string]uint64{}, found: map[string][]found{}, torn: map[uint64]bool{}}
	r.same, r.loose = s.files.Inventory.SameBoot(), !ring.Syncs()
	frames := 0
	r.last = r.mark.Base
	alone := map[uint64]bool{} // versions whose entry has a frame of its own
	var made commits
	err := ring.Read(!r.same, func(f redo.Frame) error {
		made.see(&f, ring.Syncs())
		if len(f.Ops) == 0 {
			alone[f.Version] = true
			return nil
		}
		if f.Version <= r.mark.Base {
			return nil // Badger has it, or what replaced it
		}
		frames++
		r.last = max(r.last, f.Version)
		for i := range f.Ops {
			r.wanted[string(f.Ops[i].Key)] = f.Version
		}
		return nil
	})
	if err != nil {
		return err
	}
	top := max(s.ts.Load(), r.last, r.mark.Limit)
	if r.limit = r.mark.Limit; r.limit == 0 {
		r.limit = top
	}
	if err := s.noteGap(top); err != nil {
		return err
	}
	r.committed, err = entryVersion(func(key []byte) ([]byte, error) { return s.getAt(r.limit, key) })
	if err == nil {
		err = made.missing(s.opts.Dir, r.committed, ring.Syncs() || r.same)
	}
	if err != nil || frames == 0 && (r.mark.Clean && top == r.mark.Base || r.loose && r.same) {
		return err
	}
	if !r.loose && r.committed > r.last && !alone[r.committed] {
		r.half = r.committed
	}
	r.values = s.files.Values()
	defer r.values.Close()
	if err := r.look(); err != nil {
		return err
	}
	if err := r.untear(); err != nil {
		return err
	}
	if r.half > 0 {
		r.torn[r.half] = true
	}
	changed, err := r.apply()
	if err != nil {
		return err
	}
	if changed > 0 {
		s.warn("changes were taken from the redo log", "frames", frames, "changes", changed)
	}
	if err := s.syncFiles(); err != nil || changed == 0 {
		return err
	}
	// What is committed from now on is no part of this recovery.
	return ring.NoteMark(s.mark())
}

// noteGap makes a version that of the last commit. Those up to it that Badger lacks are
// a gap in its logs, which the inventory says before there is a commit behind it:
// the next look at the directory would take it for damage.
func (s *Store) noteGap(version uint64) error {
	if version <= s.ts.Load() {
		return nil
	}
	s.ts.Store(version)
	s.gaps = max(s.gaps, version)
	return s.noteState(badgerfile.StateOpening)
}

// look finds the keys that frames change, that have versions behind the last
// frame, or whose value cannot be read.
func (r *recovery) look() error {
	txn := r.s.db.NewTransactionAt(r.limit, false)
	defer txn.Discard()
	o := badger.DefaultIteratorOptions
	o.PrefetchValues, o.AllVersions = false, true
	it := txn.NewIterator(o)
	defer it.Close()
	var key []byte
	var versions []found
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		if k := item.Key(); !bytes.Equal(k, key) {
			r.note(key, versions)
			key, versions = append(key[:0], k...), versions[:0]
		}
		if ownKey(item.Key()) {
			continue
		}
		ok, err := r.readable(item)
		if err != nil {
			return err
		}
		versions = append(versions, found{version: item.Version(), deleted: item.IsDeletedOrExpired(), readable: ok})
	}
	r.note(key, versions)
	return nil
}

// note keeps what recovery needs of a key.
func (r *recovery) note(key []byte, versions []found) {
	if len(versions) == 0 {
		return
	}
	_, wanted := r.wanted[string(key)]
	behind := versions[0].version > r.last
	if !wanted && !behind && versions[0].readable {
		return
	}
	r.found[string(key)] = slices.Clone(versions)
	if !behind {
		return
	}
	r.later = append(r.later, string(key))
	r.noteTorn(versions)
}

// readable reports whether the value of a version is there. What was on disk
// before the ring was advanced last is not looked at.
func (r *recovery) readable(item *badger.Item) (bool, error) {
	p, ok := place(item)
	if (r.same || r.loose) && item.Version() > r.last {
		return true, nil // no frame has it, and it was not lost, or was not to be kept
	}
	if !ok || p.File < r.mark.File || p.File == r.mark.File && int64(p.Start)+int64(p.Size) <= r.mark.Offset {
		return true, nil
	}
	_, err := r.values.Get(item.Key(), item.Version(), &p)
	var d *shardlog.DamageError
	if errors.As(err, &d) {
		return false, nil
	}
	return err == nil, err
}

// current returns the version of a key that holds before frames are applied, and
// whether Badger would show another one.
func (r *recovery) current(key string) (f found, hidden bool) {
	for i, v := range r.found[key] {
		if !r.torn[v.version] && v.readable {
			return v, i > 0
		}
	}
	return found{deleted: true}, len(r.found[key]) > 0
}

// apply writes what Badger lacks, and returns how many changes.
func (r *recovery) apply() (changed int, err error) {
	w := &recoveryWriter{r: r}
	if err := r.originals(w); err != nil {
		return 0, err
	}
	committed := r.committed
	if r.torn[committed] {
		committed-- // its entry does not count either
	}
	err = r.ring.Read(!r.same, func(f redo.Frame) error {
		for i := range f.Ops {
			op := &f.Ops[i]
			if f.Version <= r.mark.Base {
				break
			}
			if bytes.Equal(op.Key, entryKey) {
				committed = max(committed, f.Version)
				continue
			}
			c, hidden := r.current(string(op.Key))
			if f.Version > c.version || hidden && f.Version == c.version {
				w.add(*op)
			}
		}
		return w.flush()
	})
	if err != nil {
		return 0, err
	}
	for _, key := range r.later {
		if err := r.takeBack(w, key); err != nil {
			return 0, err
		}
	}
	if is, err := entryVersion(r.s.Get); err != nil {
		return 0, err
	} else if is != committed {
		w.add(kv.Op{Key: entryKey, Value: versionBytes(committed)})
	}
	return w.changed, w.flush()
}

// takeBack gives a key the value that it had before a batch that is torn.
func (r *recovery) takeBack(w *recoveryWriter, key string) error {
	c, hidden := r.current(key)
	if !hidden || r.wanted[key] > 0 && r.wanted[key] >= c.version {
		return nil // or a frame has changed it
	}
	if c.deleted {
		return w.addFlush(kv.Op{Key: []byte(key), Delete: true})
	}
	v, err := r.s.getAt(c.version, []byte(key))
	if err != nil {
		return err
	}
	return w.addFlush(kv.Op{Key: []byte(key), Value: v})
}

// untear looks for the values that are lost of versions behind the last frame
// where space reclaiming may have copied them from: a batch of which all are there
// is whole. They were written after the ring was advanced last.
func (r *recovery) untear() error {
	if len(r.torn) == 0 {
		return nil
	}
	err := r.values.Each(r.mark.File, func(e badgerfile.Entry) error {
		for i, v := range r.found[string(e.Key)] {
			if v.version == e.Version && !v.readable {
				r.found[string(e.Key)][i].readable, r.found[string(e.Key)][i].moved = true, true
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	clear(r.torn)
	for _, key := range r.later {
		r.noteTorn(r.found[key])
	}
	return nil
}

// noteTorn notes the batches of which a value is lost.
func (r *recovery) noteTorn(versions []found) {
	for _, v := range versions {
		if v.version > r.last && !v.readable && !keepTorn {
			r.torn[v.version] = true
		}
	}
}

// originals stores values again whose copy by space reclaiming is lost.
func (r *recovery) originals(w *recoveryWriter) error {
	lost := map[string]uint64{}
	for key, versions := range r.found {
		i := slices.IndexFunc(versions, func(v found) bool { return !r.torn[v.version] })
		if i < 0 {
			continue
		}
		if v := versions[i]; (!v.readable || v.moved) && r.wanted[key] < v.version {
			lost[key] = v.version
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return r.values.Each(0, func(e badgerfile.Entry) error {
		if v, ok := lost[string(e.Key)]; !ok || v != e.Version {
			return nil
		}
		delete(lost, string(e.Key))
		r.found[string(e.Key)] = []found{{version: e.Version, readable: true}}
		return w.addFlush(kv.Op{Key: e.Key, Value: e.Value})
	})
}

// recoveryWriter stores changes. The first one is preceded by a note in the ring.
type recoveryWriter struct {
	r       *recovery
	batch   kv.Batch
	noted   bool
	changed int
}

func (w *recoveryWriter) add(op kv.Op) {
	if op.Delete {
		w.batch.Delete(op.Key)
	} else {
		w.batch.Set(op.Key, op.Value)
	}
	w.changed++
}

func (w *recoveryWriter) addFlush(op kv.Op) error {
	w.add(op)
	return w.flush()
}

func (w *recoveryWriter) flush() error {
	if len(w.batch.Ops) == 0 {
		return nil
	}
	if !w.noted {
		if err := w.r.ring.NoteLimit(w.r.limit); err != nil {
			return err
		}
		w.noted = true
	}
	w.batch.Small = true // it was accepted before
	err := w.r.s.Commit(&w.batch)
	w.batch.Reset()
	if err != nil {
		return fmt.Errorf("applying the redo log: %w", err)
	}
	return nil
}

// ownKey reports whether a key is the store's own.
func ownKey(key []byte) bool { return len(key) > 0 && key[0] == FillerPrefix }
