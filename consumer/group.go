package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// Liveness is kept in one row for each worker and not in the rows of the
// shards: a group of ten workers with a thousand shards writes a few rows a
// second to stay alive, not hundreds. That is safe because a shard is taken
// over by compare-and-set on the shard's own row all the same. The rows are in
// the same store, under the name of the stream with a suffix, so a list of the
// shards does not have them:
//
//	Shard          "worker/" and the worker's ID
//	Owner          a random token: one life of the worker
//	Epoch          how many lives the ID had
//	Beat           grows with each sign of life
//	PreparedState  what the others should know, a workerInfo
//
// One more row, named "group", says whether the group has begun: Ended is set
// when each shard of that time had its row.
const (
	workersSuffix = "/workers"
	workerPrefix  = "worker/"
	groupRow      = "group"
)

// maxWorkerID leaves room for workerPrefix in the key of a row.
const maxWorkerID = 200

// workerInfo is stored in a worker's row.
type workerInfo struct {
	// Most is Options.MaxLeases.
	Most int `json:"most,omitempty"`
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
	all  map[string]*peer
	// dead has those that count as dead, to tell when that changes.
	dead map[string]bool
	// begun: the row of the group says that it has begun.
	begun    bool
	groupRow *checkpoint.Lease
}

// observe takes in a list of the rows and tells whether anything has changed
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

// live tells whether a worker counts as alive. The worker itself does.
func (p *peers) live(id string, now time.Time) bool {
	if id == p.self {
		return true
	}
	o := p.all[id]
	return o != nil && now.Sub(o.seen) < p.ttl
}

// first tells whether this worker comes before all others that are alive.
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
		if left := p.ttl - now.Sub(o.seen); id != p.self && left > 0 {
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

// heart keeps this worker's row alive.
type heart struct {
	r     *run
	token string
	key   checkpoint.Key

	news    atomic.Uint64
	leaving atomic.Bool
	hurry   chan struct{} // has a token when a beat is wanted soon
	stopped chan struct{} // closed when the beating has ended

	// row is used by register, then by the beating goroutine, then by leave.
	row checkpoint.Lease
	// tried is when the first write began of which the outcome is not known.
	tried time.Time

	mu     sync.Mutex
	last   time.Time // when the last beat that was written began
	fenced bool
	timer  *time.Timer // fences when it is due
}

func newHeart(r *run) *heart {
	return &heart{
		r: r, token: randomText(), hurry: make(chan struct{}, 1), stopped: make(chan struct{}),
		key: checkpoint.Key{Group: r.o.Group, Stream: r.o.Stream + workersSuffix, Shard: workerPrefix + r.o.WorkerID},
	}
}

// patience is how long the worker goes on without a sign of life that was
// written. It is shorter than what others wait for, so that handlers have a
// moment to stop before another worker may begin.
func (h *heart) patience() time.Duration { return h.r.o.LeaseTTL - h.r.o.LeaseTTL/10 }

func (h *heart) info() workerInfo {
	return workerInfo{Most: h.r.o.MaxLeases, Leaving: h.leaving.Load(), News: h.news.Load()}
}

// fill sets what the row says now.
func (h *heart) fill(l checkpoint.Lease) checkpoint.Lease {
	l.Key, l.Owner = h.key, h.token
	l.Beat++
	l.PreparedState, _ = json.Marshal(h.info()) // numbers and a bool always encode
	return l
}

// register makes the worker's row, or takes over that of an earlier life, and
// of a worker that has the same ID by mistake: that one is fenced.
func (h *heart) register(ctx context.Context) error {
	began := time.Now()
	row, err := h.r.o.Store.Create(ctx, h.fill(checkpoint.Lease{Epoch: 1}))
	if errors.Is(err, shardlog.ErrExists) {
		if row, err = h.r.o.Store.Get(ctx, h.key); err == nil && row.Owner != h.token {
			row.Epoch++
			row, err = h.r.o.Store.Update(ctx, h.fill(row))
		}
	}
	if errors.Is(err, shardlog.ErrConflict) || errors.Is(err, shardlog.ErrNotFound) {
		// Somebody else writes the row at this moment.
		err = fmt.Errorf("%w: %v", checkpoint.ErrUnavailable, err)
	}
	if err != nil {
		return fmt.Errorf("register worker %q: %w", h.r.o.WorkerID, err)
	}
	h.row = row
	h.alive(began)
	return nil
}

// alive notes a sign of life that was written, and when that began.
func (h *heart) alive(began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last, h.fenced = began, false
	if h.timer != nil {
		h.timer.Stop()
	}
	h.timer = time.AfterFunc(time.Until(began.Add(h.patience())), h.check)
}

// check fences the worker if its time is over.
func (h *heart) check() {
	if h.fresh() {
		return
	}
	h.mu.Lock()
	first := !h.fenced
	h.fenced = true
	h.mu.Unlock()
	if first {
		h.r.fence()
	}
}

// fresh tells whether others must still take the worker for alive. A worker
// that was suspended learns it here, before a timer has had its turn.
func (h *heart) fresh() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.last.IsZero() && !h.fenced && time.Since(h.last) < h.patience()
}

