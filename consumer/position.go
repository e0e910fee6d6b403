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

// afterRecord is the position after records[i]. A source that takes aggregated
// records apart gives several records with one number; then only the last of
// them is the end of what is stored.
func afterRecord(records []shardlog.Record, i int) shardlog.Position {
	r := &records[i]
	if i+1 < len(records) && records[i+1].Sequence == r.Sequence {
		return shardlog.AfterSub(r.Sequence, r.SubSequence)
	}
	return shardlog.After(r.Sequence)
}

// endOfPage is the position after the last record of a page. Page.Next is it;
// the comparison keeps a source that forgets to set it from undoing progress.
func endOfPage(p *shardlog.Page) shardlog.Position {
	n := len(p.Records)
	if n == 0 {
		return p.Next
	}
	last := &p.Records[n-1]
	if rank(p.Next) == 1 && p.Next.Sequence() == last.Sequence {
		return p.Next // the source knows whether the record goes on
	}
	return later(p.Next, shardlog.After(last.Sequence))
}
