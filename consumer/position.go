package consumer

import (
	"cmp"

	"github.com/shardlog/shardlog"
)

// compare orders two positions of one shard. Positions that name no record
// are equal to each other and before all that do.
func compare(a, b shardlog.Position) int {
	return cmp.Or(
		cmp.Compare(rank(a), rank(b)),
		a.Sequence().Compare(b.Sequence()),
		cmp.Compare(inside(a), inside(b)),
	)
}

func rank(p shardlog.Position) int {
	if k := p.Kind(); k == shardlog.KindAt || k == shardlog.KindAfter {
		return 1
	}
	return 0
}

// inside orders the positions of one record: before it, after its user records
// by index, after it.
func inside(p shardlog.Position) uint64 {
	switch {
	case p.Kind() != shardlog.KindAfter:
		return 0
	case p.SubSequence() == shardlog.WholeRecord:
		return 1 << 63
	}
	return uint64(p.SubSequence()) + 1
}

// later returns the later of two positions, and a when they are equal.
func later(a, b shardlog.Position) shardlog.Position {
	if compare(a, b) < 0 {
		return b
	}
	return a
}
