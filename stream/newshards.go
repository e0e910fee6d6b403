package stream

import (
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
	"github.com/shardlog/shardlog/shard"
)

func (st *Stream) shardConfig(id logstore.ID, m *shardMeta) logstore.Config {
	return logstore.Config{
		ID: id, Created: m.Created, Base: m.Base, Codec: st.meta.Load().Compression.codec(),
		Closed: m.Closed, Last: m.Last, Floor: m.Floor, Usage: &st.usage,
	}
}

func (st *Stream) newShard(s *logstore.Shard, m shardMeta) *streamShard {
	return &streamShard{s: s, handle: shard.New(s, &shardOwner{st, s}), meta: m, lim: newLimiter(st.meta.Load().Limits), ctr: &counters{}}
}

// base returns the counter below those of a new shard. In a durable database
// the second of the shard's creation, which is in each number, distinguishes
// them from those of any other shard, unless a stream is deleted and recreated
// within a second: so the upper half of the counter has the nanosecond, which
// is above every counter of the deleted stream. A database in memory forgets
// what it gave out, so its numbers begin at the nanosecond, and none is given
// out again when it is recreated. What this process saw deleted counts in
// addition, because a clock may stand still or step back.
func (st *Stream) base(now time.Time) uint64 {
	base := uint64(now.Nanosecond()) << 32
	if st.db.opts.InMemory {
		base = uint64(now.UnixNano()) & (shardlog.MaxCounter >> 1)
	}
	return max(base, st.db.deletedTo.Load())
}

// noteCounters records the counters of a stream that is deleted.
func (db *DB) noteCounters(st *Stream) {
	for _, sh := range st.routes.Load().all {
		for last := sh.s.LastCounter(); ; {
			to := db.deletedTo.Load()
			if last <= to || db.deletedTo.CompareAndSwap(to, last) {
				break
			}
		}
	}
}

func (st *Stream) firstShards(n int, now time.Time) []shardMeta {
	starts := evenRanges(n)
	metas := make([]shardMeta, n)
	for i := range metas {
		end := shardlog.MaxHashKey
		if i+1 < n {
			end, _ = starts[i+1].Prev()
		}
		metas[i] = shardMeta{Start: starts[i], End: end, Created: now.Unix(), CreatedAt: now.UnixMilli(), Base: st.base(now)}
	}
	return metas
}

// describeChange describes the creation of shards with indexes from first on, and the
// closing of others, as one change of the log.
func (st *Stream) describeChange(first uint32, metas []shardMeta, closing []*streamShard, closed []shardMeta) logstore.Change {
	c := logstore.Change{}
	for i := range metas {
		c.Create = append(c.Create, st.shardConfig(logstore.ID{Stream: st.id, Shard: first + uint32(i)}, &metas[i]))
	}
	for _, sh := range closing {
		c.Close = append(c.Close, sh.s)
	}
	c.Apply = func(tx *logstore.Tx) error {
		// Children begin when their parents end, so that at any time the shards
		// that were open had all hash keys, each once. No record of a parent
		// arrives later than now.
		now := time.Now().UnixMilli()
		for i := range metas {
			if len(metas[i].Parents) > 0 {
				metas[i].CreatedAt = now
			}
			tx.Set(shardKey(c.Create[i].ID), mustJSON(&metas[i]))
		}
		for i, sh := range closing {
			closed[i] = sh.meta
			closed[i].Closed, closed[i].ClosedAt, closed[i].Last = true, now, sh.s.LastCounter()
			tx.Set(shardKey(sh.s.ID()), mustJSON(&closed[i]))
		}
		return nil
	}
	return c
}

// shardsPerChange bounds how many shards one transaction creates: their
// metadata, some 300 bytes each, is kept in the store's tree.
const shardsPerChange = 150