// announce lets the other workers know soon that there is something to see.
func (h *heart) announce() {
	h.news.Add(1)
	h.soon()
}

func (h *heart) soon() {
	select {
	case h.hurry <- struct{}{}:
	default:
	}
}

// beats writes signs of life until done is closed or the store is not to be
// called any more.
func (h *heart) beats(done <-chan struct{}) {
	defer close(h.stopped)
	defer h.r.enter()()
	every := h.r.o.LeaseTTL / 3
	t := time.NewTimer(every)
	defer t.Stop()
	for failures := 0; ; {
		select {
		case <-done:
			return
		case <-h.r.storing.Done():
			return
		case <-h.hurry:
		case <-t.C:
		}
		h.check()
		switch err := h.beat(); {
		case err == nil:
			failures = 0
			t.Reset(every)
		case errors.Is(err, ErrLeaseLost):
			h.r.overtaken(err)
			return
		case h.r.storing.Err() != nil:
			return
		default:
			failures++
			// Signs of life are few and come before everything else, so they
			// are tried more often than a store asks for.
			pause := min(h.r.o.Retry.delay(failures, err), h.r.o.LeaseTTL/20)
			h.r.emit(Event{Kind: EventStoreFailed, Attempt: failures, Wait: pause, Err: fmt.Errorf("sign of life: %w", err)})
			t.Reset(pause)
		}
	}
}

// beat writes one sign of life. The error matches ErrLeaseLost when another
// life of the worker's ID has begun.
func (h *heart) beat() error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(h.r.storing, h.r.o.LeaseTTL)
	defer cancel()
	next := h.fill(h.row)
	row, err := h.r.o.Store.Update(ctx, next)
	if errors.Is(err, shardlog.ErrConflict) {
		if row, err = h.r.o.Store.Get(ctx, h.key); err == nil && row.Owner != h.token {
			return fmt.Errorf("%w: another worker has the ID %q", ErrLeaseLost, h.r.o.WorkerID)
		}
		if err == nil {
			// An earlier write of our own, of which the answer was lost: that
			// was a sign of life too.
			h.row = row
			if !h.tried.IsZero() && h.fresh() {
				h.alive(h.tried)
			}
			// The outcome of all that was tried is known now.
			h.tried, began = time.Time{}, time.Now()
			row, err = h.r.o.Store.Update(ctx, h.fill(row))
		}
	}
	if errors.Is(err, shardlog.ErrNotFound) {
		// Others took the worker for dead for so long that they removed it.
		next.Version = 0
		row, err = h.r.o.Store.Create(ctx, next)
	}
	if err != nil {
		if h.tried.IsZero() {
			h.tried = began
		}
		return err
	}
	h.row, h.tried = row, time.Time{}
	returned := !h.fresh()
	h.alive(began)
	if returned {
		h.r.poke() // to take shards again
	}
	return nil
}

// leave removes the worker's row, so that nobody waits for it. The beating has
// ended.
func (h *heart) leave() {
	h.mu.Lock()
	if h.timer != nil {
		h.timer.Stop()
	}
	h.mu.Unlock()
	if h.row.Version == 0 || h.r.storing.Err() != nil {
		return
	}
	err := h.r.o.Store.Delete(h.r.storing, h.row)
	if errors.Is(err, shardlog.ErrConflict) {
		// A beat whose answer was lost; a row of another life is not ours.
		if row, e := h.r.o.Store.Get(h.r.storing, h.key); e == nil && row.Owner == h.token {
			err = h.r.o.Store.Delete(h.r.storing, row)
		}
	}
	if err != nil && !errors.Is(err, shardlog.ErrNotFound) && !errors.Is(err, shardlog.ErrConflict) {
		// The row expires by itself.
		h.r.emit(Event{Kind: EventStoreFailed, Attempt: 1, Err: fmt.Errorf("remove worker %q: %w", h.r.o.WorkerID, err)})
	}
}
