package producer

import (
	"hash/maphash"
	"math"

	"github.com/shardlog/shardlog"
)

// config is what New fixes for the life of a producer. No lock guards it.
type config struct {
	Options
	ttl         int64 // Options.TTL in nanoseconds; 0 for none
	fullRequest int   // as many ready records fill a request
	needsShards bool  // the shard of each record has to be known
	sendsRanges bool  // the sink refuses what is on the wrong shard
	// packs is set if records may be in pages: nothing but their key says where
	// they may go, and they have no numbers.
	packs bool
	// encodes is set if the sink takes pages of encoded records.
	encodes bool
	seed    maphash.Seed // of the hashes of partition keys
	// strict is set if a request may have one record of a key only, by the
	// options or by what the sink can do.
	strict       bool
	wrapsHeaders bool // the sink stores headers only inside aggregates
	// largestRecord is what the sink takes, with the partition key; aggregates
	// must not grow above it. It is math.MaxInt where it is not known.
	largestRecord int
}

func newConfig(sink shardlog.Sink, o Options) config {
	caps := shardlog.CapabilitiesOf(sink)
	c := config{
		Options: o, ttl: max(int64(o.TTL), 0), fullRequest: o.MaxBatchRecords,
		needsShards: o.Aggregation.Enabled || o.Keyless || o.ShardRate != (ShardRate{}),
		strict:      o.keepsOrderSingly(caps), wrapsHeaders: !caps.Headers,
		largestRecord: atMost(math.MaxInt, caps.MaxRecord),
		seed:          maphash.MakeSeed(),
	}
	c.packs = !c.needsShards && o.ID == ""
	c.encodes = c.packs && !o.BorrowData && encodedSinkOf(sink) != nil
	if a := o.Aggregation; a.Enabled {
		_, takesRanges := sink.(shardlog.RequestSink)
		c.sendsRanges = takesRanges && caps.RefusesMisrouted
		// As many as there may be in a full request; its bytes come first.
		c.fullRequest = 1 << 30
		if a.MaxCount > 0 && a.MaxCount < c.fullRequest/o.MaxBatchRecords {
			c.fullRequest = a.MaxCount * o.MaxBatchRecords
		}
	}
	return c
}

// aggregates reports whether e may be a part of an aggregate.
func (c *config) aggregates(e *entry) bool {
	return c.Aggregation.Enabled && !e.notAggregated && e.maxSlots == 0 && e.dedupID() == ""
}

// storing returns what a page does with data of n bytes. Own says that the data
// may be referred to.
func (c *config) storing(n int, own bool) storing {
	switch {
	case c.encodes && n <= pageData:
		return encoded
	case own || n > pageData:
		return asItIs
	}
	return copied
}

// hashOf returns the hash of a partition key that names its key queue.
func (c *config) hashOf(key string) uint64 { return maphash.String(c.seed, key) }

// maxAggregate returns how many bytes an aggregate that is stored under a
// partition key may have: the key counts for the sink's limit, but not for
// Aggregation.MaxSize.
func (c *config) maxAggregate(key string) int {
	return min(c.Aggregation.MaxSize, c.largestRecord-len(key))
}
