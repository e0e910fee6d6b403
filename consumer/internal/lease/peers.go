package lease

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/shardlog/shardlog/checkpoint"
)

// Liveness is kept in one row for each worker and not in the rows of the
// shards: a group of ten workers with a thousand shards writes a few rows a
// second to stay alive, not hundreds. That is safe because a shard is taken
// over by compare-and-set on the shard's own row anyway. The rows are in
// the same store, under the name of the stream with a suffix, so a list of the
// shards does not have them:
//
//	Shard          "worker/" and the worker's ID
//	Owner          a random token: one life of the worker
//	Epoch          how many lives the ID had
//	Beat           grows with each heartbeat
//	PreparedState  what the others should know, a workerInfo
//
// One more row, named "group", says whether the group has begun: Ended is set
// when each shard of that time had its row.
const (
	WorkersSuffix = "/workers"
	workerPrefix  = "worker/"
	groupRow      = "group"
)

// MaxWorkerID leaves room for workerPrefix in the key of a row.
const MaxWorkerID = 200

// workerInfo is stored in a worker's row.
type workerInfo struct {
	// Most is Options.MaxLeases.
	Most int `json:"most,omitempty"`
	// TTL is Options.LeaseTTL, in nanoseconds: the worker stops by itself when
	// nine tenths of it are over, whatever another one's is.
	TTL time.Duration `json:"ttl,omitempty"`
	// Leaving: the worker is shutting down.
	Leaving bool `json:"leaving,omitempty"`
	// News grows when the worker changed rows of shards in a way that others
	// should look at: it asked for a shard, or gave one back.
	News uint64 `json:"news,omitempty"`
}

// peer is a worker as another one observes it. Its times are of the observer's
// monotonic clock: no clock of another machine, and no wall clock, decides.
type peer struct {
	row  checkpoint.Lease
	info workerInfo
	seen time.Time // when this version of the row was first seen
}

// peers are the workers of the group that were seen last, by ID. It is used by
// the goroutine of supervise only.
type peers struct {
	ttl  time.Duration
	self string
	// stream is the ID of the stream. A worker whose row has another one works
	// on an earlier stream, or on another one of the same name.
	stream string
	all    map[string]*peer
	// dead has those that count as dead, to notice when that changes.
	dead map[string]bool
	// begun: the row of the group says that it has begun.
	begun    bool
	groupRow *checkpoint.Lease
}

// observe takes in a list of the rows and reports whether anything has changed
// that a plan depends on.
func (p *peers) observe(rows []checkpoint.Lease, now time.Time) (changed bool) {
	listed := map[string]bool{}
	p.groupRow = nil
	for _, row := range rows {
		if row.Shard == groupRow {
			changed = changed || row.Ended != p.begun
			p.groupRow, p.begun = &row, row.Ended
			continue
		}
		id, ok := strings.CutPrefix(row.Shard, workerPrefix)
		if !ok {
			continue
		}
		listed[id] = true
		old := p.all[id]
		if old != nil && old.row.Version == row.Version {
			continue
		}
		n := &peer{row: row, seen: now}
		// A row that cannot be read is of a worker about which no more is
		// known than that it lives.
		_ = json.Unmarshal(row.PreparedState, &n.info)
		changed = changed || old == nil || old.info != n.info || old.row.Owner != row.Owner
		p.all[id] = n
	}
	for id := range p.all {
		if !listed[id] {
			delete(p.all, id)
			changed = true
		}
	}
	for id := range p.all {
		if dead := !p.live(id, now); dead != p.dead[id] {
			p.dead[id] = dead
			changed = true
		}
	}
	return changed
}

// live reports whether a worker of this stream counts as alive. The worker
// itself does.
func (p *peers) live(id string, now time.Time) bool {
	if id == p.self {
		return true
	}
	o := p.all[id]
	return o != nil && now.Sub(o.seen) < p.ttlOf(o) && !foreign(&o.row, p.stream)
}

// foreign reports whether a row is about another stream than the one with the
// ID.
func foreign(row *checkpoint.Lease, id string) bool {
	return id != "" && row.StreamID != "" && row.StreamID != id
}

// ttlOf is how long a worker without a heartbeat counts as alive: by its own
// option, or by the observer's if its row does not say.
func (p *peers) ttlOf(o *peer) time.Duration {
	if o.info.TTL > 0 {
		return o.info.TTL
	}
	return p.ttl
}

// first reports whether this worker comes before all others that are alive.
func (p *peers) first(now time.Time) bool {
	for id := range p.all {
		if id < p.self && p.live(id, now) && !p.leaving(id) {
			return false
		}
	}
	return true
}

// nextExpiry is how long until the first worker that is alive would not be.
func (p *peers) nextExpiry(now time.Time) time.Duration {
	least := p.ttl
	for id, o := range p.all {
		if left := p.ttlOf(o) - now.Sub(o.seen); id != p.self && left > 0 {
			least = min(least, left)
		}
	}
	return least
}

// members are the workers that are alive.
func (p *peers) members(self workerInfo, now time.Time) []member {
	out := []member{{id: p.self, most: self.Most, leaving: self.Leaving}}
	for id, o := range p.all {
		if id != p.self && p.live(id, now) {
			out = append(out, member{id: id, most: o.info.Most, leaving: o.info.Leaving})
		}
	}
	return out
}

// leaving reports whether a worker said that it is shutting down.
func (p *peers) leaving(id string) bool {
	o := p.all[id]
	return id != p.self && o != nil && o.info.Leaving
}
