package stream

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
)

// ReadDedicated is Read for a reader with a throughput of its own, such as a
// registered consumer of Kinesis: read limits neither stop it nor count what
// it reads.
func (st *Stream) ReadDedicated(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	if err := st.enter(ctx, "read"); err != nil {
		return shardlog.Page{}, err
	}
	if err := checkRead(&req); err != nil {
		return shardlog.Page{}, st.fail("read", req.ShardID, err)
	}
	m, err := st.find("read", req.ShardID)
	if err != nil {
		return shardlog.Page{}, err
	}
	p, err := m.s.Read(ctx, req)
	if err == nil && p.End {
		if err = st.reshaped(ctx); err == nil {
			p.Children = st.routes.Load().children(m.index())
		}
	}
	if err != nil {
		return shardlog.Page{}, st.fail("read", req.ShardID, st.orDeleted(err))
	}
	return p, nil
}

// Resolve returns the place that a position names at this moment, in a form
// that stays: Latest becomes the place after the newest record, TrimHorizon
// and AtTime that of the record that is read first from there. Errors are
// those of Read.
func (st *Stream) Resolve(ctx context.Context, shardID string, from shardlog.Position) (shardlog.Position, error) {
	p, err := st.ReadDedicated(ctx, shardlog.ReadRequest{ShardID: shardID, From: from, MaxRecords: 1})
	if err != nil {
		return shardlog.Position{}, err
	}
	if len(p.Records) > 0 {
		return shardlog.At(p.Records[0].Sequence), nil
	}
	return p.Next, nil
}

// SetMaxRecordSize changes the record limit, in bytes, as in
// Config.MaxRecordSize. Records that are stored stay as they are.
func (st *Stream) SetMaxRecordSize(ctx context.Context, bytes int) error {
	return st.update(ctx, "set max record size", func(m *streamMeta) error {
		if largest := st.db.largestRecord(); bytes < 1 || bytes > largest {
			return &shardlog.InvalidError{Field: "MaxRecordSize", Value: bytes, Limit: fmt.Sprintf("1 to %d", largest)}
		}
		m.MaxRecordSize = bytes
		return nil
	})
}
