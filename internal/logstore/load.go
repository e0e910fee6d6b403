package logstore

import (
	"errors"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// load returns the block that find found; shared says that it may come from
// the cache and is not to be changed. Trusted says that its checksum was not
// verified by this call.
func (s *Shard) load(e blockRef, m *memBlock, shared bool) (b block.Block, trusted bool, err error) {
	if m != nil {
		return m.b, false, nil
	}
	if shared {
		if b, ok := s.log.cache.get(s, e.first); ok {
			return b, true, nil
		}
	}
	mark := s.beforeRead()
	value, err := s.log.store.Get(blockKey(s.id, &e))
	s.afterRead(&mark)
	switch {
	case errors.Is(err, shardlog.ErrNotFound):
		if err := s.log.awaitPublished(); err != nil {
			return block.Block{}, false, err
		}
		if e.end() <= s.view().horizon {
			return block.Block{}, false, errTrimmed
		}
		return block.Block{}, false, s.damaged(&e, &block.DamageError{Offset: -1, Reason: "the block is missing"})
	case errors.Is(err, shardlog.ErrCorrupt):
		return block.Block{}, false, s.damaged(&e, err)
	case err != nil:
		s.verified.forget()
		return block.Block{}, false, err
	}
	b, trusted, err = s.decode(value, &e, mark, nil)
	if err == nil && shared {
		s.log.cache.put(s, b)
	}
	return b, trusted, err
}

// errTrimmed says that retention removed a block between finding and reading.
var errTrimmed = errors.New("trimmed while reading")

func (s *Shard) corrupt(first, end uint64, err error) error {
	var d *block.DamageError
	c := &shardlog.CorruptError{
		Shard: s.name, First: s.sequence(first, 0), Last: s.sequence(end-1, 0), Offset: -1,
		Reason: err.Error(), Next: shardlog.At(s.sequence(end, 0)),
	}
	if errors.As(err, &d) {
		c.Offset, c.Reason = d.Offset, d.Reason
	}
	errors.As(err, &c.Damage)
	return c
}

// checkGap reports whether records are missing between the counter and the
// block that find returned for it: a block names the record before it, so a
// lost block does not go unnoticed.
func (s *Shard) checkGap(v *view, at uint64, b *block.Block) error {
	if b.First <= at || b.Prev < at || b.Prev < v.horizon {
		return nil
	}
	return s.corrupt(at, b.First, &block.DamageError{Offset: -1, Reason: "blocks are missing"})
}

// lostEnd reports whether a closed shard has lost its last records: find has
// nothing from the counter on, but it is known how far the shard went.
func (s *Shard) lostEnd(v *view, at uint64) error {
	if !v.closed || at > v.last {
		return nil
	}
	return s.corrupt(at, v.last+1, &block.DamageError{Offset: -1, Reason: "the last records of the shard are missing"})
}
