package checkpointtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/checkpointtest"
)

type (
	ctx   = context.Context
	lease = checkpoint.Lease
	mem   = checkpoint.Memory
)

func TestMemory(t *testing.T) {
	checkpointtest.Run(t, func(*testing.T) checkpoint.Store { return checkpoint.NewMemory() })
}

func TestKitHasEveryRule(t *testing.T) {
	if n := len(checkpointtest.Rules()); n < 18 {
		t.Errorf("%d rules, want 18 or more", n)
	}
	names := map[string]bool{}
	for _, r := range checkpointtest.Rules() {
		if names[r.Name] {
			t.Errorf("rule %q twice", r.Name)
		}
		names[r.Name] = true
	}
}

// TestPlantedDefectsAreFound is the proof of the kit: stores with one defect
// each, of the kinds that stores in use were seen to have.
func TestPlantedDefectsAreFound(t *testing.T) {
	for _, d := range []struct {
		name, rule string // rule is one that has to find it
		open       func() checkpoint.Store
	}{
		{"unconditional checkpoint", "a stale update is refused", func() checkpoint.Store { return blindUpdate{newMem()} }},
		{"create replaces", "create finds an existing row", func() checkpoint.Store { return upsert{newMem()} }},
		{"first page only", "list is complete, sorted and separate", func() checkpoint.Store { return firstPage{newMem()} }},
		{"unsorted list", "list is complete, sorted and separate", func() checkpoint.Store { return unsorted{newMem()} }},
		{"stale list", "list sees completed writes", func() checkpoint.Store { return &staleList{mem: newMem()} }},
		{"joined keys", "awkward names are kept apart", func() checkpoint.Store { return joinedKeys{newMem()} }},
		{"case is lost", "awkward names are kept apart", func() checkpoint.Store { return foldedKeys{newMem()} }},
		{"blind delete", "a stale delete is refused", func() checkpoint.Store { return blindDelete{newMem()} }},
		{"float64 counters", "counters above 2^53 survive", func() checkpoint.Store { return floats{newMem()} }},
		{"the stream of a row is lost", "a row keeps its stream", func() checkpoint.Store { return streamless{newMem()} }},
		{"merging update", "cleared fields are cleared", func() checkpoint.Store { return merging{newMem()} }},
		{"check, then write", "one of many concurrent updates wins", func() checkpoint.Store { return &checkThenWrite{mem: newMem()} }},
		{"versions restart", "a version is not used again after delete and create", func() checkpoint.Store { return &restarting{mem: newMem(), base: map[checkpoint.Key]uint64{}} }},
		{"shared slices", "rows are not shared with the caller", func() checkpoint.Store { return &sharing{mem: newMem()} }},
		{"context ignored", "an ended context writes nothing", func() checkpoint.Store { return deafToContext{newMem()} }},
		{"whole seconds", "times survive to the millisecond", func() checkpoint.Store { return seconds{newMem()} }},
		{"state cut", "prepared state of 64 KiB survives", func() checkpoint.Store { return cutState{newMem()} }},
		{"missing row is created", "missing rows are not found", func() checkpoint.Store { return createOnUpdate{newMem()} }},
		{"deaf watcher", "a watcher is notified of what matters", func() checkpoint.Store { return deafWatcher{newMem()} }},
		{"watcher of everything", "a watcher is notified of what matters", func() checkpoint.Store { return allWatcher{newMem()} }},
		{"no validation", "rows outside the limits are refused", func() checkpoint.Store { return trusting{newMem()} }},
	} {
		t.Run(d.name, func(t *testing.T) {
			broken := checkpointtest.Check(d.open)
			if !strings.Contains(errors.Join(broken...).Error(), d.rule+": ") {
				t.Errorf("rule %q did not find it; found: %v", d.rule, broken)
			}
		})
	}
}

func newMem() *mem { return checkpoint.NewMemory() }

type blindUpdate struct{ *mem }

func (s blindUpdate) Update(c ctx, l lease) (lease, error) {
	cur, err := s.Get(c, l.Key)
	if err != nil {
		return lease{}, err
	}
	l.Version = cur.Version
	return s.mem.Update(c, l)
}

type upsert struct{ *mem }

func (s upsert) Create(c ctx, l lease) (lease, error) {
	if cur, err := s.Get(c, l.Key); err == nil {
		l.Version = cur.Version
		return s.mem.Update(c, l)
	}
	return s.mem.Create(c, l)
}

type firstPage struct{ *mem }

func (s firstPage) List(c ctx, group, stream string) ([]lease, error) {
	rows, err := s.mem.List(c, group, stream)
	return rows[:min(len(rows), 1000)], err
}

type streamless struct{ *mem }

func (s streamless) Update(c ctx, l lease) (lease, error) {
	cur, err := s.Get(c, l.Key)
	if err != nil {
		return lease{}, err
	}
	l.StreamID = cur.StreamID
	return s.mem.Update(c, l)
}

