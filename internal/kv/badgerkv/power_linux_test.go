package badgerkv_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
	"github.com/shardlog/shardlog/internal/kv/powerloss"
)

// TestPowerLoss runs stores on recorded disks, loses the power at points of time of
// which most are in the middle of something, and opens what the disk may then
// have: all batches that were acknowledged are there, the one that was not is
// there whole or not at all, and nothing else.
//
//	SHARDLOG_POWER=20000 SHARDLOG_SEED=7 go test -run TestPowerLoss ./internal/kv/badgerkv
//
// builds at least so many states. A state that fails stays where
// SHARDLOG_POWER_KEEP says.
const (
	envPower     = "SHARDLOG_POWER"
	envPowerSeed = "SHARDLOG_SEED"
	envPowerKeep = "SHARDLOG_POWER_KEEP"
)

// powerModel is what was committed to a store. Only one goroutine adds to it.
type powerModel struct {
	mu      sync.RWMutex // held to add, and by the others to read
	batches []kv.Batch
	digests []uint64 // after so many batches
	now     map[string][]byte
	digest  uint64
	entries map[uint64][]byte // by number
	count   uint64            // of entries, and the number of the last one
	// base are the entries from before the first batch.
	base      map[uint64][]byte
	baseCount uint64
}

func newPowerModel() *powerModel {
	return &powerModel{digests: []uint64{0}, now: map[string][]byte{}, entries: map[uint64][]byte{}}
}

func entryDigest(key string, value []byte) uint64 {
	return xxhash.Sum64(append(append([]byte(key), 0), value...))
}

func (m *powerModel) add(b kv.Batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b.Ops = slices.Clone(b.Ops)
	if b.Entry != nil {
		m.count++
		m.entries[m.count] = b.Entry
		b.Set([]byte(entriesKey), strconv.AppendUint(nil, m.count, 10))
	}
	m.batches = append(m.batches, b)
	for _, op := range b.Ops {
		key := string(op.Key)
		if old, ok := m.now[key]; ok {
			m.digest ^= entryDigest(key, old)
			delete(m.now, key)
		}
		if !op.Delete {
			m.now[key] = op.Value
			m.digest ^= entryDigest(key, op.Value)
		}
	}
	m.digests = append(m.digests, m.digest)
}

// cut returns the model after n batches.
func (m *powerModel) cut(n int) *powerModel {
	m.mu.RLock()
	batches := m.batches[:n]
	m.mu.RUnlock()
	c := newPowerModel()
	c.base, c.baseCount = m.base, m.baseCount
	maps.Copy(c.entries, m.base)
	c.count = m.baseCount
	for _, b := range batches {
		if b.Entry != nil {
			b.Ops = b.Ops[:len(b.Ops)-1] // it is added again
		}
		c.add(b)
	}
	return c
}

func digestOf(m map[string][]byte) (d uint64) {
	for k, v := range m {
		d ^= entryDigest(k, v)
	}
	return d
}

// powerMode is one kind of store.
type powerMode struct {
	name      string
	encrypted bool
	redoMax   int64
	// sizes of values, of which one is drawn for each change
	sizes []int
	keys  int
	// reclaim says that space reclaiming runs.
	reclaim bool
	// long says that memtables are filled while the store is open.
	long bool
	// changing says that the store is opened with SyncWrites every other time, and unsynced
	// that it never is.
	changing, unsynced bool
	// unmapped says that the redo log cannot be mapped, and large that it has large entries.
	unmapped, large bool
}

// loose says that not everything survives a power loss.
func (p powerMode) loose() bool { return p.changing || p.unsynced }

