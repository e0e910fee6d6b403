package lease

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// heartbeat keeps this worker's row alive.
type heartbeat struct {
	g     *Group
	token string
	key   checkpoint.Key

	news      atomic.Uint64
	leaving   atomic.Bool
	triggered chan struct{} // has a token when a beat is wanted soon
	stopped   chan struct{} // closed when the beating has ended

	// row is used by register, then by the beating goroutine, then by leave.
	row checkpoint.Lease
	// tried is when the first write began of which the outcome is not known.
	tried time.Time

	mu     sync.Mutex
	last   time.Time // when the last beat that was written began
	fenced bool
	ended  bool        // fenced permanently
	timer  *time.Timer // fences when it is due
}

func newHeartbeat(g *Group) *heartbeat {
	return &heartbeat{
		g: g, token: rand.Text(), triggered: make(chan struct{}, 1), stopped: make(chan struct{}),
		key: checkpoint.Key{Group: g.c.Group, Stream: g.c.Stream + WorkersSuffix, Shard: workerPrefix + g.c.WorkerID},
	}
}

// patience is how long the worker continues without a heartbeat that was
// written. It is shorter than what others wait for, so that handlers have a
// moment to stop before another worker may begin.
func (h *heartbeat) patience() time.Duration { return h.g.c.TTL - h.g.c.TTL/10 }

func (h *heartbeat) info() workerInfo {
	return workerInfo{Most: h.g.c.MaxLeases, TTL: h.g.c.TTL, Leaving: h.leaving.Load(), News: h.news.Load()}
}

// fill sets what the row says now.
func (h *heartbeat) fill(l checkpoint.Lease) checkpoint.Lease {
	l.Key, l.StreamID, l.Owner = h.key, h.g.streamID(), h.token
	l.Beat++
	l.PreparedState, _ = json.Marshal(h.info()) // numbers and a bool always encode
	return l
}

// register makes the worker's row, or takes over that of an earlier life, and
// of a worker that has the same ID by mistake: that one is fenced.
func (h *heartbeat) register(ctx context.Context) error {
	began := time.Now()
	row, err := h.g.c.Store.Create(ctx, h.fill(checkpoint.Lease{Epoch: 1}))
	if errors.Is(err, shardlog.ErrExists) {
		if row, err = h.g.c.Store.Get(ctx, h.key); err == nil && row.Owner != h.token {
			row.Epoch++
			row, err = h.g.c.Store.Update(ctx, h.fill(row))
		}
	}
	if errors.Is(err, shardlog.ErrConflict) || errors.Is(err, shardlog.ErrNotFound) {
		// Somebody else writes the row at this moment.
		err = fmt.Errorf("%w: %v", checkpoint.ErrUnavailable, err)
	}
	if err != nil {
		return fmt.Errorf("register worker %q: %w", h.g.c.WorkerID, err)
	}
	h.row = row
	h.noteSent(began)
	return nil
}

// noteSent records a heartbeat that was written, and when that began.
func (h *heartbeat) noteSent(began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last, h.fenced = began, h.ended
	if h.timer != nil {
		h.timer.Stop()
	}
	h.timer = time.AfterFunc(time.Until(began.Add(h.patience())), h.check)
}

// check fences the worker if its time is over.
func (h *heartbeat) check() {
	if h.valid() {
		return
	}
	h.mu.Lock()
	first := !h.fenced
	h.fenced = true
	h.mu.Unlock()
	if first {
		h.g.fence()
	}
}

// valid reports whether others must still take the worker for alive. A worker
// that was suspended learns it here, before a timer has had its turn.
func (h *heartbeat) valid() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.last.IsZero() && !h.fenced && time.Since(h.last) < h.patience()
}

// end fences the worker permanently.
func (h *heartbeat) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fenced, h.ended = true, true
}

// announce lets the other workers know soon that there is something to see.
func (h *heartbeat) announce() {
	h.news.Add(1)
	h.trigger()
}

