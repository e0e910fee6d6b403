package logstore

import (
	"errors"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// load returns the block that find found; shared says that it may come from
// the cache and is not to be changed.
func (s *Shard) load(e blockRef, m *memBlock, shared bool) (block.Block, error) {
	if m != nil {
		return m.b, nil
	}
	if shared {
		if b, ok := s.log.cache.get(s, e.first); ok {
			return b, nil
		}
	}
	value, err := s.log.store.Get(blockKey(s.id, &e))
	switch {
	case errors.Is(err, shardlog.ErrNotFound):
		if err := s.log.awaitPublished(); err != nil {
			return block.Block{}, err
		}
		if e.end() <= s.view().horizon {
			return block.Block{}, errTrimmed
		}
		return block.Block{}, s.corrupt(e.first, e.end(), &block.DamageError{Offset: -1, Reason: "the block is missing"})
	case errors.Is(err, shardlog.ErrCorrupt):
		return block.Block{}, s.corrupt(e.first, e.end(), err)
	case err != nil:
		return block.Block{}, err
	}
	b, err := s.log.coder.Decode(value)
	if err != nil {
		return block.Block{}, s.corrupt(e.first, e.end(), err)
	}
	if b.First != e.first || b.Count != e.count {
		return block.Block{}, s.corrupt(e.first, e.end(), &block.DamageError{Offset: 16, Reason: "the block is another than its key says"})
	}
	if shared {
		s.log.cache.put(s, b)
	}
	return b, nil
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
