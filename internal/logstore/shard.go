package logstore

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// Config describes a shard to the log. It is fixed while the shard exists,
// but for what closing it changes.
type Config struct {
	ID      ID
	Created int64 // Unix seconds, part of every sequence number
	// Base is a counter below those of all records. It must not be lower
	// than that of an earlier shard with the same numbers and creation.
	Base  uint64
	Codec Codec
	// Closed and Last say that the shard takes no more records, and the
	// counter of its last one.
	Closed bool
	Last   uint64
	// Floor is a counter not to be given to a record any more, and neither is
	// any below; see Shard.Floor. 0 if there is none.
	Floor uint64
	// Usage, if set, adds up the shards that share a limit.
	Usage *Usage
}

// Usage adds up the stored bytes of several shards, such as those of a stream.
type Usage struct {
	Bytes atomic.Int64
	// Limit is when the committer calls Options.Wake; 0 for never.
	Limit atomic.Int64
}

// Shard is one ordered log. All methods are safe for concurrent use.
type Shard struct {
	log     *Log
	id      ID
	name    string
	created int64
	base    uint64
	codec   Codec
	usage   *Usage

	// Guarded by log.mu.
	next          uint64 // counter of the next record
	lastAssigned  uint64 // counter of the last record given one; not after a failed commit
	lastMs        int64  // its arrival
	closed        bool
	part          *part // in the open group
	fullBytes     int   // bytes of its full parts in the open group
	expectedBytes int   // bytes of its parts in the last group, and some more
	instant       int   // which of Log.instants is of it, from 1 on; 0 for none
	inFlight      bool  // the committer has parts of it
	flushing      bool  // it is in Log.flush
	fast          bool  // its last run grew to a block
	flushAt       int   // bytes of its runs from which it is to be,
	flushGaps     int   // and how many closed ones
	newest        newest

	current atomic.Pointer[view] // replaced with log.mu held; see view
	pending pending              // the committer's, while it makes a transaction

	verified verified // stored blocks

	waiters atomic.Int32
	waitMu  sync.Mutex
	changed chan struct{} // closed at the next change; nil if nobody waits

	stats counters
}

type counters struct {
	recordsIn, bytesIn, recordsOut, bytesOut, blocks atomic.Int64
}

func (l *Log) newShard(c Config) *Shard {
	s := &Shard{
		log: l, id: c.ID, name: shardlog.ShardID(c.ID.Shard), created: c.Created, base: c.Base, codec: c.Codec, usage: c.Usage,
		next: c.Base + 1, lastAssigned: c.Base, flushAt: flushBytes, flushGaps: maxGaps,
	}
	if s.usage == nil {
		s.usage = &Usage{}
	}
	v := &view{horizon: c.Base + 1, last: c.Base}
	s.current.Store(v)
	s.newest = newestOf(v)
	return s
}

// newest is what a writer has to know of the end of a shard, in one place because it
// looks at it for each shard of an append.
type newest struct {
	last     uint64 // counter of the last record; below the first if none ever was
	lastMs   int64
	gathered int // bytes of the runs
	gaps     int
	more     *growth
}

// set makes v the readable state of s, with log.mu held.
func (s *Shard) set(v *view) {
	s.current.Store(v)
	s.log.gathered += int64(v.gathered() - s.newest.gathered)
	s.newest = newestOf(v)
}

func newestOf(v *view) newest {
	return newest{last: v.last, lastMs: v.lastMs, gathered: v.gathered(), gaps: v.gaps, more: v.more}
}

// view returns the readable state of s now.
func (s *Shard) view() *view {
	v := s.current.Load()
	if v.more == nil {
		return v
	}
	return v.more.view(v)
}

// Floor returns the counter below the next one; skipped says that it is above
// that of the last record because some were, or may have been, lost in a
// power failure, when the log was opened. It then has to be stored, for Config.Floor,
// before anything says that the log was left in order.
func (s *Shard) Floor() (floor uint64, skipped bool) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.next - 1, !s.closed && s.next > s.lastAssigned+1
}

