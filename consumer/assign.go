package consumer

import (
	"context"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer/internal/lease"
	"github.com/shardlog/shardlog/internal/backoff"
)

// assigner decides which shards this worker works on. Leases in a store are
// one way (package lease); a broker's group protocol can be another. It calls
// acquire, revoke and the other methods of an owner.
type assigner interface {
	// Run assigns shards until ctx ends, or an error that does not heal has
	// been given to owner.Failed.
	Run(ctx context.Context)
	// Leaving lets the group know that this worker is shutting down.
	Leaving()
	// Leave leaves the group. Run has returned, and all shards were released.
	Leave()
	// Valid reports whether the shards are certainly still this worker's. No
	// call of the handler begins when it is false.
	Valid() bool
	// Wake makes Run look at the group again.
	Wake()
}

// ownership is one taking of a shard by this worker. A new one has a greater
// epoch. See lease.Lease for what its methods do; those that read or write the
// row are used by one goroutine at a time.
type ownership interface {
	Shard() shardlog.ShardInfo
	Epoch() uint64
	Row() checkpoint.Lease
	Checkpoint() shardlog.Position
	Context() context.Context
	OnLost(f func(cause error))
	Update(ctx context.Context, change func(*checkpoint.Lease)) error
	Commit(change func(*checkpoint.Lease)) error
	Release(change func(*checkpoint.Lease)) error
	Refresh(ctx context.Context) (checkpoint.Lease, error)
	Adopt(row checkpoint.Lease)
	Park()
	Gone()
	Finish()
}

// newLeases is the assigner that a run has unless a test sets another.
func newLeases(r *run) assigner {
	o := r.o
	return lease.New(r.storing, lease.Config{
		Source: r.src, Store: o.Store, Owner: leaseOwner{r}, Group: o.Group, Stream: o.Stream, WorkerID: o.WorkerID, Start: o.Start,
		TTL: o.LeaseTTL, HandOff: o.HandOff, DiscoverEvery: o.DiscoverEvery, MaxLeases: o.MaxLeases,
		Backoff: backoff.Policy(o.Retry), Goroutines: &r.goroutines,
	})
}

// leaseOwner is the run as package lease sees it.
type leaseOwner struct{ r *run }

func (o leaseOwner) Acquired(l *lease.Lease) { o.r.acquired(l) }

func (o leaseOwner) Revoked(l *lease.Lease) { o.r.revoked(l.Shard().ID, l.Epoch()) }

func (o leaseOwner) Failed(err error) { o.r.fail("", err) }

func (o leaseOwner) Blocked(l *lease.Lease, why string) {
	o.r.block(l.Shard().ID, l.Epoch(), why)
}

func (o leaseOwner) Notify(e lease.Event) {
	if e.ShardID != "" {
		o.r.update(e.ShardID, func(s *shard) { o.r.noteLeaseEvent(s, e, o.r.o.WorkerID) })
	}
	o.r.emit(Event{
		Kind: EventKind(e.Kind), ShardID: e.ShardID, Position: e.Position, Epoch: e.Epoch, Attempt: e.Attempt, Wait: e.Wait, Err: e.Err,
	})
}

const goneFromStream = "gone from the stream"

// noteLeaseEvent updates what Stats shows. The caller holds mu.
func (b *board) noteLeaseEvent(s *shard, e lease.Event, self string) {
	switch e.Kind {
	case lease.Acquired:
		s.stats.Epoch, s.stats.Owner, s.stats.Checkpoint, s.stats.Blocked = e.Epoch, self, e.Position, ""
		b.taken++
	case lease.Checkpointed:
		if s.stats.Epoch == e.Epoch {
			s.stats.Checkpoint = e.Position
		}
	case lease.ShardGone:
		s.stats.Blocked, s.stats.Checkpoint = goneFromStream, e.Position
	}
}

// Observed updates what Stats shows of the group, and of the shards that this
// worker does not have.
func (o leaseOwner) Observed(v lease.Overview) {
	b := o.r.board
	b.mu.Lock()
	defer b.mu.Unlock()
	b.workers, b.total, b.needed = v.Workers, v.Ready, v.Free
	for _, st := range v.Shards {
		s := b.shard(st.ShardID)
		if s.duty != nil {
			continue // acquired since
		}
		s.stats.Ended = s.stats.Ended || st.Ended
		s.stats.Checkpoint, s.stats.Owner = st.Checkpoint, st.Owner
		s.stats.block(st.Blocked)
	}
}

// acquired begins the work on a shard.
func (r *run) acquired(l ownership) {
	t := newTask(r, l)
	r.add(t.duty)
	l.OnLost(t.lose)
	r.tasks.Go(t.run)
}

// revoked asks the task of a shard to finish and give it back.
func (r *run) revoked(id string, epoch uint64) {
	if d := r.dutyOf(id); d != nil && d.epoch == epoch {
		d.finish(ErrHandOff)
	}
}
