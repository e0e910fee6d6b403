package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
	"github.com/shardlog/shardlog/internal/kv/powerloss"
)

// TestPowerLossOfADatabase runs databases with SyncAlways on recorded disks, loses
// the power, and opens what the disk may then have. Everything acknowledged is
// there: records in the order of their keys, those of numbered producers and with
// dedup IDs once, transactions and conditional appends whole, with their rows.
//
//	SHARDLOG_POWER=5000 go test -run TestPowerLossOfADatabase ./stream
//
// builds at least so many states.
const envPower = "SHARDLOG_POWER"

const (
	powerBytes = 96 << 10 // bound of the stream that retention removes from
	powerIf    = 3        // records of a conditional append
)

// powerWriters are those whose records are counted.
var powerWriters = []string{"n0", "i0", "t0", "p0", "p1", "c0"}

// powerLog is a run of a database, and what it has acknowledged.
type powerLog struct {
	rnd     *rand.Rand
	choices *rand.Rand // used during points, one at a time
	opts    *Options
	root    string
	acked   map[string]*atomic.Uint64 // numbers up to this one
	epoch   atomic.Uint64
	systems int
	faults  powerloss.Faults

	jobs     chan powerState
	workers  sync.WaitGroup
	states   atomic.Int64
	mu       sync.Mutex
	failures []string
	synced   *powerState // what the last DB.Sync that returned has made durable
	unmapped bool        // the redo log cannot be mapped

	conditional atomic.Pointer[powerCondition]
}

// powerCondition is the last conditional append that was acknowledged.
type powerCondition struct {
	n    uint64
	last shardlog.SequenceNumber // of its last record
}

// powerState is a directory that a power loss has left.
type powerState struct {
	dir, what string
	acked     map[string]uint64
	epoch     uint64
	killed    bool // the process, and not the power
	// loose says that what came later may be there in part, and be damaged.
	loose bool
	// condition is nil for none.
	condition *powerCondition
}

// rebooted is a store of a system that was started again, or was not.
type rebooted struct {
	*badgerkv.Store
	boot string
}

func (r rebooted) Boot() string { return r.boot }

func newPowerLog(t *testing.T, encrypted bool, seed int64) *powerLog {
	p := &powerLog{rnd: rand.New(rand.NewSource(seed)), choices: rand.New(rand.NewSource(seed + 1)),
		opts: smallOptions(), acked: map[string]*atomic.Uint64{}, jobs: make(chan powerState)}
	if encrypted {
		p.opts.EncryptionKey = []byte(strings.Repeat("k", 32))
	}
	p.opts.RedoLogBytes = 1 << 20
	for _, name := range powerWriters {
		p.acked[name] = new(atomic.Uint64)
	}
	var err error
	if p.root, err = os.MkdirTemp("/dev/shm", "shardlog"); err != nil {
		p.root = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(p.root) })
	for range 6 {
		p.workers.Add(1)
		go func() {
			defer p.workers.Done()
			for s := range p.jobs {
				if err := p.check(s); err != nil {
					p.failed(fmt.Errorf("%s: %w", s.what, err))
				}
				_ = os.RemoveAll(s.dir)
			}
		}()
	}
	return p
}

func (p *powerLog) end() {
	close(p.jobs)
	p.workers.Wait()
}

func (p *powerLog) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures = append(p.failures, err.Error())
}

func (p *powerLog) hasFailed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.failures) > 0
}

// open opens a database on a disk, in a run of the system.
func (p *powerLog) open(dir string, disk *badgerkv.Disk, boot string) (*DB, error) {
	o, err := p.opts.withDefaults(dir)
	if err != nil {
		return nil, err
	}
	store, err := badgerkv.Open(badgerkv.Options{
		Dir: dir, SyncWrites: o.Durability == SyncAlways, ValueLogFile: o.ValueLogFileBytes, EncryptionKey: o.EncryptionKey,
		MinFree: o.MinFreeBytes, RedoMax: o.RedoLogBytes, RedoTurn: 32 << 10, Accept: acceptFormat, Disk: disk,
	})
	if err != nil {
		return nil, err
	}
	db, err := openOn(rebooted{store, boot}, o)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return db, nil
}

