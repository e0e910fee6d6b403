//go:build linux

// Package powerloss records what a store writes and syncs, and builds the
// directories that a power loss may leave at any moment: of what was not synced
// each sector of 512 bytes, each size and each name may be there or not, whatever
// the order in which it was written. It is for tests.
//
// Badger writes through mappings, so its files are read around each sync, and
// whenever the test asks for it. Its syncs are those that go through
// badgerkv.Disk, and of its own those that its source makes certain:
//
//   - a table is synced before the manifest names it;
//   - the manifest, after each addition (the seam is Badger's variable syncFunc),
//     and before it takes the place of another;
//   - the key registry is opened with O_DSYNC;
//   - a log file, before it is cut to a size other than zero.
//
// A sync makes the name of a table, of the manifest and of the registry durable,
// as ext4 and xfs do. The names of the others need badgerkv.Disk.SyncDir, also
// those that Badger syncs the directory for.
package powerloss

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/shardlog/shardlog/internal/kv/badgerfile"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
	"github.com/shardlog/shardlog/internal/kv/redo"
)

// Faults make the recorder take for durable less than the store believes, as if
// the store had a defect. They show that a test would notice.
type Faults struct {
	// NoRingSync: a sync of the redo log does nothing.
	NoRingSync bool
	// NoFrameSync: a sync of the redo log reaches its first pages alone.
	NoFrameSync bool
	// NoSync are the classes of files whose sync does nothing.
	NoSync Class
	// LateSync: a sync of a file of Badger's takes effect only when the redo log
	// has written another state and synced it.
	LateSync bool
	// NoDirSync: a sync of the directory does nothing.
	NoDirSync bool
}

// Recorder records a directory in use. Its exported fields are set before it is used. Its methods are safe for concurrent use.
type Recorder struct {
	// OnPoint is called at each event, while no other can happen, with what the
	// disk may have. It must not use the recorder.
	OnPoint func(*Point)
	Faults  Faults
	// FailRing returns the error of the n-th operation on the redo log, counted
	// from 1; nil for none.
	FailRing func(n int, op string) error
	// Unmapped says that the redo log cannot be mapped.
	Unmapped bool

	dir     string
	mu      sync.Mutex
	seq     int
	inodes  []*inode
	names   map[string]*name
	buf     []byte
	ringOps int
	late    []func() // see Faults.LateSync
	broken  error
	stopped bool
}

// New begins to record a directory, in which everything is durable. Close the
// recorder after the store.
func New(dir string) (*Recorder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	r := &Recorder{dir: dir, names: map[string]*name{}}
	if err := r.look(); err != nil {
		return nil, err
	}
	for _, n := range r.inodes {
		n.synced(r.seq)
	}
	for _, n := range r.names {
		n.synced(r.seq)
	}
	recorders.Store(dir, r)
	return r, nil
}

// Close ends the recording, and returns why it is not complete, if it is not.
func (r *Recorder) Close() error {
	recorders.Delete(r.dir)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	errs := []error{r.broken}
	for _, n := range r.inodes {
		errs = append(errs, n.f.Close())
	}
	return errors.Join(errs...)
}

// Look reads the files, and makes a point.
func (r *Recorder) Look(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event(what)
}

// event reads the files, and calls OnPoint, with mu held. It returns the moment.
func (r *Recorder) event(what string) (seq int) {
	if r.stopped {
		return r.seq
	}
	if err := r.look(); err != nil && r.broken == nil {
		r.broken = fmt.Errorf("%s: %w", what, err)
	}
	seq = r.seq
	r.point(what)
	return seq
}

// Silence ends the calls of OnPoint.
func (r *Recorder) Silence() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.OnPoint = nil
}

func (r *Recorder) point(what string) {
	if r.OnPoint != nil && !r.stopped {
		r.OnPoint(&Point{What: what, r: r})
	}
}

