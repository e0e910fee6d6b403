package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
)

// update replaces the stream's metadata; change edits a copy of it. It respects
// ctx while it waits for its turn, and not once the change is being stored: so
// an error says that nothing was changed, unless it matches
// shardlog.ErrUnknownOutcome.
func (st *Stream) update(ctx context.Context, op string, change func(*streamMeta) error) error {
	if err := st.enter(ctx, op); err != nil {
		return err
	}
	if err := st.config.Lock(ctx); err != nil {
		return st.fail(op, "", err)
	}
	defer st.config.Unlock()
	if err := st.updateLocked(ctx, change); err != nil {
		return st.fail(op, "", err)
	}
	return nil
}

// updateLocked is update with config held.
func (st *Stream) updateLocked(ctx context.Context, change func(*streamMeta) error) error {
	meta := *st.meta.Load()
	meta.Tags = maps.Clone(meta.Tags)
	if err := change(&meta); err != nil {
		return err
	}
	err := st.db.log.Do(context.WithoutCancel(ctx), func(tx *logstore.Tx) error {
		if st.deleted.Load() {
			return shardlog.ErrNotFound
		}
		tx.Set(streamKey(st.id), mustJSON(&meta))
		return nil
	})
	if err != nil {
		return err
	}
	st.meta.Store(&meta)
	st.usage.Limit.Store(meta.RetentionBytes)
	return nil
}

// SetRetention changes how long records are kept, by age (or Forever) and by
// stored bytes (0 for no bound), as in Config. What is over the new bounds is
// removed soon after; what was removed does not come back.
func (st *Stream) SetRetention(ctx context.Context, age time.Duration, bytes int64) error {
	err := st.update(ctx, "set retention", func(m *streamMeta) error {
		m.Retention, m.RetentionBytes = age, bytes
		return checkRetention(age, bytes)
	})
	if err == nil {
		st.db.wakeJanitor()
	}
	return err
}

// SetLimits changes the rate limits of every shard, at the same time and with
// full allowances.
func (st *Stream) SetLimits(ctx context.Context, l Limits) error {
	const op = "set limits"
	if err := st.enter(ctx, op); err != nil {
		return err
	}
	if err := st.config.Lock(ctx); err != nil {
		return st.fail(op, "", err)
	}
	defer st.config.Unlock()
	// Shape is held before anything is stored, so that ctx cannot end between
	// what is stored and what is in force.
	if err := st.shape.Lock(ctx); err != nil {
		return st.fail(op, "", err)
	}
	defer st.shape.Unlock()
	err := st.updateLocked(ctx, func(m *streamMeta) error {
		m.Limits = l
		return l.check()
	})
	if err != nil {
		return st.fail(op, "", err)
	}
	old := st.routes.Load()
	all := make([]*streamShard, len(old.all))
	for i, sh := range old.all {
		all[i] = &streamShard{s: sh.s, handle: sh.handle, meta: sh.meta, lim: newLimiter(l), ctr: sh.ctr}
	}
	st.routes.Store(newRoutes(all))
	return nil
}

// SetTags adds tags to the stream, and replaces those with the same keys.
func (st *Stream) SetTags(ctx context.Context, tags map[string]string) error {
	return st.update(ctx, "set tags", func(m *streamMeta) error {
		if m.Tags == nil {
			m.Tags = map[string]string{}
		}
		maps.Copy(m.Tags, tags)
		return errors.Join(checkTags(tags), checkTags(m.Tags))
	})
}

// RemoveTags removes the tags with the keys; those that are not there are no
// error.
func (st *Stream) RemoveTags(ctx context.Context, keys ...string) error {
	return st.update(ctx, "remove tags", func(m *streamMeta) error {
		for _, k := range keys {
			delete(m.Tags, k)
		}
		return nil
	})
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
