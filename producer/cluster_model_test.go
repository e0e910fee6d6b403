package producer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// TestClusterModel puts records through a sink of shards that are split and
// merged meanwhile, with and without aggregation, identity and limits, and that
// fails in every way. What the producer reported is compared with what a reader of
// the sink gets: everything that was reported as stored at least once, exactly
// once with an identity, in the order of each key.
func TestClusterModel(t *testing.T) {
	seeds := []uint64{*modelSeed}
	if *modelSeed == 0 {
		seeds = seeds[:0]
		for range *modelRuns {
			seeds = append(seeds, rand.Uint64())
		}
	}
	for _, seed := range seeds {
		ok := t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newClusterModel(t, seed).run() })
		})
		if !ok {
			t.Fatalf("run again with -run TestClusterModel -model.seed %d", seed)
		}
	}
}

type clusterModel struct {
	t    *testing.T
	seed uint64
	c    *cluster
	p    *producer.Producer
	opts *producer.Options

	mu      sync.Mutex
	rnd     *rand.Rand
	results map[string][]answer
	taken   map[string]bool
	last    map[string]int
	calm    bool // no more failures
}

func newClusterModel(t *testing.T, seed uint64) *clusterModel {
	m := &clusterModel{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 2)), results: map[string][]answer{}, taken: map[string]bool{}, last: map[string]int{}}
	caps := shardlog.Capabilities{RefusesMisrouted: !m.chance(3), Idempotent: true, DedupID: true}
	m.c = newCluster(1+m.number(4), caps)
	m.c.script, m.c.refuse = m.script, m.refuse
	m.c.answer = func(_ int, res []shardlog.PutResult) []shardlog.PutResult {
		if len(res) > 0 && m.fails(30) {
			return res[:len(res)-1]
		}
		return res
	}
	m.c.listed = func(int) error {
		if m.fails(4) {
			return errors.New("no list")
		}
		return nil
	}
	return m
}

func (m *clusterModel) number(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rnd.IntN(n)
}

func (m *clusterModel) chance(n int) bool { return m.number(n) == 0 }

// fails is chance while the sink has to fail.
func (m *clusterModel) fails(n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.calm && m.rnd.IntN(n) == 0
}

func (m *clusterModel) script(ctx context.Context, n int, req *shardlog.PutRequest) (store bool, err error) {
	if err := sleep(ctx, time.Duration(m.number(20))*time.Millisecond); err != nil {
		return m.chance(2), errors.Join(shardlog.ErrUnknownOutcome, err)
	}
	if m.fails(6) {
		m.c.reshard(m.number)
	}
	if !m.fails(3) {
		return false, nil
	}
	switch m.number(8) {
	case 0:
		return false, throttled(time.Duration(m.number(100)) * time.Millisecond)
	case 1:
		return false, shardlog.ErrNoSpace
	case 2:
		return true, shardlog.ErrUnknownOutcome
	case 3:
		return false, shardlog.ErrUnknownOutcome
	case 4: // arrives later than the answer that it has failed
		m.c.storeLater(n, req, time.Duration(m.number(500))*time.Millisecond)
		return false, shardlog.ErrUnknownOutcome
	case 5:
		_, _ = m.c.store(n, req)
		panic("a sink that panics")
	case 6:
		exit()
	}
	return m.chance(2), fmt.Errorf("%w: %w", shardlog.ErrUnknownOutcome, sleep(ctx, time.Duration(m.number(1000))*time.Millisecond))
}

func (m *clusterModel) refuse(int, int, *shardlog.Record, string) error {
	if m.rnd.IntN(40) == 0 && !m.calm { // c.mu is held, so m.mu must not be waited for
		return errThrottled
	}
	return nil
}

func (m *clusterModel) run() {
	m.c.refuse = func(n, i int, r *shardlog.Record, shard string) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.refuse(n, i, r, shard)
	}
	m.opts = &producer.Options{
		MaxBatchRecords: 1 + m.number(10), MaxInFlight: 1 + m.number(4), BufferRecords: 1 + m.number(60),
		Linger: time.Duration(m.number(3)*m.number(10)) * time.Millisecond, Order: producer.Order(m.number(2)),
		TTL: time.Duration(500+m.number(8000)) * time.Millisecond, RequestTimeout: time.Duration(m.number(2)*(1+m.number(500))) * time.Millisecond,
		Retry: producer.Retry{Initial: time.Duration(1+m.number(20)) * time.Millisecond}, Keyless: m.chance(2),
		Aggregation: producer.Aggregation{Enabled: !m.chance(3), MaxCount: m.number(12), MaxSize: 64 + m.number(400)},
	}
	if m.chance(2) {
		m.opts.ID = "p"
	}
	if m.chance(3) {
		m.opts.ShardRate = producer.ShardRate{Records: float64(m.number(2) * (20 + m.number(100))), Bytes: float64(m.number(2) * (500 + m.number(5000)))}
	}
	if m.chance(3) {
		addBadHooks(m.opts, m.chance)
	}
	var err error
	m.p, err = producer.New(m.c, m.opts)
	require.NoError(m.t, err)
	var wg sync.WaitGroup
	for w := range 1 + m.number(5) {
		wg.Go(func() { m.write(w, 10+m.number(60)) })
	}
	wg.Wait()
	m.mu.Lock()
	m.calm = m.rnd.IntN(2) == 0
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+m.number(20_000))*time.Millisecond)
	defer cancel()
	if m.p.Shutdown(ctx) != nil {
		_ = m.p.Shutdown(context.Background())
	}
	m.c.later.Wait()
	m.check()
	requireNoGoroutines(m.t)
}