// look reads names, sizes and contents, with mu held.
func (r *Recorder) look() error {
	r.seq++
	if err := r.lookNames(All); err != nil {
		return err
	}
	// Badger may be at work meanwhile. It writes values before the log of the
	// memtable, and so the logs are read first: a value whose key was seen is then
	// seen, too, if need be in a file that was just begun.
	if err := r.lookFiles(WAL); err != nil {
		return err
	}
	if err := r.lookNames(All &^ WAL); err != nil {
		return err
	}
	if err := r.lookFiles(All &^ WAL); err != nil {
		return err
	}
	r.certain()
	return nil
}

// settle reads the files until the logs of memtables and the names stay as they are
// meanwhile, and reports whether that came about. Badger may be at work: otherwise
// there may be values of more commits than a process that is killed leaves behind the
// end of its log. Those of a commit that is under way may be there.
func (r *Recorder) settle() (bool, error) {
	const attempts = 5
	for range attempts {
		if err := r.look(); err != nil {
			return false, err
		}
		r.seq++
		if err := errors.Join(r.lookNames(All), r.lookFiles(WAL|Manifest)); err != nil {
			return false, err
		}
		if !r.changedAt(r.seq) {
			return true, nil
		}
	}
	return false, nil
}

// changedAt reports whether a file or a name was seen to change at a moment.
func (r *Recorder) changedAt(seq int) bool {
	for _, n := range r.inodes {
		if n.seen == seq {
			return true
		}
	}
	for _, n := range r.names {
		if n.values[len(n.values)-1].seq == seq {
			return true
		}
	}
	return false
}

// lookFiles reads the files of some classes.
func (r *Recorder) lookFiles(c Class) error {
	for _, n := range r.inodes {
		if !c.Has(n.class) {
			continue
		}
		if err := n.look(r.seq, &r.buf); err != nil {
			return err
		}
	}
	return nil
}

// certain notes what Badger's source says is synced.
func (r *Recorder) certain() {
	logs := false
	for name, n := range r.names {
		if c := classOf(name); n.now() != nil && (c == WAL || c == Values) {
			logs = true
		}
	}
	registry := r.names[badgerfile.RegistryName].now()
	if registry != nil {
		registry.synced(r.seq)
		if logs {
			r.names[badgerfile.RegistryName].synced(r.seq) // its opening comes first
		}
		if m := r.names[badgerfile.ManifestName]; m != nil && len(m.values) == 2 && m.values[0].n == nil {
			m.synced(r.seq) // the first one; so does this
		}
	}
	if r.names[badgerfile.ManifestName].now() == nil {
		return
	}
	m, err := badgerfile.ReadManifest(filepath.Join(r.dir, badgerfile.ManifestName))
	if err != nil {
		return // it was being written
	}
	for number := range m.Tables {
		base := badgerfile.TableName(number)
		if r.names[base].now() == nil {
			if ok, err := r.lookName(base); err != nil || !ok {
				continue
			}
		}
		n := r.names[base]
		if f := n.now(); !f.sealed && f.look(r.seq, &r.buf) == nil {
			f.synced(r.seq)
			f.sealed = true
		}
		n.synced(r.seq)
	}
}

// Closed notes that the store was closed without an error: Badger has synced all
// of its files then, and the directory.
func (r *Recorder) Closed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.look(); err != nil && r.broken == nil {
		r.broken = err
	}
	for _, n := range r.inodes {
		if n.class != Other {
			n.synced(r.seq)
		}
	}
	for _, n := range r.names {
		n.synced(r.seq)
	}
}

// Disk returns the disk for the store.
func (r *Recorder) Disk() *badgerkv.Disk {
	return &badgerkv.Disk{Sync: r.sync, SyncDir: r.syncDir, OpenRedo: r.openRedo}
}

func (r *Recorder) sync(f *os.File) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	what := filepath.Base(f.Name())
	seq := r.event("before sync of " + what)
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	n := r.inode(fi)
	if n == nil {
		return nil // gone before it was seen, or the recording has ended
	}
	switch {
	case r.Faults.NoSync.Has(n.class):
	case r.Faults.LateSync:
		r.late = append(r.late, func() { n.synced(seq) })
	default:
		n.synced(seq)
	}
	r.point("after sync of " + what)
	return nil
}