// point loses the power now and then.
func (p *powerLog) point(pt *powerloss.Point) {
	every := 3
	if os.Getenv(envPower) == "" && p.faults == (powerloss.Faults{}) {
		every = 12 // as many runs, and fewer states of each
	}
	if p.choices.Intn(every) > 0 {
		return
	}
	c := powerloss.Random(p.choices.Int63())
	if all := powerloss.Systematic(); p.choices.Intn(2) == 0 {
		c = all[p.systems%len(all)]
		c.Seed, c.Journal = p.choices.Int63(), p.choices.Intn(2) == 0
		p.systems++
	}
	var err error
	before := p.state(pt.What)
	before.epoch = 0 // more than one request may come meanwhile, of which this knows nothing
	if c.Killed {
		if err = pt.Settle(); errors.Is(err, powerloss.ErrBusy) {
			return
		}
	}
	s := p.state(pt.What)
	switch {
	case p.opts.Durability == SyncAlways:
	case c.Killed:
		s = before
	default:
		p.mu.Lock()
		s = *p.synced
		p.mu.Unlock()
	}
	s.what, s.killed = fmt.Sprintf("%s, %v: %s", pt.What, s.acked, c), c.Killed
	if err == nil {
		s.dir, err = os.MkdirTemp(p.root, "state")
	}
	if err == nil {
		err = pt.Build(s.dir, c)
	}
	if err != nil {
		p.failed(err)
		return
	}
	p.jobs <- s
}

// state returns what must be there now.
func (p *powerLog) state(what string) powerState {
	s := powerState{what: what, acked: map[string]uint64{}, epoch: p.epoch.Load(), condition: p.conditional.Load()}
	for name, n := range p.acked {
		s.acked[name] = n.Load()
	}
	return s
}

// check opens a state and compares it with what was acknowledged.
func (p *powerLog) check(s powerState) error {
	boot := "after"
	if s.killed {
		boot = "before"
	}
	db, err := p.open(s.dir, powerloss.Quick(), boot)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer p.states.Add(1)
	if err := s.verify(db); err != nil {
		return errors.Join(err, db.Close())
	}
	return db.Close()
}

