package lease

import (
	"cmp"
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// Rows are found by the name of the stream, which another stream may have by
// now. What they say holds for the one whose ID they have, so a worker compares
// that before it believes or writes any row, and ends where it differs: nobody
// can say whether the rows or the stream are the wrong ones. Each row that a
// worker writes gets the ID.
//
// A row without an ID is of an earlier version of this package, was written
// for a source that has none, or is in a store that does not keep the field; then
// its contents are compared with the shard.

// identify asks the source which stream it is. The error matches
// shardlog.ErrConflict when it is another one than before.
func (g *Group) identify(ctx context.Context) error {
	src, ok := g.c.Source.(shardlog.Identified)
	if !ok {
		return nil
	}
	id, err := src.StreamID(ctx)
	if err != nil {
		return fmt.Errorf("identify the stream: %w", err)
	}
	if id == "" {
		return nil
	}
	known := g.streamID()
	if known != "" && known != id {
		return g.conflict("", "the stream has the ID %q, and had %q when the worker began", id, known)
	}
	if known == "" {
		g.stream.Store(&id)
		g.peers.stream = id
	}
	return nil
}

// streamID is the ID of the stream, "" as long as it is not known.
func (g *Group) streamID() string {
	if id := g.stream.Load(); id != nil {
		return *id
	}
	return ""
}

// streamIDOr is the ID of the stream, or that of a row while it is not known.
func (g *Group) streamIDOr(ofRow string) string { return cmp.Or(g.streamID(), ofRow) }

func (g *Group) conflict(shardID, format string, args ...any) error {
	return &shardlog.Error{Op: "consume", Stream: g.c.Stream, Shard: shardID, Err: fmt.Errorf(
		"%w: %s: the stream was deleted and created again, or the group's rows are of another one",
		shardlog.ErrConflict, fmt.Sprintf(format, args...))}
}

// checkStream returns why rows cannot be of this stream, or nil.
func (g *Group) checkStream(rows []checkpoint.Lease) error {
	id := g.streamID()
	for i := range rows {
		if foreign(&rows[i], id) {
			return g.conflict(rows[i].Shard, "the row is of the stream with the ID %q, and this one has %q", rows[i].StreamID, id)
		}
	}
	return nil
}

// checkRows is checkStream, and compares rows without an ID with their shards.
func (g *Group) checkRows(ctx context.Context, v *snapshot) error {
	for _, row := range v.rows {
		if err := g.checkStream([]checkpoint.Lease{row}); err != nil {
			return err
		}
		info, listed := v.infos[row.Shard]
		if !listed {
			continue
		}
		if err := g.checkPosition(info, row.Checkpoint); err != nil {
			return err
		}
		if row.Prepared != nil {
			if err := g.checkPosition(info, *row.Prepared); err != nil {
				return err
			}
		}
		if row.StreamID != "" && g.streamID() != "" {
			continue // they are equal
		}
		if info.HashEnd.IsSet() && row.HashEnd.IsSet() && (row.HashStart != info.HashStart || row.HashEnd != info.HashEnd) {
			return g.conflict(row.Shard, "the row has hash keys from %v to %v, and the shard from %v to %v",
				row.HashStart, row.HashEnd, info.HashStart, info.HashEnd)
		}
		if row.Ended && !info.Closed && g.continues(ctx, row) {
			return g.conflict(row.Shard, "the row says that the shard has ended, but it is open")
		}
	}
	return nil
}

// continues reports whether a shard that is listed as open continues after what
// its row says is the end. A source that has an ID lists its shards as they are;
// the list of another one may be an earlier one than the rows, so there a
// record has to be seen.
func (g *Group) continues(ctx context.Context, row checkpoint.Lease) bool {
	if g.streamID() != "" {
		return true
	}
	page, err := g.c.Source.Read(ctx, shardlog.ReadRequest{ShardID: row.Shard, From: row.Checkpoint, MaxRecords: 1})
	return err == nil && len(page.Records) > 0
}

// checkPosition compares the creation that a number says with the shard's.
// Numbers of which it is not known say nothing of it.
func (g *Group) checkPosition(info shardlog.ShardInfo, at shardlog.Position) error {
	of, ok1 := at.Sequence().Created()
	created, ok2 := info.First.Created()
	if ok1 && ok2 && !of.Equal(created) {
		return g.conflict(info.ID, "the checkpoint is of a shard made at %v, but this one was made at %v", of.UTC(), created.UTC())
	}
	return nil
}