func (r *Recorder) syncDir(string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	seq := r.event("before sync of the directory")
	if !r.Faults.NoDirSync {
		for _, n := range r.names {
			n.synced(seq)
		}
	}
	r.point("after sync of the directory")
	return nil
}

// manifestSync is called around Badger's sync of its manifest.
func (r *Recorder) manifestSync(f *os.File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seq := r.event("before sync of the manifest")
	fi, err := f.Stat()
	if err != nil {
		return
	}
	if n := r.inode(fi); n != nil {
		n.synced(seq)
		r.names[badgerfile.ManifestName].synced(seq)
	}
	r.point("after sync of the manifest")
}

// inode returns the file that is known, nil if it is not.
func (r *Recorder) inode(fi os.FileInfo) *inode {
	for _, n := range r.inodes {
		if is, err := n.f.Stat(); err == nil && os.SameFile(fi, is) {
			return n
		}
	}
	return nil
}

// ring is the file of a redo log.
type ring struct {
	redo.File
	r *Recorder
	n *inode
}

func (r *Recorder) openRedo(path string) (redo.File, error) {
	f, err := redo.OpenFile(path)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event("redo log opened")
	fi, err := os.Stat(path)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	n := r.inode(fi)
	if n == nil {
		return f, nil
	}
	n.exact = true
	return &ring{f, r, n}, nil
}

func (r *Recorder) ringFails(op string) error {
	r.ringOps++
	if r.FailRing == nil {
		return nil
	}
	return r.FailRing(r.ringOps, op)
}

// RingOps returns how many operations on the redo log there were.
func (r *Recorder) RingOps() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ringOps
}

// WriteAt implements redo.File.
func (g *ring) WriteAt(b []byte, at int64) (int, error) {
	r := g.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ringFails("write"); err != nil {
		return 0, err
	}
	r.seq++
	if at+int64(len(b)) > g.n.size() {
		g.n.resize(r.seq, at+int64(len(b)))
	}
	g.n.written(r.seq, int(at), b)
	m, err := g.File.WriteAt(b, at)
	r.point("redo log written")
	return m, err
}

// Sync implements redo.File.
func (g *ring) Sync() error {
	r := g.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ringFails("sync"); err != nil {
		return err
	}
	seq := r.event("before sync of the redo log")
	if r.Faults.NoRingSync {
		return nil
	}
	if r.Faults.NoFrameSync {
		g.n.syncedHead(seq)
		return nil
	}
	_, head := g.n.unsynced[redo.Page/sector]
	_, other := g.n.unsynced[2*redo.Page/sector]
	g.n.synced(seq)
	if head || other {
		for _, f := range r.late {
			f()
		}
		r.late = nil
	}
	r.point("after sync of the redo log")
	return nil
}

// Allocate implements redo.File.
func (g *ring) Allocate(to int64) error {
	r := g.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ringFails("allocate"); err != nil {
		return err
	}
	if err := g.File.Allocate(to); err != nil {
		return err
	}
	r.event("the redo log is made larger")
	return nil
}

// Map implements redo.File. What is written to the mapping is seen when the file is read.
func (g *ring) Map(size int64) ([]byte, error) {
	r := g.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ringFails("map"); err != nil {
		return nil, err
	}
	if r.Unmapped {
		return nil, redo.ErrNotMapped
	}
	b, err := g.File.Map(size)
	if err == nil {
		g.n.mapped++
	}
	return b, err
}

// Unmap implements redo.File.
func (g *ring) Unmap(b []byte) error {
	r := g.r
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event("before the redo log is unmapped")
	g.n.mapped--
	return g.File.Unmap(b)
}

// isGone reports whether a file was removed meanwhile.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Now calls f with what the disk may have.
func (r *Recorder) Now(f func(*Point)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.look(); err != nil && r.broken == nil {
		r.broken = err
	}
	f(&Point{What: "now", r: r})
}