type unsorted struct{ *mem }

func (s unsorted) List(c ctx, group, stream string) ([]lease, error) {
	rows, err := s.mem.List(c, group, stream)
	if len(rows) > 1 {
		rows[0], rows[1] = rows[1], rows[0]
	}
	return rows, err
}

type staleList struct {
	*mem
	mu   sync.Mutex
	last []lease
}

func (s *staleList) List(c ctx, group, stream string) ([]lease, error) {
	rows, err := s.mem.List(c, group, stream)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.last
	if s.last = rows; old == nil {
		old = rows
	}
	return old, err
}

// translated stores keep rows under another key.
func translate(l lease, err error, k checkpoint.Key) (lease, error) {
	l.Key = k
	return l, err
}

type joinedKeys struct{ *mem }

func joined(k checkpoint.Key) checkpoint.Key {
	return checkpoint.Key{Group: "x", Stream: "x", Shard: (k.Group + "/" + k.Stream + "/" + k.Shard)[:min(255, len(k.Group)+len(k.Stream)+len(k.Shard)+2)]}
}

func (s joinedKeys) Create(c ctx, l lease) (lease, error) {
	k := l.Key
	l.Key = joined(k)
	got, err := s.mem.Create(c, l)
	return translate(got, err, k)
}

func (s joinedKeys) Get(c ctx, k checkpoint.Key) (lease, error) {
	got, err := s.mem.Get(c, joined(k))
	return translate(got, err, k)
}

type foldedKeys struct{ *mem }

func folded(k checkpoint.Key) checkpoint.Key {
	k.Group = strings.ToLower(k.Group)
	return k
}

func (s foldedKeys) Create(c ctx, l lease) (lease, error) {
	k := l.Key
	l.Key = folded(k)
	got, err := s.mem.Create(c, l)
	return translate(got, err, k)
}

func (s foldedKeys) Get(c ctx, k checkpoint.Key) (lease, error) {
	got, err := s.mem.Get(c, folded(k))
	return translate(got, err, k)
}

type blindDelete struct{ *mem }

func (s blindDelete) Delete(c ctx, l lease) error {
	cur, err := s.Get(c, l.Key)
	if err != nil {
		return err
	}
	return s.mem.Delete(c, cur)
}

type floats struct{ *mem }

func (s floats) Create(c ctx, l lease) (lease, error) {
	b, _ := json.Marshal(l.Beat)
	var f float64
	_ = json.Unmarshal(b, &f)
	l.Beat = uint64(f)
	return s.mem.Create(c, l)
}

type merging struct{ *mem }

func (s merging) Update(c ctx, l lease) (lease, error) {
	if cur, err := s.Get(c, l.Key); err == nil && l.Prepared == nil {
		l.Prepared = cur.Prepared
	}
	return s.mem.Update(c, l)
}

// checkThenWrite compares the version under one lock and writes under another.
type checkThenWrite struct {
	*mem
	mu sync.Mutex
}

func (s *checkThenWrite) Update(c ctx, l lease) (lease, error) {
	cur, err := s.Get(c, l.Key)
	if err != nil {
		return lease{}, err
	}
	if cur.Version != l.Version {
		return lease{}, shardlog.ErrConflict
	}
	runtime.Gosched() // the way to the database and back
	time.Sleep(20 * time.Microsecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if cur, err = s.Get(c, l.Key); err != nil {
		return lease{}, err
	}
	l.Version = cur.Version
	return s.mem.Update(c, l)
}

// restarting counts versions from 1 for each life of a row.
type restarting struct {
	*mem
	mu   sync.Mutex
	base map[checkpoint.Key]uint64
}

func (s *restarting) out(l lease) lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.Version -= s.base[l.Key]
	return l
}

func (s *restarting) in(l lease) lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.Version += s.base[l.Key]
	return l
}

func (s *restarting) Create(c ctx, l lease) (lease, error) {
	got, err := s.mem.Create(c, l)
	if err == nil {
		s.mu.Lock()
		s.base[l.Key] = got.Version - 1
		s.mu.Unlock()
	}
	return s.out(got), err
}

func (s *restarting) Update(c ctx, l lease) (lease, error) {
	got, err := s.mem.Update(c, s.in(l))
	return s.out(got), err
}

func (s *restarting) Delete(c ctx, l lease) error { return s.mem.Delete(c, s.in(l)) }

func (s *restarting) Get(c ctx, k checkpoint.Key) (lease, error) {
	got, err := s.mem.Get(c, k)
	return s.out(got), err
}

func (s *restarting) List(c ctx, group, stream string) ([]lease, error) {
	rows, err := s.mem.List(c, group, stream)
	for i := range rows {
		rows[i] = s.out(rows[i])
	}
	return rows, err
}

// sharing returns the same state bytes again and again.
type sharing struct {
	*mem
	mu    sync.Mutex
	state []byte
}

