// Package lease divides the shards of a stream among the workers of a group by
// rows in a checkpoint.Store: one for each shard, which says who works on it
// and how far the work is, and one for each worker, which is its heartbeat.
//
// A Group is one worker. It finds shards, acquires those that are its own,
// hands over those that others ask for, and calls an Owner, which does the
// work: package consumer. Nothing here reads records or calls a handler.
package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/backoff"
	"github.com/shardlog/shardlog/internal/reentry"
)

// ErrLost: another worker has the shard, or may have it.
var ErrLost = errors.New("lease lost")

// Owner does the work on the shards that a Group acquires. Its methods are
// called by several goroutines at a time, and with no lock held.
type Owner interface {
	// Acquired begins the work on a shard. It does not block. The owner calls
	// Finish of the Lease when it has ended, in whatever way.
	Acquired(l *Lease)
	// Revoked asks the owner to finish what is under way and to call Release,
	// because another worker is to have the shard. It may come more than once,
	// and after the work has ended.
	Revoked(l *Lease)
	// Notify reports an event.
	Notify(e Event)
	// Blocked reports why a shard does not advance, "" when it does.
	Blocked(l *Lease, why string)
	// Observed reports what the group looked like at the last round.
	Observed(o Overview)
	// Failed ends the worker with an error that does not heal.
	Failed(err error)
}

// Config says what a Group works with. Every field but MaxLeases is set.
type Config struct {
	Source                  shardlog.Source
	Store                   checkpoint.Store
	Owner                   Owner
	Group, Stream, WorkerID string
	Start                   shardlog.Position
	// TTL is how long a worker without a heartbeat is taken for alive.
	TTL time.Duration
	// HandOff is how long a shard may stay with its owner after another worker
	// has asked for it.
	HandOff       time.Duration
	DiscoverEvery time.Duration
	MaxLeases     int // 0 is no bound
	Backoff       backoff.Policy
	// Goroutines records those that call Owner.
	Goroutines *reentry.Goroutines
}

// Kind says what an Event is about.
type Kind string

// The kinds of Event, by the names that package consumer gives them.
const (
	Acquired       Kind = "lease taken"
	Asked          Kind = "lease asked for"
	Fenced         Kind = "fenced"
	RowMissing     Kind = "row missing"
	ShardGone      Kind = "shard gone"
	Checkpointed   Kind = "checkpoint"
	StoreFailed    Kind = "store failed"
	DiscoverFailed Kind = "discovery failed"
)

// Event is one thing that happened in a group.
type Event struct {
	Kind     Kind
	ShardID  string
	Position shardlog.Position
	Epoch    uint64
	Attempt  int
	Wait     time.Duration
	Err      error
}

// Overview is a group at one moment, as this worker sees it.
type Overview struct {
	// Workers are those alive, this one included; Ready the shards that can be
	// worked on, and Free those of them that nobody has.
	Workers, Ready, Free int
	// Shards are those that this worker does not have.
	Shards []ShardState
}

// ShardState is what the group knows of a shard that this worker does not have.
type ShardState struct {
	ShardID    string
	Owner      string // "" is nobody
	Checkpoint shardlog.Position
	Ended      bool
	Blocked    string // why nobody works on it; "" when somebody does
}

// Group is one worker of a group. Make one with New; Run it, and Leave when all
// its shards were released. Its other methods are safe for concurrent use.
type Group struct {
	c         Config
	heartbeat *heartbeat
	storing   context.Context // ends when the store is not to be called any more
	wake      chan struct{}   // has a token when the shards should be looked at again
	left      chan struct{}   // closed by Leave
	ending    sync.Once       // of overtaken
	// stream is the ID of the stream once it is known, and never changes then.
	// The goroutine of Run sets it.
	stream atomic.Pointer[string]

	// These are used by the goroutine of Run only. Watch has a token when the
	// store, if it is a checkpoint.Watcher, has something new. Unlisted has
	// since when the stream lacks a shard that has a row, asked since when this
	// worker has asked for a shard, free since when a shard was seen to have no
	// owner.
	watch    <-chan struct{}
	peers    peers
	joined   bool
	nextSync time.Time
	syncTook time.Duration
	unlisted map[string]time.Time
	asked    map[string]seenSince
	free     map[string]seenSince

	// mu is never held during I/O, a callback or a wait.
	mu     sync.Mutex
	shards map[string]*shardState
}

