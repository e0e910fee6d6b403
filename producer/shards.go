package producer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sort"
	"time"

	"github.com/shardlog/shardlog"
)

// shardMap is what the producer knows of the sink's shards.
type shardMap struct {
	version uint64        // grows with each answer of the sink
	open    []*shardState // by hash key, without gaps; nil when not known
	byID    map[string]*shardState
	retryAt int64 // not before this time after a failure
	pause   int64
	err     error // of the last try
}

// shardState is a shard and what goes to it.
type shardState struct {
	id           string
	first, last  shardlog.HashKey
	openSlot     int // the aggregate that takes more, in the request being filled; -1 for none
	limit        *limiter
	limited      keyQueueList // key queues that wait for the limiter, until free
	limitedUntil int64
}

// The pause before the sink is asked for its shards again after it failed, and
// how long it may take (those of KPL). Records wait meanwhile, so that is to be
// much less than their time to live.
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

// holds tells whether all hash keys of r belong to the shard.
func (s *shardState) holds(r shardlog.HashRange) bool {
	return s.first.Compare(r.First) <= 0 && r.Last.Compare(s.last) <= 0
}

// learnShards asks the sink for its shards, unless the answer is newer than version
// or the sink failed just before. It blocks, and is called without mu.
func (p *Producer) learnShards(version uint64) {
	select {
	case p.learning <- struct{}{}:
	case <-p.ctx.Done():
		return
	}
	defer func() { <-p.learning }()
	p.mu.Lock()
	skip := p.shards.version > version || p.now() < p.shards.retryAt || p.state == stateClosed
	p.unlock()
	if skip {
		return
	}
	ctx, cancel := context.WithTimeoutCause(p.ctx, mapTimeout, errTimeout)
	infos, err := p.listShards(ctx)
	cancel()
	p.mu.Lock()
	if err == nil {
		err = p.installShards(infos)
	}
	m := &p.shards
	m.err = err
	if err == nil {
		m.pause, m.retryAt = 0, 0
	} else {
		m.pause = min(max(m.pause*3/2, int64(mapPause)), int64(mapPauseMax))
		m.retryAt = p.now() + m.pause
	}
	open := len(m.open)
	p.unlock()
	if err != nil && p.ctx.Err() == nil {
		p.log(func(l *slog.Logger) {
			l.Warn("the sink's shards are not known", slog.Any("error", err), slog.Int("shards", open))
		})
	}
	if f := p.opts.Hooks.Shards; f != nil {
		p.callHook(func() { f(open, err) })
	}
}

// listShards calls the sink in a goroutine of its own, which it may end.
func (p *Producer) listShards(ctx context.Context) ([]shardlog.ShardInfo, error) {
	type answer struct {
		infos []shardlog.ShardInfo
		err   error
	}
	c := make(chan answer, 1)
	go func() {
		a := answer{err: errExited}
		defer func() {
			if v := recover(); v != nil {
				a.err = &PanicError{Value: v, Stack: debug.Stack()}
			}
			c <- a
		}()
		a.infos, a.err = p.sink.Shards(ctx)
	}()
	a := <-c
	return a.infos, a.err
}

// ensureShards asks for the shards when they are not known. It releases mu
// meanwhile.
func (p *Producer) ensureShards() {
	if !p.needsShards || p.shards.open != nil || p.now() < p.shards.retryAt {
		return
	}
	version := p.shards.version
	p.unlock()
	p.learnShards(version)
	p.mu.Lock()
}

var errNoShards = errors.New("the open shards do not cover the hash keys")

// installShards makes a map of the sink's answer; a bad one changes nothing.
func (p *Producer) installShards(infos []shardlog.ShardInfo) error {
	m := shardMap{version: p.shards.version + 1, byID: make(map[string]*shardState, len(infos))}
	for i := range infos {
		info := &infos[i]
		s := p.shards.byID[info.ID]
		if s == nil || s.first != info.HashStart || s.last != info.HashEnd {
			s = &shardState{id: info.ID, first: info.HashStart, last: info.HashEnd, openSlot: -1, limit: newLimiter(p.opts.Limits)}
		}
		m.byID[s.id] = s
		if !info.Closed {
			m.open = append(m.open, s)
		}
	}
	sort.Slice(m.open, func(i, j int) bool { return m.open[i].first.Compare(m.open[j].first) < 0 })
	next := shardlog.NewHashKey(0, 0)
	for i, s := range m.open {
		if s.first != next || s.last.Compare(s.first) < 0 {
			return fmt.Errorf("%w: shard %s begins at %v instead of %v", errNoShards, s.id, s.first, next)
		}
		end := i == len(m.open)-1
		var more bool
		if next, more = s.last.Next(); more == end {
			return fmt.Errorf("%w: shard %s ends at %v", errNoShards, s.id, s.last)
		}
	}
	if len(m.open) == 0 {
		return errNoShards
	}
	// Whose records may go to other shards now is decided anew.
	for _, s := range p.shards.open {
		for s.limited.head != nil {
			p.runnable.push(s.limited.pop())
		}
	}
	p.limitedUntil = 0
	p.shards = m
	return nil
}

// isMisplaced tells whether a stored aggregate is on a shard that does not hold
// all of it, so that readers drop what is outside; it happens over sinks that
// cannot refuse. When the shard is not known, it is not known to hold it.
func (p *Producer) isMisplaced(s *slot, id string) bool {
	if s.aggregate == nil || p.sendsRanges || s.shard == nil || s.shard.id == id {
		return false
	}
	on := p.shards.byID[id]
	return on == nil || !on.holds(s.span)
}

// contradictsMap tells whether an answer of the sink contradicts the map.
func (p *Producer) contradictsMap(b *request) bool {
	if !p.needsShards {
		return false
	}
	moved := func(err error) bool {
		return errors.Is(err, shardlog.ErrWrongShard) || errors.Is(err, shardlog.ErrShardClosed)
	}
	if b.err != nil {
		return moved(b.err)
	}
	for i := range b.results {
		r := &b.results[i]
		if r.Err != nil && moved(r.Err) {
			return true
		}
		// A record that was stored by an earlier attempt is where it was then.
		if s := b.slots[i].shard; r.Err == nil && !r.Duplicate && s != nil && s.id != r.ShardID {
			return true
		}
	}
	return false
}