var powerModes = []powerMode{
	{name: "small", redoMax: 1 << 20, sizes: []int{0, 10, 100, 300, 3000}, keys: 60},
	{name: "mixed", redoMax: 1 << 20, sizes: []int{10, 100, 1000, 7000, 9000, 30000, 70000}, keys: 60},
	{name: "tiny ring", redoMax: 256 << 10, sizes: []int{100, 5000, 9000, 40000}, keys: 40},
	{name: "encrypted", encrypted: true, redoMax: 512 << 10, sizes: []int{10, 2000, 9000, 70000}, keys: 40},
	{name: "reclaim", redoMax: 1 << 20, sizes: []int{100, 20000, 50000, 90000}, keys: 30, reclaim: true},
	{name: "rotating", redoMax: 1 << 20, sizes: []int{100, 6000, 8000, 8100}, keys: 150, long: true},
	{name: "changing", redoMax: 512 << 10, sizes: []int{10, 2000, 9000, 70000}, keys: 40, changing: true},
	{name: "unsynced", redoMax: 512 << 10, sizes: []int{10, 300, 2000}, keys: 40, unsynced: true, large: true},
	{name: "not mapped", redoMax: 256 << 10, sizes: []int{10, 300, 2000}, keys: 40, changing: true, unmapped: true},
	{name: "unsynced encrypted", encrypted: true, redoMax: 256 << 10, sizes: []int{10, 300, 2000}, keys: 40, unsynced: true},
}

func (p powerMode) options(dir string, d *badgerkv.Disk, sync bool) badgerkv.Options {
	o := badgerkv.Options{Dir: dir, SyncWrites: sync, RedoMax: p.redoMax, RedoTurn: 32 << 10, ValueLogFile: 1 << 20, MinFree: 1, Disk: d}
	if p.encrypted {
		o.EncryptionKey = bytes.Repeat([]byte("k"), 32)
	}
	return o
}

func (p powerMode) batch(rnd *rand.Rand) (b kv.Batch) {
	for range 1 + rnd.Intn(1+rnd.Intn(6)) {
		key := fmt.Appendf(nil, "k%03d", rnd.Intn(p.keys))
		if rnd.Intn(5) == 0 {
			b.Delete(key)
			continue
		}
		v := make([]byte, p.sizes[rnd.Intn(len(p.sizes))])
		rnd.Read(v)
		b.Set(key, v)
	}
	return b
}

// powerDir returns a directory, in memory if there is such a file system.
func powerDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "shardlog")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func powerSeed(t testing.TB) int64 {
	seed, err := strconv.ParseInt(os.Getenv(envPowerSeed), 10, 64)
	if err != nil {
		seed = time.Now().UnixNano() % 1e9
	}
	t.Logf("%s=%d", envPowerSeed, seed)
	return seed
}

func powerStates(short int) int {
	if n, err := strconv.Atoi(os.Getenv(envPower)); err == nil {
		return n
	}
	if badgerkv.RaceDetector {
		return short / 10 // which is about twenty times as slow
	}
	return short
}

// powerRun writes to stores and opens what power losses leave of them.
type powerRun struct {
	mode    powerMode
	rnd     *rand.Rand
	choices *rand.Rand // used during points, one at a time
	root    string
	faults  powerloss.Faults
	// every: of so many points one is a power loss
	every int

	sync  bool               // how the store is opened
	only  []powerloss.Choice // nil for all that there are
	once  bool               // there is no next power loss
	torn  bool               // the next power loss tears the logs of memtables
	quiet bool               // points are no power losses
	// loose says that what was committed after floor batches may be missing, if the power is
	// lost, and opening that the store has what is left of an earlier loss.
	loose, opening bool
	floor          atomic.Int64

	model          *powerModel
	acked, started atomic.Int64
	needed         []numbered // entries that are
	covered        uint64     // up to this number they are not
	lives          int        // stores that were opened
	pmu            sync.Mutex // guards model.digests for points

	jobs     chan powerJob
	done     sync.WaitGroup
	states   atomic.Int64
	mu       sync.Mutex
	failures []string
	lost     string // how the power was lost last
	systems  int
}

type powerJob struct {
	dir, what string
	digests   []uint64 // those that are right, the first being of batch from
	from      int
	model     *powerModel
	loose     bool // only the first floor batches have to be there
	floor     int
	sync      bool
}

