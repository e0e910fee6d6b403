package logstore

// tail has the stored blocks that are kept in memory for readers near the ends
// of shards. It belongs to the committer.
type tail struct {
	blocks []tailBlock // oldest first
	bytes  int64
}

// tailBlock is a stored block that mem of a shard still has.
type tailBlock struct {
	shard *Shard
	m     *memBlock
}

func (t *tail) add(s *Shard, m *memBlock) {
	t.blocks = append(t.blocks, tailBlock{s, m})
	t.bytes += int64(m.b.Size())
}

// evict drops the oldest blocks from memory until they take no more than limit. Mu is held.
// Blocks that were trimmed meanwhile are no longer the first of their shard.
func (t *tail) evict(limit int64) {
	n := 0
	for ; t.bytes > limit && n < len(t.blocks); n++ {
		b := &t.blocks[n]
		t.bytes -= int64(b.m.b.Size())
		if v := b.shard.view(); len(v.mem) > 0 && v.mem[0] == b.m {
			next := *v
			next.cutMem(1)
			b.shard.set(&next)
		}
	}
	if n > 0 {
		clear(t.blocks[:n]) // so that their memory can be freed
		t.blocks = t.blocks[n:]
	}
}
