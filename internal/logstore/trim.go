package logstore

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/shardlog/shardlog"
)

// ScanBlocks calls f for the blocks of s, oldest first, then for the parts that
// only the journal has, until it returns false: with the counter after the block,
// the arrival of its last record in Unix milliseconds, and its stored size.
// Records are removed by the block. Where the clock was wrong, the arrival is that
// of view.believed.
func (s *Shard) ScanBlocks(f func(end uint64, lastMs, size int64) bool) {
	v := s.view()
	var times []int64
	if v.stepped {
		times = v.believed(time.Now().UnixMilli())
	}
	arrival := func(i int, ms int64) int64 {
		if times != nil {
			return times[i]
		}
		return ms
	}
	for i := range v.blocks {
		if e := &v.blocks[i]; !f(e.end(), arrival(i, e.lastMs), int64(e.size)) {
			return
		}
	}
	parts := v.allParts()
	for i := range parts {
		if p := &parts[i]; !f(p.end, arrival(len(v.blocks)+i, p.lastMs()), int64(p.size)) {
			return
		}
	}
}

// Trim removes the blocks of s that end at or below the counter. The horizon
// that it leaves is as durable as any write and never goes back.
func (s *Shard) Trim(ctx context.Context, upto uint64) error {
	for {
		t := &trim{s: s, upto: upto}
		if err := s.log.submit(ctx, &op{apply: t.apply, commit: t.commit, small: true}); err != nil || !t.more {
			return err
		}
	}
}

// TrimBefore is Trim for a position: it removes what is wholly before it. The
// position is resolved when the call begins, so Latest means all that is there
// then. One that is below the horizon already leaves everything as it is.
func (s *Shard) TrimBefore(ctx context.Context, before shardlog.Position) error {
	if err := ctx.Err(); err != nil {
		return shardlog.ContextError(ctx)
	}
	st, err := s.resolve(s.view(), before)
	if errors.Is(err, shardlog.ErrExpired) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.Trim(ctx, st.counter)
}

// trim is one step of Trim, at most one transaction's worth.
type trim struct {
	s       *Shard
	upto    uint64
	horizon uint64
	more    bool
}

func (t *trim) apply(tx *Tx) error {
	v := t.s.view()
	t.horizon = v.horizon
	for i := range v.blocks {
		e := &v.blocks[i]
		if e.end() > t.upto {
			break
		}
		if i == trimChanges {
			t.more = true
			break
		}
		tx.Delete(blockKey(t.s.id, e))
		t.horizon = max(t.horizon, e.end())
	}
	if !t.more {
		for _, p := range v.allParts() {
			if p.end <= t.upto {
				t.horizon = max(t.horizon, p.end)
			}
		}
	}
	// Another trim in the same transaction may have gone further.
	if stored, err := tx.Get(horizonKey(t.s.id)); err == nil && len(stored) == 8 {
		t.horizon = max(t.horizon, binary.BigEndian.Uint64(stored))
	}
	if t.horizon > v.horizon {
		tx.Set(horizonKey(t.s.id), binary.BigEndian.AppendUint64(nil, t.horizon))
	}
	return nil
}

// commit removes from the view what is now below the horizon. The view may
// have grown since apply, by what was written since.
func (t *trim) commit() {
	var added int64
	t.s.change(func(v *view) { added = t.cut(v) })
	t.s.usage.Bytes.Add(added)
}

// cut removes from a view what is below the horizon, with Log.mu held, and returns by
// how many bytes it has more.
func (t *trim) cut(v *view) int64 {
	l := t.s.log
	before := v.bytes
	v.horizon = max(v.horizon, t.horizon)
	n := 0
	for n < len(v.blocks) && v.blocks[n].end() <= v.horizon {
		size := int64(v.blocks[n].size)
		v.bytes -= size
		l.live.Add(-size)
		l.dead.Add(size)
		n++
	}
	if v.blocks = v.blocks[n:]; len(v.blocks) < n {
		v.blocks = slices.Clip(append([]blockRef(nil), v.blocks...)) // the memory of those removed
	}
	n = 0
	for n < len(v.mem) && v.mem[n].b.End() <= v.horizon {
		if ref := v.mem[n].ref; ref != nil {
			ref.end()
		}
		n++
	}
	v.gaps = min(v.gaps, len(v.mem)-n)
	v.cutMem(n)
	v.trimRuns()
	return v.bytes - before
}