func (s *powerState) verify(db *DB) error {
	ctx := context.Background()
	seen := map[string]bool{}
	var damaged error
	for _, name := range []string{"s", "other", "bytes"} {
		st, err := db.Stream(ctx, name)
		if errors.Is(err, shardlog.ErrNotFound) {
			for n, acked := range s.acked {
				if acked > 0 {
					return fmt.Errorf("stream %s is not there, and %s has acknowledged", name, n)
				}
			}
			return nil
		}
		if err != nil {
			return err
		}
		if name == "s" && !s.loose {
			if err := s.sendAgain(st); err != nil {
				return fmt.Errorf("sending again: %w", err)
			}
		}
		found, err := readPower(ctx, st)
		// A block that was not synced may be lost, and one behind it not. What was synced
		// is there, in front of the damage or behind it.
		isDamaged := s.loose && errors.Is(err, shardlog.ErrCorrupt)
		if isDamaged {
			damaged = errors.Join(damaged, err)
		}
		if err != nil && !isDamaged {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if name == "bytes" {
			if isDamaged {
				continue
			}
			if err := s.conditional(ctx, st, found); err != nil {
				return err
			}
			continue
		}
		for _, d := range found {
			if seen[name+d] {
				return fmt.Errorf("%s is in %s twice", d, name)
			}
			seen[name+d] = true
		}
	}
	for name, n := range s.acked {
		for i := uint64(1); i <= n && name != "c0"; i++ {
			if !seen[fmt.Sprint("s", name, "-", i)] {
				return fmt.Errorf("%s-%d is lost, with the damage %v", name, i, damaged)
			}
		}
	}
	if damaged != nil {
		return nil
	}
	return s.transactions(ctx, db, seen)
}

// readPower reads a stream, and returns what its records are, also those behind
// damage. Those of a key are in order.
func readPower(ctx context.Context, st *Stream) (found []string, err error) {
	infos, err := st.Shards(ctx)
	if err != nil {
		return nil, err
	}
	last := map[string]int{}
	var damaged error
	for _, info := range infos {
	again:
		n := len(found)
		before := maps.Clone(last)
		for r, err := range st.Records(ctx, info.ID, shardlog.TrimHorizon()) {
			if errors.Is(err, shardlog.ErrExpired) {
				found, last = found[:n], before
				goto again
			}
			if errors.Is(err, shardlog.ErrCorrupt) {
				damaged = err
				continue
			}
			if err != nil {
				return nil, err
			}
			data, rest, _ := strings.Cut(string(r.Data), " ")
			if strings.Trim(rest, "x") != "" {
				return nil, fmt.Errorf("%s has other data than it was given", data)
			}
			var kind, i, part int
			if _, err := fmt.Sscanf(data[1:]+".0", "%d-%d.%d", &kind, &i, &part); err != nil {
				return nil, err
			}
			if i = i*powerIf + part; i <= last[r.PartitionKey] {
				return nil, fmt.Errorf("%s comes behind number %d of its key", data, last[r.PartitionKey])
			}
			last[r.PartitionKey] = i
			found = append(found, data)
		}
	}
	return found, damaged
}

// transactions returns an error if one is not whole.
func (s *powerState) transactions(ctx context.Context, db *DB, seen map[string]bool) error {
	row, err := db.Checkpoints().Get(ctx, txKey)
	if errors.Is(err, shardlog.ErrNotFound) && s.acked["t0"] == 0 {
		row, err = checkpoint.Lease{}, nil
	}
	if err != nil {
		return err
	}
	if row.Beat < s.acked["t0"] {
		return fmt.Errorf("the row of transaction %d is lost: it says %d", s.acked["t0"], row.Beat)
	}
	for name := range seen {
		if n := uint64(0); strings.Contains(name, "t0-") && !s.loose {
			if _, err := fmt.Sscanf(name[strings.Index(name, "-")+1:], "%d", &n); err != nil || n > row.Beat {
				return fmt.Errorf("half a transaction: %s, and the row says %d", name, row.Beat)
			}
		}
	}
	whole := row.Beat
	if s.loose {
		whole = s.acked["t0"]
	}
	for n := uint64(1); n <= whole; n++ {
		if a, b := seen[fmt.Sprint("st0-", n)], seen[fmt.Sprint("othert0-", n)]; !a || !b {
			return fmt.Errorf("half a transaction: %d has %t, %t and the row %d", n, a, b, row.Beat)
		}
	}
	return nil
}

// conditional returns an error unless the groups of conditional appends follow each
// other, each whole, up to what was acknowledged. Retention may have removed the
// first.
func (s *powerState) conditional(ctx context.Context, st *Stream, found []string) error {
	if c := s.condition; s.loose {
		if c == nil || slices.Contains(found, fmt.Sprintf("c0-%d.%d", c.n, powerIf-1)) {
			return nil
		}
		// Retention may have removed it because of others, which are lost.
		for _, err := range st.Records(ctx, shardID(0), shardlog.At(c.last)) {
			if errors.Is(err, shardlog.ErrExpired) {
				return nil
			}
			break
		}
		return fmt.Errorf("conditional append %d is lost", c.n)
	}
	n, part := uint64(0), 0
	for i, d := range found {
		var m uint64
		var k int
		if _, err := fmt.Sscanf(d, "c0-%d.%d", &m, &k); err != nil {
			return err
		}
		if i > 0 && (part+1 < powerIf && (m != n || k != part+1) || part+1 == powerIf && (m != n+1 || k != 0)) {
			return fmt.Errorf("record %d of conditional append %d follows record %d of %d", k, m, part, n)
		}
		n, part = m, k
	}
	if n < s.acked["c0"] || len(found) > 0 && part+1 != powerIf {
		return fmt.Errorf("the last conditional append is %d, with %d records, and %d was acknowledged", n, part+1, s.acked["c0"])
	}
	return nil
}

// sendAgain sends the requests again of which the producer does not know the
// outcome, and the last one of which it does.
func (s *powerState) sendAgain(st *Stream) error {
	if s.epoch == 0 {
		return nil
	}
	if err := firstError(st.PutRequest(context.Background(), powerRequest(s.acked["n0"], s.epoch))); err != nil {
		return err
	}
	return firstError(st.PutRecords(context.Background(), powerIDs(s.acked["i0"])))
}

// powerRecord is the n-th record of a writer, the same whenever it is made.
func powerRecord(name string, n uint64) shardlog.Record {
	size := int(n*2654435761) % 300
	if n%20 == 0 {
		size = 12 << 10
	}
	if n%90 == 0 {
		size = 90 << 10
	}
	return shardlog.Record{PartitionKey: fmt.Sprint(name, "-key", n%3), Data: fmt.Appendf(nil, "%s-%d %s", name, n, strings.Repeat("x", size))}
}

// powerNext returns the last number of the request that follows number n.
func powerNext(n uint64) uint64 { return n + 1 + n%7 }

func powerRequest(n, epoch uint64) *shardlog.PutRequest {
	next := powerNext(n)
	req := &shardlog.PutRequest{Producer: "n0", Epoch: epoch, Done: n + 1, Numbers: span(n+1, next+1)}
	for i := n + 1; i <= next; i++ {
		req.Records = append(req.Records, powerRecord("n0", i))
	}
	return req
}

func powerIDs(n uint64) (recs []shardlog.Record) {
	for i := n + 1; i <= powerNext(n); i++ {
		r := powerRecord("i0", i)
		r.DedupID = fmt.Sprint("i0-", i)
		recs = append(recs, r)
	}
	return recs
}

// live opens a database, writes to it, and returns a directory that a power loss
// has left.
func (p *powerLog) live(t *testing.T, dir string, rounds int) (next string) {
	rec, err := powerloss.New(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, rec.Close()) }()
	rec.OnPoint, rec.Faults, rec.Unmapped = p.point, p.faults, p.unmapped
	db, err := p.open(dir, rec.Disk(), "before")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	require.NoError(t, p.write(db, rounds, rec))
	if p.faults != (powerloss.Faults{}) {
		return ""
	}
	if p.opts.Durability != SyncAlways {
		require.NoError(t, db.Close())
		p.nowSynced()
		rec.Closed()
		rec.Look("closed")
		return dir
	}
	if p.rnd.Intn(3) == 0 {
		require.NoError(t, db.Close())
		rec.Look("closed")
		return dir
	}
	next, err = os.MkdirTemp(p.root, "live")
	require.NoError(t, err)
	c := powerloss.Random(p.rnd.Int63())
	rec.Now(func(pt *powerloss.Point) { err = pt.Build(next, c) })
	require.NoError(t, err)
	s := p.state(c.String())
	s.epoch = 0 // nothing is sent again
	rec.Silence()
	look, err := os.MkdirTemp(p.root, "look")
	require.NoError(t, err)
	require.NoError(t, os.CopyFS(look, os.DirFS(next)))
	s.dir = look
	p.jobs <- s
	return next
}

