package badgerkv_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
)

// Entries of the journal are numbered. The key "done" says up to which number they are
// superfluous, as a block of the log does. What is behind that has to be there; what is
// before may be. So a store has the number that is the higher of that and the one of the
// last entry, which the model knows as the value of a key that no store has.
const (
	doneKey    = "done"
	entriesKey = "#entries"
)

// numbered is an entry that a store has.
type numbered struct {
	n    uint64
	data []byte
	at   kv.Position
}

// powerFound is what a store has.
type powerFound struct {
	keys    map[string][]byte
	lost    map[string]bool // keys whose values are
	entries []numbered
	done    uint64
}

// live returns the entries that are needed.
func (f *powerFound) live() []numbered {
	for i, e := range f.entries {
		if e.n > f.done {
			return f.entries[i:]
		}
	}
	return nil
}

// last returns the highest number of an entry.
func (f *powerFound) last() uint64 {
	if n := len(f.entries); n > 0 {
		return max(f.done, f.entries[n-1].n)
	}
	return f.done
}

// gap returns the first number of an entry up to n that is needed and not there, 0 if
// there is none.
func (f *powerFound) gap(n uint64) uint64 {
	next := f.done + 1
	for _, e := range f.live() {
		if e.n != next {
			break
		}
		next++
	}
	if next > n {
		return 0
	}
	return next
}

