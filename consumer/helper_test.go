package consumer_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// store is a checkpoint.Memory that counts, and fails when it is made to. What
// workers write about themselves is counted apart, and fails only when allFault is
// set.
type store struct {
	*checkpoint.Memory
	mu      sync.Mutex
	updates int
	beats   int
	// allFault is asked before each call, of whatever kind.
	allFault func() error
	// updateFault is asked before each Update. When it returns an error, the
	// row is not written, or is written anyway when write is set: then
	// only the answer is lost.
	updateFault func(l checkpoint.Lease) (write bool, err error)
	fault       func() error // before every other call
}

func newStore() *store { return &store{Memory: checkpoint.NewMemory()} }

// peer is the same store as another worker sees it, with faults of its own.
func (s *store) peer() *store { return &store{Memory: s.Memory} }

func (s *store) Update(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	if err := s.down(); err != nil {
		return checkpoint.Lease{}, err
	}
	if about(l.Key) {
		s.mu.Lock()
		s.beats++
		s.mu.Unlock()
		return s.Memory.Update(ctx, l)
	}
	s.mu.Lock()
	s.updates++
	fault := s.updateFault
	s.mu.Unlock()
	if fault != nil {
		if write, err := fault(l); err != nil {
			if write {
				_, _ = s.Memory.Update(ctx, l)
			}
			return checkpoint.Lease{}, err
		}
	}
	return s.Memory.Update(ctx, l)
}

// about reports whether a row is about a worker and not about a shard.
func about(k checkpoint.Key) bool { return strings.HasSuffix(k.Stream, "/workers") }

func (s *store) down() error {
	s.mu.Lock()
	fault := s.allFault
	s.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault()
}

// breakDown sets what every call fails with.
func (s *store) breakDown(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allFault = f
}

func (s *store) Create(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	if err := s.down(); err != nil {
		return checkpoint.Lease{}, err
	}
	return s.Memory.Create(ctx, l)
}

func (s *store) Delete(ctx context.Context, l checkpoint.Lease) error {
	if err := s.down(); err != nil {
		return err
	}
	return s.Memory.Delete(ctx, l)
}

func (s *store) Get(ctx context.Context, k checkpoint.Key) (checkpoint.Lease, error) {
	if err := s.down(); err != nil {
		return checkpoint.Lease{}, err
	}
	if s.fault != nil {
		if err := s.fault(); err != nil {
			return checkpoint.Lease{}, err
		}
	}
	return s.Memory.Get(ctx, k)
}

func (s *store) List(ctx context.Context, group, stream string) ([]checkpoint.Lease, error) {
	if err := s.down(); err != nil {
		return nil, err
	}
	if s.fault != nil {
		if err := s.fault(); err != nil {
			return nil, err
		}
	}
	return s.Memory.List(ctx, group, stream)
}

func (s *store) onUpdate(f func(l checkpoint.Lease) (bool, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.updateFault = f
}

func (s *store) updateCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.updates
}

// take writes a row as a worker does that takes the shard.
func (s *store) take(t *testing.T, shard int, owner string) checkpoint.Lease {
	t.Helper()
	l := s.row(t, shard)
	l.Owner, l.Next = owner, ""
	l.Epoch++
	l, err := s.Memory.Update(context.Background(), l)
	require.NoError(t, err)
	return l
}

// alive adds the row of a worker, which lives for as long as it beats.
func (s *store) alive(t *testing.T, id string) (beat func()) {
	t.Helper()
	l, err := s.Memory.Create(context.Background(), checkpoint.Lease{
		Key: checkpoint.Key{Group: "default", Stream: "orders/workers", Shard: "worker/" + id}, Owner: id, PreparedState: []byte("{}"),
	})
	require.NoError(t, err)
	return func() {
		t.Helper()
		l.Beat++
		l, err = s.Memory.Update(context.Background(), l)
		require.NoError(t, err)
	}
}

// owners counts the shards of each worker.
func (s *store) owners(t *testing.T) map[string]int {
	t.Helper()
	rows, err := s.Memory.List(context.Background(), "default", "orders")
	require.NoError(t, err)
	n := map[string]int{}
	for _, l := range rows {
		if !l.Ended {
			n[l.Owner]++
		}
	}
	return n
}

// row is the row of a shard of the group "default".
func (s *store) row(t *testing.T, shard int) checkpoint.Lease {
	t.Helper()
	l, err := s.Memory.Get(context.Background(), rowKey(shard))
	require.NoError(t, err)
	return l
}

func rowKey(shard int) checkpoint.Key {
	return checkpoint.Key{Group: "default", Stream: "orders", Shard: shardID(shard)}
}

// sink collects the names of the records that a handler has done, in order.
type sink struct {
	mu    sync.Mutex
	names []string
	calls []call
}

type call struct {
	shard    string
	first    string
	n        int
	attempt  int
	epoch    uint64
	shardEnd bool
	at       time.Time
}

func (k *sink) note(b *consumer.Batch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, call{
		shard: b.ShardID, first: string(b.Records[0].Data), n: len(b.Records),
		attempt: b.Attempt, epoch: b.Epoch, shardEnd: b.ShardEnd, at: time.Now(),
	})
}

func (k *sink) take(records []shardlog.Record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range records {
		k.names = append(k.names, string(r.Data))
	}
}

func (k *sink) Handle(_ context.Context, b *consumer.Batch) error {
	k.note(b)
	k.take(b.Records)
	return nil
}

func (k *sink) got() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.names...)
}

func (k *sink) batches() []call {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]call(nil), k.calls...)
}

// bubble runs f with fake time. When it ends, no goroutine may be left: that is
// a failure of synctest itself, so every test here is a test for leaks.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// running is a consumer whose Run is under way.
type running struct {
	*consumer.Consumer
	t      *testing.T
	cancel context.CancelFunc
	err    chan error
}

func start(t *testing.T, src shardlog.Source, h consumer.Handler, o consumer.Options) *running {
	t.Helper()
	if o.WorkerID == "" {
		o.WorkerID = "w" // so that one that is started again does not wait
	}
	c, err := consumer.New(src, &o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Consumer: c, t: t, cancel: cancel, err: make(chan error, 1)}
	go func() { r.err <- c.Run(ctx, h) }()
	return r
}

// settle waits until nothing moves without the passing of time.
func settle() { synctest.Wait() }

// result waits for the end of Run.
func (r *running) result() error {
	r.t.Helper()
	defer r.cancel()
	select {
	case err := <-r.err:
		return err
	case <-time.After(24 * time.Hour): // of fake time
		r.t.Fatal("Run does not return")
		return nil
	}
}

// stop shuts down and expects no error.
func (r *running) stop() {
	r.t.Helper()
	require.NoError(r.t, r.Shutdown(context.Background()))
	require.NoError(r.t, r.result())
}

// kill ends the consumer as a crash would: nothing more reaches the store.
func (r *running) kill() {
	r.t.Helper()
	require.NoError(r.t, r.Close())
	require.ErrorIs(r.t, r.result(), shardlog.ErrClosed)
}

func (r *running) stats(shard int) consumer.ShardStats {
	for _, s := range r.Stats().Shards {
		if s.ShardID == shardID(shard) {
			return s
		}
	}
	return consumer.ShardStats{}
}

// counterOf returns the counter of a number that NewSequenceNumber made.
func counterOf(n shardlog.SequenceNumber) uint64 {
	c, _ := n.Counter()
	return c
}
