package consumer

import (
	"cmp"
	"context"
	"errors"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer/internal/lease"
)

// Forget removes the progress of a group in a stream from a store, so that the
// group begins again where Options.Start says: what is left to do when Run has
// ended with shardlog.ErrConflict, because the stream was deleted and created
// again, and all of the new stream is wanted. No worker of the group may be
// running. Group and stream are as in Options: group defaults to "default",
// and without the name of a stream, of which a store would take "" for all, the
// error matches shardlog.ErrInvalid.
//
// It blocks for the store. After an error that is the store's or that of ctx
// some rows may be left, and it may be called again. Nothing to remove is no
// error.
func Forget(ctx context.Context, store checkpoint.Store, group, stream string) error {
	if stream == "" {
		return &shardlog.Error{Op: "forget", Err: &shardlog.InvalidError{Field: "Stream", Value: stream, Limit: "the name of one"}}
	}
	group = cmp.Or(group, defaultGroup)
	// The row of the group is in the second part, and so goes last: shards
	// without a row then begin where a group begins that has none.
	for _, name := range []string{stream, stream + lease.WorkersSuffix} {
		rows, err := store.List(ctx, group, name)
		for i := 0; err == nil && i < len(rows); i++ {
			if err = store.Delete(ctx, rows[i]); errors.Is(err, shardlog.ErrNotFound) {
				err = nil
			}
		}
		if err != nil {
			return &shardlog.Error{Op: "forget", Stream: stream, Err: err}
		}
	}
	return nil
}