// contents returns all that is in a store that was opened.
func contents(s *badgerkv.Store) (*powerFound, error) {
	var keys [][]byte
	err := s.Scan(nil, func(key []byte, _ int64) bool {
		if key[0] != badgerkv.FillerPrefix {
			keys = append(keys, bytes.Clone(key))
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	found := &powerFound{keys: map[string][]byte{}, lost: map[string]bool{}}
	for _, k := range keys {
		v, err := s.Get(k)
		switch {
		case errors.Is(err, shardlog.ErrCorrupt):
			found.lost[string(k)] = true
		case err != nil:
			return nil, fmt.Errorf("key %s: %w", k, err)
		default:
			found.keys[string(k)] = v
		}
	}
	return found, found.readEntries(s)
}

func (f *powerFound) readEntries(s *badgerkv.Store) (err error) {
	if v, ok := f.keys[doneKey]; ok {
		if f.done, err = strconv.ParseUint(string(v), 10, 64); err != nil {
			return err
		}
	}
	last := uint64(0)
	err = s.Journal().Read(func(at kv.Position, data []byte) error {
		e := numbered{data: data, at: at}
		if _, err := fmt.Sscanf(string(data[:min(len(data), 40)]), "%d ", &e.n); err != nil {
			return fmt.Errorf("an entry begins with %.40q: %w", data, err)
		}
		if e.n <= last {
			return fmt.Errorf("entry %d follows %d", e.n, last)
		}
		last = e.n
		f.entries = append(f.entries, e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the journal: %w", err)
	}
	if n := f.last(); n > 0 {
		f.keys[entriesKey] = strconv.AppendUint(nil, n, 10)
	}
	return nil
}

// String says which entries there are.
func (f *powerFound) String() string {
	s := fmt.Sprintf("%d done", f.done)
	for _, e := range f.entries {
		s += fmt.Sprintf(" %d", e.n)
	}
	return s
}

// verify returns an error if an entry is not as it was stored.
func (f *powerFound) verify(m *powerModel) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, e := range f.entries {
		if !bytes.Equal(m.entries[e.n], e.data) {
			return fmt.Errorf("entry %d is %.40q of %d bytes, and was %.40q of %d", e.n, e.data, len(e.data), m.entries[e.n], len(m.entries[e.n]))
		}
	}
	return nil
}

// restart begins the journal of a store with the entries that are needed, as a log does.
func (f *powerFound) restart(s *badgerkv.Store) error {
	live := f.live()
	var all [][]byte
	for _, e := range live {
		all = append(all, e.data)
	}
	places, err := s.Journal().Restart(all)
	if err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	for i := range live {
		live[i].at = places[i]
	}
	return nil
}

// restart begins the journal of a store. If it has no room for the entries, they become
// superfluous.
func (p *powerRun) restart(t testing.TB, s *badgerkv.Store, found *powerFound) {
	err := found.restart(s)
	if !errors.Is(err, shardlog.ErrNoSpace) {
		require.NoError(t, err)
		return
	}
	var b kv.Batch
	found.done = found.last()
	found.keys[doneKey] = strconv.AppendUint(nil, found.done, 10)
	b.Set([]byte(doneKey), found.keys[doneKey])
	if p.quiet {
		require.NoError(t, s.Commit(&b)) // the model is made of what was found
	} else {
		require.NoError(t, p.store(s, &b))
	}
	require.NoError(t, found.restart(s))
}

// entry returns another entry.
func (p *powerRun) entry() []byte {
	size := []int{0, 30, 200, 1000, 3000}[p.rnd.Intn(5)]
	if p.rnd.Intn(25) == 0 || p.mode.large && p.rnd.Intn(3) == 0 {
		size = 20_000
	}
	e := fmt.Appendf(nil, "%d of life %d ", p.model.count+1, p.lives)
	return append(e, bytes.Repeat([]byte{byte(p.rnd.Intn(256))}, size)...)
}

// commit stores something: changes, an entry, or both; or says that entries are no longer
// needed.
func (p *powerRun) commit(s *badgerkv.Store) error {
	var b kv.Batch
	kind := p.rnd.Intn(10)
	if kind < 6 {
		b = p.mode.batch(p.rnd)
	}
	if kind >= 4 {
		b.Entry = p.entry()
	}
	if kind == 0 && p.model.count > p.covered {
		return p.makeRoom(s, p.covered+1+uint64(p.rnd.Int63n(int64(p.model.count-p.covered))))
	}
	if b.Entry != nil && !s.Journal().Room(len(b.Entry)) {
		if err := p.makeRoom(s, p.model.count); err != nil {
			return err
		}
	}
	return p.store(s, &b)
}

// makeRoom says that entries up to a number are no longer needed.
func (p *powerRun) makeRoom(s *badgerkv.Store, n uint64) error {
	b := p.mode.batch(p.rnd)
	b.Set([]byte(doneKey), strconv.AppendUint(nil, n, 10))
	if err := p.store(s, &b); err != nil {
		return err
	}
	p.covered = n
	for len(p.needed) > 0 && p.needed[0].n <= n {
		p.needed = p.needed[1:]
	}
	if len(p.needed) > 0 {
		s.Journal().Needed(p.needed[0].at)
	} else {
		s.Journal().Needed(s.Journal().End())
	}
	return nil
}

// store commits a batch, or appends its entry where that is possible and nothing else is
// in it.
func (p *powerRun) store(s *badgerkv.Store, b *kv.Batch) error {
	p.pmu.Lock()
	p.model.add(*b)
	n := p.model.count
	p.started.Add(1)
	p.pmu.Unlock()
	ok := false
	if b.Entry != nil && len(b.Ops) == 0 {
		cut := p.rnd.Intn(len(b.Entry))
		b.At, ok = s.Journal().Append(b.Entry[:cut], b.Entry[cut:])
	}
	if !ok {
		if err := s.Commit(b); err != nil {
			return err
		}
	}
	if b.Entry != nil {
		p.needed = append(p.needed, numbered{n: n, at: b.At})
	}
	p.acked.Add(1)
	return nil
}

// seed returns a model of what a store has.
func seed(f *powerFound) *powerModel {
	m := newPowerModel()
	m.base = map[uint64][]byte{}
	for _, e := range f.entries {
		m.base[e.n] = e.data
	}
	m.baseCount = f.last()
	m.entries, m.count = maps.Clone(m.base), m.baseCount
	var all kv.Batch
	for k, v := range f.keys {
		all.Set([]byte(k), v)
	}
	m.add(all)
	return m
}
