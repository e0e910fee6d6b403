package consumer

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/shardlog/shardlog"
)

// JSON makes a Handler of a function for one record whose data are JSON of T.
// It works as Each does. Data that cannot be decoded are a Permanent error.
func JSON[T any](f func(ctx context.Context, v T, rec shardlog.Record) error) Handler {
	return Each(func(ctx context.Context, rec shardlog.Record) error {
		var v T
		if err := json.Unmarshal(rec.Data, &v); err != nil {
			return Permanent(fmt.Errorf("decode record %v: %w", rec.Sequence, err))
		}
		return f(ctx, v, rec)
	})
}
