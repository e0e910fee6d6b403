package kvtest

import (
	"bytes"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// journal is the journal of a Faulty, which has its own: that of a store in memory
// keeps nothing.
type journal struct{ f *Faulty }

// entry is one of a journal.
type entry struct {
	seq uint64
	b   []byte
}

// Journal implements kv.Store.
func (f *Faulty) Journal() kv.Journal { return journal{f} }

// SyncsCommits makes the journal that of a store that makes each commit durable: it
// takes entries only with a batch.
func (f *Faulty) SyncsCommits(yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.syncs = yes
}

// LimitJournal bounds the entries of the journal, in bytes.
func (f *Faulty) LimitJournal(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.most = n
}

// Entries returns copies of the entries that the journal has.
func (f *Faulty) Entries() (all [][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.entries {
		all = append(all, bytes.Clone(e.b))
	}
	return all
}

// ChangeEntries replaces the entries of the journal, which no log has open.
func (f *Faulty) ChangeEntries(all [][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries = nil
	for _, b := range all {
		f.add(b)
	}
}

// add adds an entry, with mu held.
func (f *Faulty) add(b []byte) kv.Position {
	f.seq++
	f.entries = append(f.entries, entry{f.seq, b})
	return kv.Position{Seq: f.seq, At: int64(f.seq)}
}

// limit returns how many bytes the entries may have, with mu held.
func (f *Faulty) limit() int64 {
	if f.most > 0 {
		return f.most
	}
	return 64 << 20
}

// used returns the bytes of the entries, with mu held.
func (f *Faulty) used() (n int64) {
	for _, e := range f.entries {
		n += int64(len(e.b))
	}
	return n
}

// Read implements kv.Journal.
func (j journal) Read(g func(p kv.Position, entry []byte) error) error {
	j.f.mu.Lock()
	all := append([]entry(nil), j.f.entries...)
	j.f.mu.Unlock()
	for _, e := range all {
		if err := g(kv.Position{Seq: e.seq, At: int64(e.seq)}, bytes.Clone(e.b)); err != nil {
			return err
		}
	}
	return nil
}

// Restart implements kv.Journal.
func (j journal) Restart(entries [][]byte) ([]kv.Position, error) {
	if _, err := j.f.fault(Commit); err != nil {
		return nil, err
	}
	j.f.mu.Lock()
	defer j.f.mu.Unlock()
	n := int64(0)
	for _, b := range entries {
		n += int64(len(b))
	}
	if n > j.f.limit() {
		return nil, fmt.Errorf("%w: the journal is limited", shardlog.ErrNoSpace)
	}
	j.f.entries = nil
	places := make([]kv.Position, 0, len(entries))
	for _, b := range entries {
		places = append(places, j.f.add(bytes.Clone(b)))
	}
	return places, nil
}

// Append implements kv.Journal.
func (j journal) Append(pieces ...[]byte) (kv.Position, bool) {
	applied, err := j.f.fault(Append)
	b, f := bytes.Join(pieces, nil), j.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		if applied {
			f.add(b)
		}
		return kv.Position{}, false
	}
	if used := f.used() + int64(len(b)); f.dead || f.syncs || used > f.limit()/4*3 || used+f.kept > f.limit() {
		return kv.Position{}, false
	}
	return f.add(b), true
}

// Needed implements kv.Journal. After the first Sync, entries go with the next.
func (j journal) Needed(p kv.Position) {
	j.f.mu.Lock()
	defer j.f.mu.Unlock()
	if j.f.needed = p.Seq; !j.f.hold || j.f.syncs {
		j.f.release()
	}
}

// release removes the entries that are not needed, with mu held.
func (f *Faulty) release() {
	for len(f.entries) > 0 && f.entries[0].seq < f.needed {
		f.entries = f.entries[1:]
	}
}

// End implements kv.Journal.
func (j journal) End() kv.Position {
	j.f.mu.Lock()
	defer j.f.mu.Unlock()
	return kv.Position{Seq: j.f.seq + 1, At: int64(j.f.seq + 1)}
}

// Room implements kv.Journal.
func (j journal) Room(n int) bool {
	j.f.mu.Lock()
	defer j.f.mu.Unlock()
	if j.f.used()+int64(n) > j.f.limit() {
		j.f.release() // as after a sync
	}
	if j.f.used()+int64(n) > j.f.limit() {
		return false
	}
	j.f.kept = int64(n)
	return true
}

// Use implements kv.Journal.
func (j journal) Use() (used, most int64) {
	j.f.mu.Lock()
	defer j.f.mu.Unlock()
	for _, e := range j.f.entries {
		if e.seq >= j.f.needed {
			used += int64(len(e.b))
		}
	}
	return used, j.f.limit()
}