// differences says what is wrong with contents.
func (j *powerJob) differences(found map[string][]byte) string {
	var b bytes.Buffer
	for n := range j.digests {
		want := j.model.cut(j.from + n).now
		fmt.Fprintf(&b, "\n  against %d:", j.from+n)
		for k, v := range want {
			switch f, ok := found[k]; {
			case !ok:
				fmt.Fprintf(&b, " %s lacks %d bytes of %d;", k, len(v), j.model.last(k, j.from+n))
			case !bytes.Equal(f, v):
				fmt.Fprintf(&b, " %s has %d bytes, not the %d of %d;", k, len(f), len(v), j.model.last(k, j.from+n))
			}
		}
		for k := range found {
			if _, ok := want[k]; !ok {
				fmt.Fprintf(&b, " %s is too much, changed by %d;", k, j.model.last(k, j.from+n))
			}
		}
	}
	return b.String()
}

// last returns the number of the batch, up to n, that changed a key last.
func (m *powerModel) last(key string, n int) int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i := n - 1; i >= 0; i-- {
		for _, op := range m.batches[i].Ops {
			if string(op.Key) == key {
				return i + 1
			}
		}
	}
	return 0
}

func (p *powerRun) begin() {
	p.jobs = make(chan powerJob)
	for range 3 * runtime.GOMAXPROCS(0) {
		p.done.Add(1)
		go func() {
			defer p.done.Done()
			for j := range p.jobs {
				if err := p.check(j); err != nil {
					p.failed(j, err)
				} else {
					_ = os.RemoveAll(j.dir)
				}
			}
		}()
	}
}

func (p *powerRun) end() {
	close(p.jobs)
	p.done.Wait()
}

func (p *powerRun) failed(j powerJob, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures = append(p.failures, fmt.Sprintf("%s: %v", filepath.Base(j.dir), err))
	if keep := os.Getenv(envPowerKeep); keep != "" {
		_ = os.CopyFS(filepath.Join(keep, filepath.Base(j.dir)+".opened"), os.DirFS(j.dir))
	}
	_ = os.RemoveAll(j.dir)
}

func (p *powerRun) hasFailed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.failures) > 0
}

// number returns how many batches a store has. Space reclaiming may bring back
// what was deleted, see docs/FORMAT.md; where it runs, back is true.
func (j *powerJob) number(f *powerFound, back bool) (int, error) {
	if err := f.verify(j.model); err != nil {
		return 0, fmt.Errorf("%s: %w", j.what, err)
	}
	found, lost := f.keys, f.lost
	if j.loose {
		return 0, j.synced(f)
	}
	if len(lost) > 0 {
		return 0, fmt.Errorf("%s: values are lost: %v", j.what, slices.Collect(maps.Keys(lost)))
	}
	if n := f.gap(f.last()); n > 0 {
		return 0, fmt.Errorf("%s: entry %d is not there, with %s", j.what, n, f)
	}
	if i := slices.Index(j.digests, digestOf(found)); i >= 0 {
		return j.from + i, nil
	}
	for i, d := range j.digests {
		want := j.model.cut(j.from + i).now
		rest := maps.Clone(found)
		for k, v := range found {
			if _, ok := want[k]; !ok && j.model.had(k, v) {
				delete(rest, k)
			}
		}
		if back && digestOf(rest) == d {
			return j.from + i, nil
		}
	}
	return 0, fmt.Errorf("%s: the contents are none of those that are right, with entries %s:%s", j.what, f, j.differences(found))
}