// ID returns the numbers of s in its database.
func (s *Shard) ID() ID { return s.id }

// Name returns the ID by which users know s, such as "shardId-000000000000".
func (s *Shard) Name() string { return s.name }

// sequence composes the number of the record with the counter.
func (s *Shard) sequence(counter uint64, ms int64) shardlog.SequenceNumber {
	return shardlog.NewSequenceNumber(s.created, s.id.Shard, counter, ms/1000)
}

// owns reports whether a number is of this shard.
func (s *Shard) owns(n shardlog.SequenceNumber) bool {
	index, ok := n.Shard()
	created, _ := n.Created()
	return ok && index == s.id.Shard && created.Unix() == s.created
}

// counterOf returns the counter of a number that a shard of this log gave out.
func counterOf(n shardlog.SequenceNumber) uint64 {
	c, _ := n.Counter()
	return c
}

// Info is the state of a shard at one moment.
type Info struct {
	// First is just below the numbers of all records, Last that of the last
	// record; First if there never was one.
	First, Last shardlog.SequenceNumber
	Closed      bool
	Empty       bool  // nothing is left to read
	Records     int64 // that can be read
	Bytes       int64 // stored
	Blocks      int64 // stored blocks, and parts in the journal
	// Oldest and Newest are the arrivals of the first and the last record.
	Oldest, Newest time.Time
	// RecordsIn and so on count since the database was opened.
	RecordsIn, BytesIn, RecordsOut, BytesOut, BlocksWritten int64
}

// Info returns the state of s.
func (s *Shard) Info() Info {
	v := s.view()
	i := Info{
		First: s.sequence(s.base, s.created*1000), Last: s.sequence(v.last, v.lastMs), Closed: v.closed,
		Empty: v.after(v.horizon) == 0, Records: v.after(v.horizon), Bytes: v.bytes,
		Blocks:    int64(len(v.blocks) + len(v.allParts())),
		RecordsIn: s.stats.recordsIn.Load(), BytesIn: s.stats.bytesIn.Load(),
		RecordsOut: s.stats.recordsOut.Load(), BytesOut: s.stats.bytesOut.Load(), BlocksWritten: s.stats.blocks.Load(),
	}
	if v.last <= s.base {
		i.Last = i.First
	}
	if !i.Empty {
		i.Newest = time.UnixMilli(v.lastMs)
		if len(v.blocks) > 0 {
			i.Oldest = time.UnixMilli(v.blocks[0].firstMs)
		} else if parts := v.allParts(); len(parts) > 0 {
			i.Oldest = time.UnixMilli(parts[0].firstMs)
		}
	}
	return i
}

// part is the records of one shard in a group, at most about a block. It belongs
// to its group: to the log under mu, and to the committer once that took it. Then
// it is used again, with its memory unless a stored block is in it.
type part struct {
	shard  *Shard
	b      block.Builder
	bytes  int64       // records' sizes as users count them
	block  block.Block // what b made
	memory []byte      // what b begins in
	kept   bool        // the block is kept, and its memory with it
}

// pending is what a transaction does to one shard.
type pending struct {
	shard  *Shard
	active bool
	parts  []*part
	added  int64         // stored bytes more than before
	stored []storedBlock // blocks to be stored, in order
	runs   int           // how many runs they take over, the first ones
	due    bool          // the runs become blocks in a transaction of their own
}

// storedBlock is a block that a transaction stores.
type storedBlock struct {
	m    *memBlock
	size int64 // as stored
}

// Lost reports whether the record with the counter, which s was once given, is
// neither there nor removed by retention: a power failure took it before it was synced.
func (s *Shard) Lost(counter uint64) bool {
	v := s.view()
	if counter < v.horizon {
		return false
	}
	e, m, ok := v.find(counter)
	if !ok {
		return true
	}
	if m != nil {
		return m.b.First > counter
	}
	return e.first > counter
}

// Codec is the compression of a shard's blocks.
type Codec = block.Codec
