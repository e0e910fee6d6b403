package consumer

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// fakeAssigner gives and takes shards as a test says, as a broker would that
// keeps the group itself: there are no rows, no heartbeat and no plan.
type fakeAssigner struct {
	r       *run
	mu      sync.Mutex
	valid   bool
	leaving bool
	left    bool
}

func (a *fakeAssigner) Run(ctx context.Context) { <-ctx.Done() }
func (a *fakeAssigner) Leaving()                { a.mu.Lock(); defer a.mu.Unlock(); a.leaving = true }
func (a *fakeAssigner) Leave()                  { a.mu.Lock(); defer a.mu.Unlock(); a.left = true }
func (a *fakeAssigner) Valid() bool             { a.mu.Lock(); defer a.mu.Unlock(); return a.valid }
func (a *fakeAssigner) Wake()                   {}

// give assigns a shard from a position on.
func (a *fakeAssigner) give(id string, epoch uint64, from shardlog.Position) *fakeOwnership {
	o := &fakeOwnership{info: shardlog.ShardInfo{ID: id}}
	o.row.Epoch, o.row.Checkpoint, o.row.Owner = epoch, from, "me"
	o.ctx, o.end = context.WithCancelCause(a.r.storing)
	a.r.acquired(o)
	return o
}

// fakeOwnership keeps the position in memory.
type fakeOwnership struct {
	info     shardlog.ShardInfo
	ctx      context.Context
	end      context.CancelCauseFunc
	mu       sync.Mutex
	row      checkpoint.Lease
	onLost   func(error)
	finished int
}

func (o *fakeOwnership) Shard() shardlog.ShardInfo     { return o.info }
func (o *fakeOwnership) Epoch() uint64                 { return o.Row().Epoch }
func (o *fakeOwnership) Context() context.Context      { return o.ctx }
func (o *fakeOwnership) OnLost(f func(error))          { o.onLost = f }
func (o *fakeOwnership) Row() checkpoint.Lease         { o.mu.Lock(); defer o.mu.Unlock(); return o.row }
func (o *fakeOwnership) Checkpoint() shardlog.Position { return o.Row().Checkpoint }
func (o *fakeOwnership) Adopt(l checkpoint.Lease)      { o.mu.Lock(); defer o.mu.Unlock(); o.row = l }
func (o *fakeOwnership) Park()                         {}
func (o *fakeOwnership) Gone()                         {}
func (o *fakeOwnership) Finish()                       { o.mu.Lock(); defer o.mu.Unlock(); o.finished++ }

func (o *fakeOwnership) Commit(change func(*checkpoint.Lease)) error {
	if o.ctx.Err() != nil {
		return context.Cause(o.ctx)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.row)
	return nil
}

func (o *fakeOwnership) Update(_ context.Context, change func(*checkpoint.Lease)) error {
	return o.Commit(change)
}

func (o *fakeOwnership) Refresh(context.Context) (checkpoint.Lease, error) { return o.Row(), nil }

func (o *fakeOwnership) Release(change func(*checkpoint.Lease)) error {
	return o.Commit(func(l *checkpoint.Lease) {
		if change != nil {
			change(l)
		}
		l.Owner = ""
	})
}

func (o *fakeOwnership) lose(cause error) {
	o.end(cause)
	o.onLost(cause)
}

// pages is a source whose shards each have ten records.
type pages struct{}

func (pages) Shards(context.Context) ([]shardlog.ShardInfo, error) { return nil, nil }

func numbered(n uint64) shardlog.SequenceNumber { return shardlog.NewSequenceNumber(1, 0, n, 1) }

func counter(s shardlog.SequenceNumber) uint64 {
	n, _ := s.Counter()
	return n
}

func (pages) Read(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	next := uint64(1)
	if req.From.Sequence().IsSet() {
		next = counter(req.From.Sequence()) + 1
	}
	if next <= 10 {
		return shardlog.Page{
			Records: []shardlog.Record{{PartitionKey: "k", Sequence: numbered(next), ShardID: req.ShardID}},
			Next:    shardlog.After(numbered(next)),
		}, nil
	}
	select {
	case <-ctx.Done():
	case <-time.After(req.Wait):
	}
	return shardlog.Page{Next: req.From}, ctx.Err()
}

// Reading and handling need nothing of leases: anyone who assigns shards, the
// batches come from where it says, with its epoch; what it revokes is finished
// and released; what it takes away is stopped.
func TestWorkUnderAnyAssigner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fake *fakeAssigner
		c, err := New(pages{}, &Options{Stream: "s", Store: checkpoint.NewMemory(), WorkerID: "me"})
		require.NoError(t, err)
		c.assign = func(r *run) assigner {
			fake = &fakeAssigner{r: r, valid: true}
			return fake
		}
		var mu sync.Mutex
		got := map[string][]uint64{}
		stuck := make(chan error, 1)
		ended := make(chan error, 1)
		go func() {
			ended <- c.Run(t.Context(), HandlerFunc(func(ctx context.Context, b *Batch) error {
				mu.Lock()
				got[b.ShardID] = append(got[b.ShardID], counter(b.Records[0].Sequence))
				mu.Unlock()
				if b.ShardID == "lost" {
					<-ctx.Done()
					stuck <- context.Cause(ctx)
					return ctx.Err()
				}
				assert.Equal(t, uint64(7), b.Epoch)
				return nil
			}))
		}()
		synctest.Wait()
		a := fake.give("a", 7, shardlog.After(numbered(6)))
		lost := fake.give("lost", 9, shardlog.TrimHorizon())
		synctest.Wait()
		assert.Equal(t, []uint64{7, 8, 9, 10}, got["a"])
		assert.Equal(t, shardlog.After(numbered(10)), a.Row().Checkpoint)

		lost.lose(ErrLeaseLost)
		synctest.Wait()
		require.ErrorIs(t, <-stuck, ErrLeaseLost)
		assert.Equal(t, 1, lost.finished)
		assert.Equal(t, shardlog.TrimHorizon(), lost.Row().Checkpoint)

		fake.r.revoked("a", 6) // of an earlier time
		synctest.Wait()
		assert.Equal(t, "me", a.Row().Owner)
		fake.r.revoked("a", 7)
		synctest.Wait()
		assert.Empty(t, a.Row().Owner)
		assert.Equal(t, 1, a.finished)

		b := fake.give("b", 7, shardlog.TrimHorizon())
		synctest.Wait()
		require.NoError(t, c.Shutdown(t.Context()))
		require.NoError(t, <-ended)
		assert.Len(t, got["b"], 10)
		assert.Empty(t, b.Row().Owner, "a shutdown releases")
		assert.True(t, fake.leaving)
		assert.True(t, fake.left)
	})
}