// synced returns an error unless all that was synced is there. What came later may
// be, and of values in the value log nobody has verified the contents.
func (j *powerJob) synced(all *powerFound) error {
	found, lost := all.keys, all.lost
	model := j.model.cut(j.floor)
	was := model.now
	if n := all.gap(model.count); n > 0 {
		return fmt.Errorf("%s: entry %d of %d is not there, and was synced, with %s", j.what, n, model.count, all)
	}
	later := map[string][]kv.Op{}
	j.model.mu.RLock()
	batches := j.model.batches[j.floor : j.from+len(j.digests)-1]
	j.model.mu.RUnlock()
	for _, b := range batches {
		for _, op := range b.Ops {
			later[string(op.Key)] = append(later[string(op.Key)], op)
		}
	}
	for k, v := range was {
		f, ok := found[k]
		fine := ok && bytes.Equal(f, v) || lost[k] && len(later[k]) > 0
		for _, op := range later[k] {
			fine = fine || op.Delete && !ok || ok && mayBe(op, f)
		}
		if !fine {
			return fmt.Errorf("%s: %s of batch %d is not there", j.what, k, j.model.last(k, j.floor))
		}
	}
	for k, f := range found {
		if _, ok := was[k]; !ok && !slices.ContainsFunc(later[k], func(op kv.Op) bool { return mayBe(op, f) }) {
			return fmt.Errorf("%s: %s is too much", j.what, k)
		}
	}
	return nil
}

// mayBe reports whether a value may be what is left of a change that was not synced.
func mayBe(op kv.Op, found []byte) bool {
	const threshold = 1 << 10 // of the value log
	return !op.Delete && (bytes.Equal(op.Value, found) || len(op.Value) >= threshold)
}

// had reports whether a key had a value.
func (m *powerModel) had(key string, value []byte) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i := range m.batches {
		for _, op := range m.batches[i].Ops {
			if string(op.Key) == key && !op.Delete && bytes.Equal(op.Value, value) {
				return true
			}
		}
	}
	return false
}

// check opens a state.
func (p *powerRun) check(j powerJob) (err error) {
	if keep := os.Getenv(envPowerKeep); keep != "" {
		before := filepath.Join(keep, filepath.Base(j.dir))
		_ = os.CopyFS(before, os.DirFS(j.dir))
		defer func() {
			if err == nil {
				_ = os.RemoveAll(before)
			}
		}()
	}
	s, err := badgerkv.Open(p.mode.options(j.dir, powerloss.Quick(), j.sync))
	if err != nil {
		return fmt.Errorf("%s: open: %w", j.what, err)
	}
	count := p.states.Add(1)
	found, err := contents(s)
	if err == nil {
		_, err = j.number(found, p.mode.reclaim)
	}
	if err == nil && count%3 > 0 { // otherwise the journal stays as it is
		if err = found.restart(s); errors.Is(err, shardlog.ErrNoSpace) {
			err = nil // a log would make values of the entries
		}
	}
	if cerr := s.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close: %w", cerr)
	}
	if err != nil || count%8 > 1 {
		return err
	}
	// What was recovered has to be there as well after a clean end.
	if s, err = badgerkv.Open(p.mode.options(j.dir, powerloss.Quick(), j.sync)); err != nil {
		return fmt.Errorf("%s: open again: %w", j.what, err)
	}
	again, err := contents(s)
	if err == nil && digestOf(again.keys) != digestOf(found.keys) {
		if _, err = j.number(again, p.mode.reclaim); err != nil {
			err = fmt.Errorf("opened again: %w", err)
		}
	}
	if err == nil && again.gap(found.last()) != found.gap(found.last()) {
		err = fmt.Errorf("%s: opened again: entry %d is not there", j.what, again.gap(found.last()))
	}
	if cerr := s.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close: %w", cerr)
	}
	return err
}

