package logstore

import (
	"errors"
	"sort"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// ScanDedupIDs calls f for each dedup ID among the records that arrived at since, Unix
// milliseconds, or later, in the order of the records. The ID is f's until it
// returns. It reads the blocks that reach into that time, and no others. What
// cannot be read because it is damaged is left out; the error, which matches
// shardlog.ErrCorrupt then, comes at the end.
func (s *Shard) ScanDedupIDs(since int64, f func(id []byte, seq shardlog.SequenceNumber, ms int64)) error {
	v := s.view()
	var errs []error
	i := sort.Search(len(v.blocks), func(i int) bool { return v.blocks[i].lastMs >= since })
	if v.stepped {
		times := v.believed(time.Now().UnixMilli())[:len(v.blocks)]
		i = sort.Search(len(times), func(i int) bool { return times[i] >= since })
	}
	for _, e := range v.blocks[i:] {
		b, _, err := s.load(e, nil, false)
		if errors.Is(err, errTrimmed) {
			continue
		}
		if err == nil {
			err = s.idsOf(&b, since, f)
		}
		if err != nil && !errors.Is(err, shardlog.ErrCorrupt) {
			return err
		}
		errs = append(errs, err)
	}
	for _, b := range v.runs() {
		errs = append(errs, s.idsOf(b, since, f))
	}
	return errors.Join(errs...)
}

func (s *Shard) idsOf(b *block.Block, since int64, f func([]byte, shardlog.SequenceNumber, int64)) error {
	if !b.HasIDs() || b.LastMs < since {
		return nil
	}
	it, err := b.SeekTime(since)
	var item block.Item
	for err == nil {
		var ok bool
		if ok, err = it.Next(&item); err == nil && !ok {
			return nil
		}
		if err == nil && item.ID != nil {
			f(item.ID, s.sequence(item.Counter, item.Ms), item.Ms)
		}
	}
	return s.corrupt(b.First, b.End(), err)
}