// shardState is what the worker remembers of a shard between two rounds. Its
// fields are guarded by Group.mu.
type shardState struct {
	// lease is this worker's; nil when it does not have the shard. One that was
	// lost stays here until its owner has finished, or another one is acquired.
	lease *Lease
	// epoch is the largest one that was seen. A row that was lost and is
	// created again must not bring old fencing tokens back.
	epoch uint64
	// gone: the source does not have the shard any more, or, if expired is set,
	// still lists it but has nothing of it.
	gone, expired bool
	// parked: the worker keeps the shard but does not work on it.
	parked bool
	ended  bool
}

// New returns a worker that has not joined yet. No call of the store outlives
// storing.
func New(storing context.Context, c Config) *Group {
	g := &Group{
		c: c, storing: storing, wake: make(chan struct{}, 1), left: make(chan struct{}),
		unlisted: map[string]time.Time{}, shards: map[string]*shardState{},
		peers: peers{ttl: c.TTL, self: c.WorkerID, all: map[string]*peer{}, dead: map[string]bool{}},
	}
	g.heartbeat = newHeartbeat(g)
	return g
}

// Run joins the group, finds shards and acquires this worker's part of them,
// until ctx ends. After an error that does not heal it calls Owner.Failed and
// returns.
func (g *Group) Run(ctx context.Context) {
	if w, ok := g.c.Store.(checkpoint.Watcher); ok {
		g.watch = w.Watch(ctx, g.c.Group, g.c.Stream)
	}
	if g.join(ctx) {
		g.supervise(ctx)
	}
}

// Leaving lets the others know that this worker is shutting down, so that they
// take its shards as it releases them. It does not block.
func (g *Group) Leaving() {
	g.heartbeat.leaving.Store(true)
	g.heartbeat.trigger()
}

// Leave ends the heartbeat and removes the worker's row. Run has returned, and
// all shards were released.
func (g *Group) Leave() {
	close(g.left)
	if g.joined {
		<-g.heartbeat.stopped
		g.heartbeat.leave()
	}
}

// Valid reports whether other workers must still take this one for alive. No
// work may begin when it is false.
func (g *Group) Valid() bool { return g.heartbeat.valid() }

// Wake makes Run look at the shards again.
func (g *Group) Wake() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// fence ends the work on all shards, because other workers may take this one
// for dead. When the store can be reached again, shards are acquired again.
func (g *Group) fence() {
	id := g.c.Goroutines.Enter()
	defer g.c.Goroutines.Leave(id)
	err := fmt.Errorf("%w: the checkpoint store could not be reached for %v", ErrLost, g.heartbeat.patience())
	g.loseAll(err)
	g.c.Owner.Notify(Event{Kind: Fenced, Err: err})
}

// overtaken ends the worker because another life of its ID has begun. It is
// fenced before its work ends: a round that finds that a shard is not worked on
// any more must not take it back, for the row has this worker's name.
func (g *Group) overtaken(err error) {
	g.ending.Do(func() {
		g.heartbeat.end()
		g.loseAll(err)
		g.c.Owner.Failed(err)
	})
}

func (g *Group) loseAll(cause error) {
	g.mu.Lock()
	var leases []*Lease
	for _, s := range g.shards {
		if s.lease != nil {
			leases = append(leases, s.lease)
		}
	}
	g.mu.Unlock()
	for _, l := range leases {
		l.lose(cause)
	}
}

// update changes what is known of a shard.
func (g *Group) update(id string, f func(s *shardState)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(g.shard(id))
}

// shard returns what is known of a shard. The caller holds mu.
func (g *Group) shard(id string) *shardState {
	s, ok := g.shards[id]
	if !ok {
		s = &shardState{}
		g.shards[id] = s
	}
	return s
}

func (g *Group) key(shardID string) checkpoint.Key {
	return checkpoint.Key{Group: g.c.Group, Stream: g.c.Stream, Shard: shardID}
}

// Permanent reports whether trying again cannot help. Errors that are not
// known, such as those of a network, are taken to heal.
func Permanent(err error) bool {
	if errors.Is(err, checkpoint.ErrUnavailable) || shardlog.Retryable(err) {
		return false
	}
	for _, target := range []error{
		ErrLost, shardlog.ErrInvalid, shardlog.ErrNotFound, shardlog.ErrClosed, shardlog.ErrConflict,
		shardlog.ErrCorrupt, shardlog.ErrVersion, shardlog.ErrStorage, shardlog.ErrExpired, shardlog.ErrUnsupported,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// Sleep waits for d and reports whether ctx is still alive.
func Sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}