// point loses the power.
func (p *powerRun) point(pt *powerloss.Point) {
	p.pmu.Lock()
	quiet, model := p.quiet, p.model
	from, floor := int(p.acked.Load()), int(p.floor.Load())
	p.pmu.Unlock()
	if quiet || p.choices.Intn(p.every) > 0 {
		return
	}
	systematic := powerloss.Systematic()
	if p.only != nil {
		systematic = p.only
	}
	c := powerloss.Random(p.choices.Int63())
	if p.only != nil || p.choices.Intn(2) == 0 {
		c = systematic[p.systems%len(systematic)]
		c.Seed, c.Journal = p.choices.Int63(), p.choices.Intn(2) == 0
		p.systems++
	}
	dir, err := os.MkdirTemp(p.root, "state")
	if err == nil && c.Killed {
		err = pt.Settle()
	}
	if err == nil {
		err = pt.Build(dir, c)
	}
	p.pmu.Lock()
	// Another model begins meanwhile, while Badger works in the background.
	if p.model != model || errors.Is(err, powerloss.ErrBusy) {
		p.pmu.Unlock()
		_ = os.RemoveAll(dir)
		return
	}
	to := int(p.started.Load())
	j := powerJob{dir: dir, model: p.model, what: fmt.Sprintf("%s, batches %d to %d: %s", pt.What, from, to, c), from: from,
		digests: slices.Clone(p.model.digests[from : to+1]), loose: p.loose && (!c.Killed || p.opening), floor: floor, sync: p.sync}
	if p.mode.changing && p.choices.Intn(3) == 0 {
		j.sync = !j.sync
	}
	p.pmu.Unlock()
	if err != nil {
		p.failed(j, err)
		return
	}
	p.jobs <- j
}

func set(s *badgerkv.Store, key string, value []byte) error {
	var b kv.Batch
	b.Set([]byte(key), value)
	return s.Commit(&b)
}

// live runs a store that was left by a power loss, or is new, and returns a
// directory that another power loss has left; it is "" if the store was closed.
func (p *powerRun) live(t testing.TB, dir string, n int) (next string) {
	rec, err := powerloss.New(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, rec.Close()) }()
	rec.OnPoint, rec.Faults, rec.Unmapped = p.point, p.faults, p.mode.unmapped
	p.pmu.Lock()
	p.sync = !p.mode.unsynced && (!p.mode.changing || p.rnd.Intn(2) == 0)
	p.lives++
	p.opening = true
	p.pmu.Unlock()
	s, err := badgerkv.Open(p.mode.options(dir, rec.Disk(), p.sync))
	require.NoError(t, err, p.lost)
	closed := false
	defer func() {
		if !closed {
			require.NoError(t, s.Close())
		}
	}()
	found, err := contents(s)
	require.NoError(t, err)
	from := int(p.acked.Load())
	p.pmu.Lock()
	j := powerJob{digests: p.model.digests[from:], from: from, model: p.model, what: p.lost, loose: p.loose, floor: int(p.floor.Load())}
	is, err := j.number(found, p.mode.reclaim)
	if err == nil {
		p.model = p.model.cut(is)
		p.acked.Store(int64(is))
		p.started.Store(int64(is))
	}
	p.pmu.Unlock()
	require.NoError(t, err)
	if p.mode.loose() {
		p.again(t, s, found)
	} else {
		p.restart(t, s, found)
	}
	p.pmu.Lock()
	p.opening = false
	p.pmu.Unlock()
	p.needed, p.covered = slices.Clone(found.live()), found.done
	live, dead := int64(0), int64(0)
	for range n {
		require.NoError(t, p.commit(s))
		switch p.rnd.Intn(12) {
		case 0:
			floor := p.acked.Load()
			require.NoError(t, s.Sync())
			p.floor.Store(floor)
		case 1, 2, 3:
			rec.Look("between batches")
		case 4:
			if p.mode.reclaim {
				live, dead = p.sizes()
				require.NoError(t, watched(rec, func() error {
					_, _, err := s.Reclaim(live, dead)
					return err
				}))
			}
		}
	}
	if p.once {
		return ""
	}
	if p.rnd.Intn(3) == 0 {
		closed = true
		require.NoError(t, s.Close())
		if !p.sync {
			p.floor.Store(p.acked.Load())
			rec.Closed()
		}
		rec.Look("closed")
		return dir
	}
	// Another power loss, from which the next one starts.
	next, err = os.MkdirTemp(p.root, "live")
	require.NoError(t, err)
	rec.Silence()
	c := powerloss.Random(p.rnd.Int63())
	if p.torn {
		c.Fates[powerloss.WAL] = powerloss.Some
	}
	rec.Now(func(pt *powerloss.Point) { err = pt.Build(next, c) })
	require.NoError(t, err)
	p.lost = c.String()
	return next
}

