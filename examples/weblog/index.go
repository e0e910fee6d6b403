package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"strconv"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// lineHeader is the header with the number of a record's line in the input.
const lineHeader = "line"

// maxLines keeps a damaged line number from taking all memory.
const maxLines = 1 << 32

// index knows which lines of the input are in the stream. It is read from the
// stream itself, however the program ended before, and does not assume that
// lines are stored in the order of the input: the producer keeps the order of
// each client's lines only, and has several requests under way.
type index struct {
	sums    []uint32 // by line number; 0 for a line that is not stored
	records int
	max     int64
	last    map[string]shardlog.SequenceNumber // by shard
}

// readIndex reads the whole stream.
func readIndex(ctx context.Context, st *stream.Stream, shards []shardlog.ShardInfo) (*index, error) {
	x := &index{last: map[string]shardlog.SequenceNumber{}}
	for _, s := range shards {
		for r, err := range st.Scan(ctx, s.ID, shardlog.TrimHorizon()) {
			if err != nil {
				return nil, err
			}
			number := int64(0)
			if len(r.Headers) == 1 && r.Headers[0].Key == lineHeader {
				number, _ = strconv.ParseInt(r.Headers[0].Value, 10, 64)
			}
			if number < 1 || number > maxLines {
				return nil, fmt.Errorf("%s: record %v was not written by this program", s.ID, r.Sequence)
			}
			if n := number + 1 - int64(len(x.sums)); n > 0 {
				x.sums = append(x.sums, make([]uint32, n)...)
			}
			if x.sums[number] != 0 {
				return nil, fmt.Errorf("%s: line %d is stored twice", s.ID, number)
			}
			x.sums[number] = checksum(r.Data)
			x.max = max(x.max, number)
			x.last[s.ID] = r.Sequence
			x.records++
		}
	}
	return x, nil
}

// has reports whether a line is stored; the error says that another one is.
func (x *index) has(ln line) (bool, error) {
	if ln.number >= int64(len(x.sums)) || x.sums[ln.number] == 0 {
		return false, nil
	}
	if ln.tooLong || checksum(ln.text) != x.sums[ln.number] {
		return false, fmt.Errorf("line %d of the input is not the one that was stored before: "+
			"the directory belongs to another input, or the line was not complete then", ln.number)
	}
	return true, nil
}

// checksum of a line, never 0.
func checksum(text []byte) uint32 { return crc32.ChecksumIEEE(text) | 1 }
