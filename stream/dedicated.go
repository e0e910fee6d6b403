package stream

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
)

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
