package stream

import (
	"time"
)

// Stats are figures of a database. Counts begin when it was opened.
type Stats struct {
	Streams int
	Shards  int
	// Groups counts the transactions, of which appends of few records are none
	// without SyncAlways. Syncs counts the waits for the disk.
	Groups, Syncs int64
	// LiveBytes are stored and in use. DiskBytes are what the files take;
	// FreeBytes are left on the file system. Both are -1 or 0 in memory.
	LiveBytes, DiskBytes, FreeBytes int64
}

// Stats returns figures of the database. It asks the file system.
func (db *DB) Stats() Stats {
	u, live := db.log.Usage()
	s := Stats{Groups: u.Commits, Syncs: u.Syncs, LiveBytes: live, DiskBytes: u.DiskBytes, FreeBytes: u.FreeBytes}
	for _, st := range db.list() {
		s.Streams++
		s.Shards += len(st.routes.Load().all)
	}
	return s
}

// StreamStats are figures of a stream. Counts begin when the database was
// opened.
type StreamStats struct {
	// Bytes are what the stream stores.
	Bytes int64
	// Duplicates counts records that were not stored because they were there
	// already; Misrouted, those refused because of their range.
	Duplicates, Misrouted int64
	// Producers counts the identities, DedupIDs the IDs that are remembered.
	Producers, DedupIDs int
	Shards              []ShardStats
}

// ShardStats are figures of a shard. Counts begin when the database was opened.
type ShardStats struct {
	ID     string
	Closed bool
	// Records and Bytes can be read; Bytes as stored, in Blocks blocks.
	Records, Bytes, Blocks int64
	// RecordsIn and BytesIn were stored, RecordsOut and BytesOut delivered;
	// bytes as users count them.
	RecordsIn, BytesIn, RecordsOut, BytesOut int64
	// BlocksWritten counts stored blocks.
	BlocksWritten int64
	// WriteThrottles are records, ReadThrottles calls, over their limits.
	WriteThrottles, ReadThrottles int64
	// Behind is how far the last page read was behind the newest record.
	Behind time.Duration
	// OldestAge is the age of the oldest record; 0 if there is none.
	OldestAge time.Duration
}

// Stats returns figures of the stream and its shards.
func (st *Stream) Stats() StreamStats {
	s := StreamStats{Bytes: st.usage.Bytes.Load(), Duplicates: st.duplicates.Load(), Misrouted: st.misrouted.Load()}
	s.Producers, s.DedupIDs = st.producers.Len(), st.dedup.Len()
	for _, sh := range st.routes.Load().all {
		i := sh.s.Info()
		ss := ShardStats{
			ID: sh.s.Name(), Closed: sh.meta.Closed, Records: i.Records, Bytes: i.Bytes, Blocks: i.Blocks,
			RecordsIn: i.RecordsIn, BytesIn: i.BytesIn, RecordsOut: i.RecordsOut, BytesOut: i.BytesOut, BlocksWritten: i.BlocksWritten,
			WriteThrottles: sh.ctr.writeThrottles.Load(), ReadThrottles: sh.ctr.readThrottles.Load(),
			Behind: time.Duration(sh.ctr.behind.Load()),
		}
		if !i.Empty {
			ss.OldestAge = max(0, time.Since(i.Oldest)) // the clock may have been ahead
		}
		s.Shards = append(s.Shards, ss)
	}
	return s
}