// watched calls f, and makes points until it has returned.
func watched(rec *powerloss.Recorder, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	for {
		select {
		case err := <-done:
			return err
		default:
			rec.Look("during space reclaiming")
		}
	}
}

// again makes a model of what was found the one that counts, after what was lost is
// deleted, and begins the journal.
func (p *powerRun) again(t testing.TB, s *badgerkv.Store, found *powerFound) {
	var b kv.Batch
	for k := range found.lost {
		b.Delete([]byte(k))
	}
	if last := found.last(); found.gap(last) > 0 {
		found.done = last // the others are not needed
		found.keys[doneKey] = strconv.AppendUint(nil, last, 10)
		b.Set([]byte(doneKey), found.keys[doneKey])
	}
	p.pmu.Lock()
	p.quiet = true
	p.pmu.Unlock()
	require.NoError(t, s.Commit(&b))
	// What is there is durable when the journal is begun, and before if it is synced.
	synced := p.rnd.Intn(2) == 0
	if synced {
		require.NoError(t, s.Sync())
	} else {
		p.restart(t, s, found)
	}
	p.pmu.Lock()
	p.model = seed(found)
	p.acked.Store(1)
	p.started.Store(1)
	p.floor.Store(1)
	p.quiet, p.loose, p.opening = false, !p.sync, false
	p.pmu.Unlock()
	if synced {
		p.restart(t, s, found)
	}
}

// sizes returns how many bytes of values live, and how many are dead.
func (p *powerRun) sizes() (live, dead int64) {
	all := int64(0)
	for _, b := range p.model.batches {
		all += int64(b.Bytes)
	}
	for _, v := range p.model.now {
		live += int64(len(v))
	}
	return live, all - live
}

func newPowerRun(t testing.TB, mode powerMode, seed int64) *powerRun {
	p := &powerRun{mode: mode, rnd: rand.New(rand.NewSource(seed)), choices: rand.New(rand.NewSource(seed + 1)),
		root: powerDir(t), every: 3, model: newPowerModel()}
	p.begin()
	return p
}

func (p *powerRun) fresh() {
	p.pmu.Lock()
	defer p.pmu.Unlock()
	p.model = newPowerModel()
	p.acked.Store(0)
	p.started.Store(0)
	p.floor.Store(0)
	p.loose = false
	p.needed, p.covered = nil, 0
}

func TestPowerLoss(t *testing.T) {
	seed, want := powerSeed(t), powerStates(350)/len(powerModes)
	for i, mode := range powerModes {
		t.Run(mode.name, func(t *testing.T) {
			p := newPowerRun(t, mode, seed+int64(i)*1000)
			if mode.long {
				p.every *= 4
			}
			if os.Getenv(envPower) == "" {
				p.every *= 5 // as many runs, and fewer states of each
			}
			if badgerkv.RaceDetector {
				p.every *= 4
			}
			runs := 0
			for p.states.Load() < int64(want) && !p.hasFailed() {
				p.fresh()
				p.lost = "new"
				dir, err := os.MkdirTemp(p.root, "live")
				require.NoError(t, err)
				for range 4 {
					if runs++; p.hasFailed() || runs > 4 && p.states.Load() >= int64(want) {
						break
					}
					n := 20 + p.rnd.Intn(60)
					if mode.long {
						n = 200
					}
					dir = p.live(t, dir, n)
				}
			}
			p.end()
			t.Logf("%d runs, %d states", runs, p.states.Load())
			for _, f := range p.failures[:min(len(p.failures), 5)] {
				t.Error(f)
			}
		})
	}
}