func (m *clusterModel) write(w, n int) {
	for i := range n {
		if m.chance(5) {
			time.Sleep(time.Duration(m.number(20)) * time.Millisecond)
		}
		r := rec(fmt.Sprintf("w%d/%d", w, m.number(4)), fmt.Sprintf("%d-%d", w, i))
		if m.opts.Keyless && m.chance(4) {
			r.PartitionKey = ""
		}
		if m.chance(8) && r.PartitionKey != "" {
			r.PartitionKey += "x"
			r.ExplicitHashKey = shardlog.KeyHash(r.PartitionKey + "!") // always the same of a key
		}
		if m.chance(10) {
			r.Headers = []shardlog.Header{{Key: "h", Value: "v"}}
		}
		m.put(r)
	}
}

func (m *clusterModel) put(r shardlog.Record) {
	name, key := string(r.Data), r.PartitionKey
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+m.number(10_000))*time.Millisecond)
	defer cancel()
	if m.chance(4) {
		res, err := m.p.Put(ctx, r)
		m.result(name, res, err)
		return
	}
	err := m.p.PutAsync(ctx, r, func(res producer.Result, err error) {
		m.result(name, res, err)
		n := number(m.t, name)
		m.mu.Lock()
		defer m.mu.Unlock()
		if last, ok := m.last[key]; ok && n < last && key != "" {
			m.t.Errorf("seed %d: %s: the result of %d comes after that of %d", m.seed, key, n, last)
		}
		m.last[key] = n
	})
	if err == nil {
		m.mu.Lock()
		m.taken[name] = true
		m.mu.Unlock()
	}
}

func (m *clusterModel) result(name string, res producer.Result, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken[name] = true
	m.results[name] = append(m.results[name], answer{res, err})
}

func (m *clusterModel) check() {
	t, seed := m.t, m.seed
	delivered := map[string]int{}
	first := map[string]int{}
	for i, n := range m.c.names() {
		if delivered[n]++; delivered[n] == 1 {
			first[n] = i
		}
	}
	at := map[string]clusterRecord{}
	for _, r := range m.c.records() {
		at[r.shard+r.res.Sequence.String()] = r
	}
	for name := range m.taken {
		require.Len(t, m.results[name], 1, "seed %d: results of %s", seed, name)
		a := m.results[name][0]
		n := delivered[name]
		switch {
		case a.err == nil:
			require.Positive(t, n, "seed %d: %s is reported, but not delivered", seed, name)
			r, ok := at[a.res.ShardID+a.res.Sequence.String()]
			require.True(t, ok && int(a.res.SubSequence) < len(r.users), "seed %d: %s is not at %v", seed, name, a.res)
			require.Equal(t, name, string(r.users[a.res.SubSequence].Data), "seed %d", seed)
		case !errors.Is(a.err, shardlog.ErrUnknownOutcome):
			require.Zero(t, n, "seed %d: %s is delivered, but its result is: %v", seed, name, a.err)
		}
		if m.opts.ID != "" && (m.c.caps.RefusesMisrouted || !m.opts.Aggregation.Enabled) {
			require.LessOrEqual(t, n, 1, "seed %d: %s is delivered %d times", seed, name, n)
		}
	}
	m.checkOrder(first)
	s := m.p.Stats()
	require.Zero(t, s.Pending, "seed %d", seed)
	require.Zero(t, s.PendingBytes, "seed %d", seed)
	require.Zero(t, s.InFlight, "seed %d", seed)
	require.Equal(t, s.Received, s.Put+s.Failed, "seed %d", seed)
}

// checkOrder checks the order of what was reported as stored. A sink that
// cannot refuse keeps that of aggregates only if they follow each other.
func (m *clusterModel) checkOrder(first map[string]int) {
	if m.opts.Aggregation.Enabled && !m.c.caps.RefusesMisrouted && m.opts.Order != producer.OrderStrict {
		return
	}
	keys := map[string]string{}
	for _, r := range m.c.records() {
		for _, u := range r.users {
			keys[string(u.Data)] = u.PartitionKey
		}
	}
	last := map[string]string{}
	var names []string
	for n := range first {
		if m.results[n][0].err == nil && strings.HasPrefix(keys[n], "w") {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return first[a] - first[b] })
	for _, n := range names {
		k := keys[n]
		if before, ok := last[k]; ok {
			require.Less(m.t, number(m.t, before), number(m.t, n), "seed %d: %s comes after %s of %s", m.seed, n, before, k)
		}
		last[k] = n
	}
}