func (s *sharing) Get(c ctx, k checkpoint.Key) (lease, error) {
	l, err := s.mem.Get(c, k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == nil {
		s.state = l.PreparedState
	}
	l.PreparedState = s.state
	return l, err
}

type deafToContext struct{ *mem }

func (s deafToContext) Update(c ctx, l lease) (lease, error) {
	return s.mem.Update(context.WithoutCancel(c), l)
}

type seconds struct{ *mem }

func (s seconds) Create(c ctx, l lease) (lease, error) {
	if l.Checkpoint.Kind() == shardlog.KindAtTime {
		l.Checkpoint = shardlog.AtTime(l.Checkpoint.Time().Truncate(time.Second))
	}
	return s.mem.Create(c, l)
}

type cutState struct{ *mem }

func (s cutState) Create(c ctx, l lease) (lease, error) {
	l.PreparedState = l.PreparedState[:min(len(l.PreparedState), 1<<16-1)]
	return s.mem.Create(c, l)
}

type createOnUpdate struct{ *mem }

func (s createOnUpdate) Update(c ctx, l lease) (lease, error) {
	got, err := s.mem.Update(c, l)
	if errors.Is(err, shardlog.ErrNotFound) {
		return s.mem.Create(c, l)
	}
	return got, err
}

// trusting lets an owner through that is too long.
type trusting struct{ *mem }

func (s trusting) Update(c ctx, l lease) (lease, error) {
	if len(l.Owner) > checkpoint.MaxNameLength {
		l.Owner = l.Owner[:checkpoint.MaxNameLength]
	}
	return s.mem.Update(c, l)
}

// deafWatcher notifies nobody.
type deafWatcher struct{ *mem }

func (s deafWatcher) Watch(ctx, string, string) <-chan struct{} { return nil }

// allWatcher notifies everybody of everything.
type allWatcher struct{ *mem }

func (s allWatcher) Watch(c ctx, group, _ string) <-chan struct{} {
	return s.mem.Watch(c, group, "stream")
}

// memTx is a transaction over a store in memory: one row, written at the
// commit.
type memTx struct{ row *lease }

// txStore is a store with transactions, and with defects that are asked for.
type txStore struct {
	*mem
	blind, early, lying, deaf bool
}

func (s *txStore) UpdateTx(c ctx, tx *memTx, l lease) (lease, error) {
	cur, err := s.Get(c, l.Key)
	if err != nil {
		return lease{}, err
	}
	if cur.Version != l.Version && !s.deaf {
		return lease{}, shardlog.ErrConflict
	}
	if s.early {
		return s.mem.Update(c, l)
	}
	kept := l.Clone()
	tx.row = &kept
	l.Version++ // right as long as nobody else writes to the store
	if s.lying {
		l.Version += 7
	}
	return l, nil
}

func (s *txStore) commit(c ctx, tx *memTx) error {
	if tx.row == nil {
		return nil
	}
	l := *tx.row
	if s.blind {
		cur, err := s.Get(c, l.Key)
		if err != nil {
			return err
		}
		l.Version = cur.Version
	}
	_, err := s.mem.Update(c, l)
	return err
}

func transactional(s *txStore) checkpointtest.Transactional[*memTx] {
	return checkpointtest.Transactional[*memTx]{
		Store: s,
		Begin: func(ctx) (*memTx, error) { return &memTx{}, nil },
		Commit: func(c ctx, tx *memTx) error {
			return s.commit(c, tx)
		},
		RollBack: func(*memTx) {},
	}
}

func TestTransactionDefectsAreFound(t *testing.T) {
	checkpointtest.RunTx(t, func(*testing.T) checkpointtest.Transactional[*memTx] { return transactional(&txStore{mem: newMem()}) })
	for rule, s := range map[string]txStore{
		"a row that changes before the commit is not overwritten": {blind: true},
		"a rollback leaves no trace":                              {early: true},
		"a commit stores what UpdateTx returned":                  {lying: true},
		"a stale version is refused in a transaction":             {deaf: true},
	} {
		broken := checkpointtest.CheckTx(func() checkpointtest.Transactional[*memTx] {
			s := s
			s.mem = newMem()
			return transactional(&s)
		})
		if !strings.Contains(errors.Join(append(broken, errors.New(""))...).Error(), rule+": ") {
			t.Errorf("rule %q did not find it; found: %v", rule, broken)
		}
	}
}

func TestReopeningDefectsAreFound(t *testing.T) {
	s := newMem()
	if err := checkpointtest.CheckReopen(s, func() checkpoint.Store { return s }); err != nil {
		t.Error(err)
	}
	if checkpointtest.CheckReopen(newMem(), func() checkpoint.Store { return newMem() }) == nil {
		t.Error("lost rows were not found")
	}
	// Everything but the version of the row that was deleted.
	again := &restarting{mem: newMem(), base: map[checkpoint.Key]uint64{}}
	if checkpointtest.CheckReopen(again, func() checkpoint.Store { return again }) == nil {
		t.Error("a version that is given again was not found")
	}
}