// write runs all writers for some rounds.
func (p *powerLog) write(db *DB, rounds int, rec *powerloss.Recorder) error {
	ctx := context.Background()
	streams := map[string]*Stream{}
	for name, cfg := range map[string]Config{
		"s":     {Shards: 3, Retention: Forever, DedupWindow: time.Hour},
		"other": {Shards: 2, Retention: Forever},
		"bytes": {Shards: 1, Retention: Forever, RetentionBytes: powerBytes},
	} {
		st, err := db.Ensure(ctx, name, cfg)
		if err != nil {
			return err
		}
		streams[name] = st
	}
	w := &powerWriter{p: p, db: db, s: streams["s"], other: streams["other"], bytes: streams["bytes"]}
	if err := w.begin(ctx); err != nil {
		return err
	}
	if p.opts.Durability != SyncAlways {
		p.nowSynced() // the opening has synced what the last program left
	}
	shards := 1 + p.rnd.Intn(5)
	steps := []func(context.Context) error{w.numbers, w.withIDs, w.transaction, w.conditional,
		func(ctx context.Context) error { return w.plain(ctx, "p0") },
		func(ctx context.Context) error { return w.plain(ctx, "p1") },
		func(context.Context) error { rec.Look("meanwhile"); return nil },
		func(context.Context) error { return w.sync() }}
	errs := make(chan error, len(steps)+1)
	for _, step := range steps {
		go func() {
			for range rounds {
				if err := step(ctx); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	go func() { errs <- w.s.Reshard(ctx, shards) }()
	var all []error
	for range len(steps) + 1 {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// powerWriter writes to a database and counts what is acknowledged.
type powerWriter struct {
	p               *powerLog
	db              *DB
	s, other, bytes *Stream
	row             checkpoint.Lease
	last            shardlog.SequenceNumber // of the stream that retention removes from
}

// begin finds where the last run ended.
func (w *powerWriter) begin(ctx context.Context) (err error) {
	if w.p.epoch.Load() == 0 {
		epoch, err := w.s.OpenProducer(ctx, "n0")
		if err != nil {
			return err
		}
		w.p.epoch.Store(epoch)
	}
	w.row, err = w.db.Checkpoints().Get(ctx, txKey)
	if errors.Is(err, shardlog.ErrNotFound) {
		w.row, err = w.db.Checkpoints().Create(ctx, checkpoint.Lease{Key: txKey})
	}
	if err != nil {
		return err
	}
	w.p.acked["t0"].Store(w.row.Beat)
	for r, err := range w.bytes.Records(ctx, shardID(0), shardlog.TrimHorizon()) {
		if err != nil {
			return err
		}
		var n uint64
		if _, err := fmt.Sscanf(string(r.Data), "c0-%d.", &n); err != nil {
			return err
		}
		w.p.acked["c0"].Store(n)
		w.p.conditional.Store(&powerCondition{n, r.Sequence})
		w.last = r.Sequence
	}
	// What was not acknowledged may be there, and would be there twice.
	found, err := readPower(ctx, w.s)
	for _, name := range []string{"p0", "p1"} {
		for slices.Contains(found, fmt.Sprint(name, "-", w.p.acked[name].Load()+1)) {
			w.p.acked[name].Add(1)
		}
	}
	return err
}

// sync notes what is durable.
func (w *powerWriter) sync() error {
	if w.p.opts.Durability == SyncAlways {
		return nil
	}
	s := w.p.state("synced")
	s.loose = true
	if err := w.db.Sync(); err != nil {
		return err
	}
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.p.synced = &s
	return nil
}

// nowSynced notes that all that was acknowledged is durable, while nothing is.
func (p *powerLog) nowSynced() {
	s := p.state("synced")
	s.loose = true
	p.mu.Lock()
	defer p.mu.Unlock()
	p.synced = &s
}

func (w *powerWriter) numbers(ctx context.Context) error {
	n := w.p.acked["n0"].Load()
	if err := firstError(w.s.PutRequest(ctx, powerRequest(n, w.p.epoch.Load()))); err != nil {
		return err
	}
	w.p.acked["n0"].Store(powerNext(n))
	return nil
}

func (w *powerWriter) withIDs(ctx context.Context) error {
	n := w.p.acked["i0"].Load()
	if err := firstError(w.s.PutRecords(ctx, powerIDs(n))); err != nil {
		return err
	}
	w.p.acked["i0"].Store(powerNext(n))
	return nil
}

func (w *powerWriter) transaction(ctx context.Context) error {
	w.row.Beat++
	tx := w.db.Begin()
	tx.Put(w.s, powerRecord("t0", w.row.Beat))
	tx.Put(w.other, shardlog.Record{PartitionKey: fmt.Sprint(w.row.Beat), Data: fmt.Append(nil, "t0-", w.row.Beat)})
	tx.Checkpoint(w.row)
	res, err := tx.Commit(ctx)
	if err != nil {
		return err
	}
	w.row = res.Checkpoints[0]
	w.p.acked["t0"].Store(w.row.Beat)
	return nil
}

// plain appends records of one writer, which is over when the redo log has them where
// commits are not synced: many then, so that there are blocks of them.
func (w *powerWriter) plain(ctx context.Context, name string) error {
	times := 1
	if w.p.opts.Durability != SyncAlways {
		times = 20
	}
	for range times {
		n := w.p.acked[name].Load() + 1
		if _, err := w.s.Put(ctx, powerRecord(name, n)); err != nil {
			return err
		}
		w.p.acked[name].Store(n)
	}
	return nil
}

func (w *powerWriter) conditional(ctx context.Context) error {
	n := w.p.acked["c0"].Load() + 1
	var recs []shardlog.Record
	for i := range powerIf {
		recs = append(recs, shardlog.Record{PartitionKey: "c", Data: fmt.Appendf(nil, "c0-%d.%d %s", n, i, strings.Repeat("x", 1500))})
	}
	res, err := w.bytes.PutIf(ctx, shardID(0), w.last, recs)
	if err != nil {
		return err
	}
	w.last = res[len(res)-1].Sequence
	w.p.conditional.Store(&powerCondition{n, w.last})
	w.p.acked["c0"].Store(n)
	return nil
}

// powerStates is how many states of a disk are to be looked at.
func powerStates() int64 {
	if raceDetector {
		return int64(envInt(envPower, 16)) // which is many times as slow
	}
	return int64(envInt(envPower, 80))
}

func TestPowerLossOfADatabase(t *testing.T) {
	_, seed := newRand(t)
	want := powerStates() / 2
	for i, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted %t", encrypted), func(t *testing.T) {
			p := newPowerLog(t, encrypted, seed+int64(i))
			for p.states.Load() < want && !p.hasFailed() {
				dir := p.fresh(t)
				for range 3 {
					if !p.hasFailed() {
						dir = p.live(t, dir, 8+p.rnd.Intn(20))
					}
				}
			}
			p.end()
			t.Logf("%d states", p.states.Load())
			for _, f := range p.failures[:min(len(p.failures), 5)] {
				t.Error(f)
			}
		})
	}
}

func TestPowerLossOfADatabaseFindsDefects(t *testing.T) {
	_, seed := newRand(t)
	for i, d := range []Durability{SyncAlways, SyncNever} {
		t.Run(d.String(), func(t *testing.T) {
			p := newPowerLog(t, false, seed+int64(i))
			p.faults.NoRingSync = d == SyncAlways
			p.faults.NoFrameSync = d != SyncAlways
			p.opts.Durability = d
			for range 20 {
				if p.hasFailed() {
					break
				}
				p.live(t, p.fresh(t), 20)
			}
			p.end()
			require.NotEmpty(t, p.failures, "the redo log is not synced, and nothing is lost in %d states", p.states.Load())
			t.Logf("after %d states: %.300s", p.states.Load(), p.failures[0])
		})
	}
}

// fresh returns a directory for a database of which nothing was acknowledged.
func (p *powerLog) fresh(t *testing.T) (dir string) {
	for _, n := range p.acked {
		n.Store(0)
	}
	p.epoch.Store(0)
	p.conditional.Store(nil)
	p.nowSynced()
	dir, err := os.MkdirTemp(p.root, "live")
	require.NoError(t, err)
	return dir
}

// Where not each commit is synced, what DB.Sync has made durable is there, or readers
// meet damage, and what came later does not keep the database from being opened. After a
// kill all is there.
func TestPowerLossOfADatabaseThatIsSyncedNowAndThen(t *testing.T) {
	_, seed := newRand(t)
	for i, test := range []struct {
		d                   Durability
		encrypted, unmapped bool
	}{{SyncInterval, false, false}, {SyncNever, false, false}, {SyncNever, false, true}, {SyncInterval, true, false}} {
		t.Run(fmt.Sprintf("%v encrypted %t unmapped %t", test.d, test.encrypted, test.unmapped), func(t *testing.T) {
			p := newPowerLog(t, test.encrypted, seed+int64(i))
			p.opts.Durability, p.opts.SyncInterval, p.unmapped = test.d, 5*time.Millisecond, test.unmapped
			want, rounds := powerStates()/4, 10
			if raceDetector {
				rounds = 3
			}
			for p.states.Load() < want && !p.hasFailed() {
				dir := p.fresh(t)
				for range 3 {
					if !p.hasFailed() {
						dir = p.live(t, dir, rounds+p.rnd.Intn(2*rounds))
					}
				}
			}
			p.end()
			t.Logf("%d states", p.states.Load())
			for _, f := range p.failures[:min(len(p.failures), 5)] {
				t.Error(f)
			}
		})
	}
}
