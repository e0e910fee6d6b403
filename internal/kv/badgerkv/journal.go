package badgerkv

import (
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/redo"
)

// journal is the journal of a store, whose entries are in frames of the redo log.
type journal struct{ s *Store }

// Journal implements kv.Store.
func (s *Store) Journal() kv.Journal { return journal{s} }

// Read implements kv.Journal.
func (j journal) Read(f func(p kv.Position, entry []byte) error) error {
	l := j.s.redo
	committed, err := entryVersion(j.s.Get)
	if err != nil {
		return err
	}
	return l.ring.Read(l.mayLose, func(fr redo.Frame) error {
		if !counts(&fr, committed) {
			return nil
		}
		return f(fr.At, fr.Entry)
	})
}

// Restart implements kv.Journal. Without room the error wraps shardlog.ErrNoSpace, and
// the entries have to be made values first.
func (j journal) Restart(entries [][]byte) ([]kv.Position, error) {
	s, l := j.s, j.s.redo
	// An advance that has begun before would name a place of the ring as it was.
	l.advancing.Lock()
	defer l.advancing.Unlock()
	if err := s.usable(); err != nil {
		return nil, err
	}
	// What made other entries superfluous may not be on disk, and they are.
	if s.ts.Load() != l.onDisk {
		if err := s.syncFiles(); err != nil {
			return nil, s.failed(err)
		}
	}
	places, err := l.beginRing(s, entries)
	for errors.Is(err, redo.ErrFull) && l.grow(s, s.opts.RedoMax) {
		places, err = l.beginRing(s, entries)
	}
	if errors.Is(err, redo.ErrFull) || isFull(err) {
		return nil, fmt.Errorf("%w: %w", shardlog.ErrNoSpace, err)
	}
	if err != nil {
		return nil, s.failed(err)
	}
	l.restarted(places)
	// Until now the ring was as the last process has left it, or the last run of the system.
	if err := s.noteBoot(); err != nil {
		if isFull(err) {
			return nil, fmt.Errorf("%w: %w", shardlog.ErrNoSpace, err)
		}
		return nil, s.failed(err)
	}
	l.begun.Store(true)
	return places, nil
}

// beginRing begins the ring with entries, sealed with a key of its own.
func (l *redoLog) beginRing(s *Store, entries [][]byte) ([]kv.Position, error) {
	gen := l.ring.Generation()
	i := l.id.next(gen, l.encrypted)
	if l.encrypted {
		if err := s.storeIdentity(i); err != nil {
			return nil, err
		}
	}
	s.txMu.Lock()
	m := s.mark()
	s.txMu.Unlock()
	unit := int64(redo.Words)
	if l.synced {
		unit = redo.Pages
	}
	places, err := l.ring.Begin(m, i.secrets[gen+1], unit, entries)
	if err == nil {
		l.id = i
	}
	return places, err
}

// Append implements kv.Journal. The last quarter of the ring is kept for those who
// commit: they make room.
func (j journal) Append(pieces ...[]byte) (kv.Position, bool) {
	s, l := j.s, j.s.redo
	if l.synced || !l.begun.Load() || s.closed.Load() {
		return kv.Position{}, false
	}
	n := 0
	for _, p := range pieces {
		n += len(p)
	}
	if !s.space.expected(int64(n)) {
		return kv.Position{}, false
	}
	p, ok := l.ring.NoteBelow(pieces...)
	if !ok {
		if err := l.ring.Err(); err != nil && !errors.Is(err, shardlog.ErrClosed) {
			_ = s.failed(err) // the commit to come gets it
		}
	}
	return p, ok
}

// releaseBytes is what is given back at a time where that takes no sync: it costs the
// write of a page.
const releaseBytes = 64 << 10

// Needed implements kv.Journal.
func (j journal) Needed(p kv.Position) {
	l := j.s.redo
	l.need(p)
	if l.synced || l.owes() && !l.settles(p) {
		return // advance does the rest
	}
	if l.ring.Before(p) >= releaseBytes {
		_ = j.s.giveBack() // an error stops the store
	}
}

// End implements kv.Journal.
func (j journal) End() kv.Position { return j.s.redo.ring.End() }

// Room implements kv.Journal.
func (j journal) Room(n int) bool {
	s, l := j.s, j.s.redo
	for !l.ring.KeepFor(n) {
		if n > kv.MaxEntry {
			return false
		}
		if l.grow(s, s.opts.RedoMax) {
			continue
		}
		if s.giveBack() != nil {
			return false
		}
		if l.ring.KeepFor(n) {
			return true
		}
		// One that is larger than the ring may be gets room anyway.
		if used, _ := l.ring.Use(); used > 0 || !l.grow(s, 2*redo.MaxFrame) {
			return false
		}
	}
	return true
}

// Use implements kv.Journal.
func (j journal) Use() (used, most int64) {
	l := j.s.redo
	used, most = l.ring.Use()
	if l.ring.GrowsTo(j.s.opts.RedoMax) > 0 {
		most = max(most, j.s.opts.RedoMax)
	}
	// What waits for a sync to be given back is no reason to make blocks of anything.
	return max(0, used-l.ring.Before(l.isNeeded())), most
}

// restarted notes that the ring has just the entries with these places.
func (l *redoLog) restarted(places []kv.Position) {
	l.needMu.Lock()
	defer l.needMu.Unlock()
	l.needed, l.promised, l.begunTo = l.ring.End(), 0, 0
	if len(places) > 0 {
		// They were synced in an earlier process, for all that is known.
		l.promised, l.begunTo = l.needed.Seq, l.needed.Seq
		l.needed = places[0]
	}
}

// settles reports whether all entries that the journal was begun with can be given back, as
// those before p are not needed. Where nobody calls Sync that is worth one: others need none.
func (l *redoLog) settles(p kv.Position) bool {
	l.needMu.Lock()
	defer l.needMu.Unlock()
	return p.Seq >= l.begunTo && l.ring.Start().Seq < l.begunTo
}

// need notes from where on entries are needed.
func (l *redoLog) need(p kv.Position) {
	l.needMu.Lock()
	defer l.needMu.Unlock()
	l.needed = p
}

// isNeeded returns from where on entries are needed.
func (l *redoLog) isNeeded() kv.Position {
	l.needMu.Lock()
	defer l.needMu.Unlock()
	return l.needed
}

// promise notes that the entries before p are durable for somebody, or will be.
func (l *redoLog) promise(p kv.Position) {
	l.needMu.Lock()
	defer l.needMu.Unlock()
	l.promised = max(l.promised, p.Seq)
}

// owes reports whether the ring has an entry that is durable for somebody. What makes it
// superfluous has to be durable, too, before it is given back.
func (l *redoLog) owes() bool {
	l.needMu.Lock()
	defer l.needMu.Unlock()
	return l.ring.Start().Seq < l.promised
}

// first returns the earlier of p and where entries are needed.
func (l *redoLog) first(p kv.Position) kv.Position {
	l.needMu.Lock()
	defer l.needMu.Unlock()
	if l.needed.Seq < p.Seq {
		return l.needed
	}
	return p
}
