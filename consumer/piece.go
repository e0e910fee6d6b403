package consumer

import (
	"time"

	"github.com/shardlog/shardlog"
)

// piece is a run of records that are given to the handler together.
type piece struct {
	records []shardlog.Record
	// end is after the last record, and after what was filtered out behind it.
	end shardlog.Position
	// shardEnd: nothing follows in the shard.
	shardEnd      bool
	behind        time.Duration
	behindRecords int64
	size          int64 // of the records, if they are a whole chunk; else 0
}

// after is the position after the i-th record. Of user records that were
// stored together, only the last is the end of what is stored.
func (p *piece) after(i int) shardlog.Position {
	if i == len(p.records)-1 {
		return p.end
	}
	return afterRecord(p.records, i)
}

// first returns the first n records as a piece.
func (p *piece) first(n int) *piece {
	return &piece{
		records: p.records[:n:n], end: p.after(n - 1), behind: p.behind,
		behindRecords: p.behindRecords + int64(len(p.records)-n),
	}
}

// drop removes the first n records.
func (p *piece) drop(n int) { p.records = p.records[n:] }

// sizeOf is the sum of the records' sizes.
func sizeOf(records []shardlog.Record) (size int64) {
	for i := range records {
		size += int64(records[i].Size())
	}
	return size
}

// afterRecord is the position after records[i]. A source that
// de-aggregates gives several records with one number; then only the last of
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
		return p.Next // the source knows whether the record continues
	}
	return later(p.Next, shardlog.After(last.Sequence))
}