func (h *heartbeat) trigger() {
	select {
	case h.triggered <- struct{}{}:
	default:
	}
}

// loop writes heartbeats until done is closed or the store is not to be
// called any more.
func (h *heartbeat) loop(done <-chan struct{}) {
	defer close(h.stopped)
	defer h.g.c.Goroutines.Leave(h.g.c.Goroutines.Enter())
	every := h.g.c.TTL / 3
	t := time.NewTimer(every)
	defer t.Stop()
	for failures := 0; ; {
		select {
		case <-done:
			return
		case <-h.g.storing.Done():
			return
		case <-h.triggered:
		case <-t.C:
		}
		h.check()
		switch err := h.send(); {
		case err == nil:
			failures = 0
			t.Reset(every)
		case errors.Is(err, ErrLost):
			h.g.overtaken(err)
			return
		case h.g.storing.Err() != nil:
			return
		default:
			failures++
			// Heartbeats are few and come before everything else, so they
			// are tried more often than a store asks for.
			pause := min(h.g.c.Backoff.Pause(failures, err), h.g.c.TTL/20)
			h.g.c.Owner.Notify(Event{Kind: StoreFailed, Attempt: failures, Wait: pause, Err: fmt.Errorf("heartbeat: %w", err)})
			t.Reset(pause)
		}
	}
}

// otherLife is the error for a worker's row that another life of its ID has
// taken over.
func (h *heartbeat) otherLife() error {
	return fmt.Errorf("%w: another worker has the ID %q", ErrLost, h.g.c.WorkerID)
}

// send writes one heartbeat. The error matches ErrLost when another
// life of the worker's ID has begun.
func (h *heartbeat) send() error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(h.g.storing, h.g.c.TTL)
	defer cancel()
	next := h.fill(h.row)
	row, err := h.g.c.Store.Update(ctx, next)
	if errors.Is(err, shardlog.ErrConflict) {
		if row, err = h.g.c.Store.Get(ctx, h.key); err == nil && row.Owner != h.token {
			return h.otherLife()
		}
		if err == nil {
			// An earlier write of our own, of which the answer was lost: that
			// was a heartbeat too.
			h.row = row
			if !h.tried.IsZero() && h.valid() {
				h.noteSent(h.tried)
			}
			// The outcome of all that was tried is known now.
			h.tried, began = time.Time{}, time.Now()
			row, err = h.g.c.Store.Update(ctx, h.fill(row))
		}
	}
	if errors.Is(err, shardlog.ErrNotFound) {
		// Others took the worker for dead for so long that they removed it.
		next.Version = 0
		row, err = h.g.c.Store.Create(ctx, next)
	}
	if err != nil {
		if h.tried.IsZero() {
			h.tried = began
		}
		return err
	}
	h.row, h.tried = row, time.Time{}
	returned := !h.valid()
	h.noteSent(began)
	if returned {
		h.g.Wake() // to take shards again
	}
	return nil
}

// leave removes the worker's row, so that nobody waits for it. The beating has
// ended.
func (h *heartbeat) leave() {
	h.mu.Lock()
	if h.timer != nil {
		h.timer.Stop()
	}
	h.mu.Unlock()
	if h.row.Version == 0 || h.g.storing.Err() != nil {
		return
	}
	err := h.g.c.Store.Delete(h.g.storing, h.row)
	if errors.Is(err, shardlog.ErrConflict) {
		// A beat whose answer was lost; a row of another life is not ours.
		if row, e := h.g.c.Store.Get(h.g.storing, h.key); e == nil && row.Owner == h.token {
			err = h.g.c.Store.Delete(h.g.storing, row)
		}
	}
	if err != nil && !errors.Is(err, shardlog.ErrNotFound) && !errors.Is(err, shardlog.ErrConflict) {
		// The row expires by itself.
		h.g.c.Owner.Notify(Event{Kind: StoreFailed, Attempt: 1, Err: fmt.Errorf("remove worker %q: %w", h.g.c.WorkerID, err)})
	}
}
