package producer

import (
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/shardlog/shardlog"
)

// shardMap is what a producer knows of the sink's shards. The caller of its
// methods holds Producer.mu.
type shardMap struct {
	version uint64                 // grows with each answer of the sink
	open    []*shardState          // by hash key, without gaps; nil when not known
	byID    map[string]*shardState // closed ones as well

	// After the sink could not list its shards.
	retryAt int64 // it is not asked before this time
	pause   int64
}

// shardState is a shard and what goes to it.
type shardState struct {
	id           string
	first, last  shardlog.HashKey
	created      int64 // seconds, as in the numbers of its records; 0 if they do not say
	openSlot     int   // with the aggregate that takes more, in the request that is being filled; -1 for none
	limit        *limiter
	limited      keyQueueList // wait for the limiter
	limitedUntil int64        // no record may go before
}

// The pause before the sink is asked for its shards again after it failed, and
// how long an answer may take. They are KPL's. Records wait meanwhile, so both
// have to be much less than their time to live.
const (
	mapPause    = time.Second
	mapPauseMax = 30 * time.Second
	mapTimeout  = 6 * time.Second
)

// find returns the open shard of a hash key; nil when the shards are not known.
func (m *shardMap) find(k shardlog.HashKey) *shardState {
	i := sort.Search(len(m.open), func(i int) bool { return m.open[i].first.Compare(k) > 0 })
	if i == 0 {
		return nil
	}
	return m.open[i-1]
}

// holds reports whether all hash keys of r belong to the shard.
func (s *shardState) holds(r shardlog.HashRange) bool {
	return s.first.Compare(r.First) <= 0 && r.Last.Compare(s.last) <= 0
}

// stored reports whether a record with this result is on the shard: a stream
// that is created under the name of a deleted one has shards of the same IDs.
func (s *shardState) stored(r *shardlog.PutResult) bool {
	if s.id != r.ShardID || s.created == 0 {
		return s.id == r.ShardID
	}
	created := createdIn(r.Sequence)
	return created == 0 || created == s.created
}

// createdIn is the second in which the shard of a number was created; 0 if the
// number does not say.
func createdIn(n shardlog.SequenceNumber) int64 {
	t, ok := n.Created()
	if !ok {
		return 0
	}
	return t.Unix()
}

// nextLimited returns when the first of the key queues that wait for a limit
// may go; 0 if none does.
func (m *shardMap) nextLimited() (at int64) {
	for _, s := range m.open {
		if s.limited.head != nil && (at == 0 || s.limitedUntil < at) {
			at = s.limitedUntil
		}
	}
	return at
}

// onFailure sets when the sink may be asked for its shards again.
func (m *shardMap) onFailure(now int64) {
	m.pause = min(max(m.pause*3/2, int64(mapPause)), int64(mapPauseMax))
	m.retryAt = now + m.pause
}

var errNoShards = errors.New("the open shards do not cover the hash keys")

// replace makes m the map of the sink's answer, and moves the key queues that
// waited for a limit to runnable, because their records may have another shard
// now. An answer whose open shards have gaps changes nothing.
func (m *shardMap) replace(infos []shardlog.ShardInfo, limits ShardRate, runnable *keyQueueList) error {
	byID := make(map[string]*shardState, len(infos))
	var open []*shardState
	for i := range infos {
		info := &infos[i]
		s, created := m.byID[info.ID], createdIn(info.First)
		if s == nil || s.first != info.HashStart || s.last != info.HashEnd || s.created != created {
			s = &shardState{id: info.ID, first: info.HashStart, last: info.HashEnd, created: created, openSlot: -1, limit: newLimiter(limits)}
		}
		byID[s.id] = s
		if !info.Closed {
			open = append(open, s)
		}
	}
	sort.Slice(open, func(i, j int) bool { return open[i].first.Compare(open[j].first) < 0 })
	if err := checkCover(open); err != nil {
		return err
	}
	for _, s := range m.open {
		for s.limited.head != nil {
			runnable.push(s.limited.pop())
		}
	}
	*m = shardMap{version: m.version + 1, open: open, byID: byID}
	return nil
}

// checkCover checks that the shards, by hash key, cover all hash keys once.
func checkCover(open []*shardState) error {
	if len(open) == 0 {
		return errNoShards
	}
	next := shardlog.NewHashKey(0, 0)
	for i, s := range open {
		if s.first != next || s.last.Compare(s.first) < 0 {
			return fmt.Errorf("%w: shard %s begins at %v instead of %v", errNoShards, s.id, s.first, next)
		}
		end := i == len(open)-1
		var more bool
		if next, more = s.last.Next(); more == end {
			return fmt.Errorf("%w: shard %s ends at %v", errNoShards, s.id, s.last)
		}
	}
	return nil
}
