package producer_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

var (
	modelSeed = flag.Uint64("model.seed", 0, "seed of one run of the model test; 0 for several random ones")
	modelRuns = flag.Int("model.runs", 150, "runs of the model test")
)

// TestModel puts records in every way, from several goroutines, through a sink
// that fails in every way, and compares what the producer reported with what
// the sink has.
func TestModel(t *testing.T) {
	seeds := []uint64{*modelSeed}
	if *modelSeed == 0 {
		seeds = seeds[:0]
		for range *modelRuns {
			seeds = append(seeds, rand.Uint64())
		}
	}
	for _, seed := range seeds {
		ok := t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newModel(t, seed).run() })
		})
		if !ok {
			t.Fatalf("run again with -run TestModel -model.seed %d", seed)
		}
	}
}

type model struct {
	t     *testing.T
	seed  uint64
	p     *producer.Producer
	order producer.Order

	mu      sync.Mutex
	rnd     *rand.Rand
	log     []stored            // what the sink has, in order
	inDoubt map[string]bool     // sent in a request with an unknown outcome
	busy    map[string]bool     // keys in a request
	results map[string][]answer // of the accepted records
	taken   map[string]bool
	last    map[string]int // number of the last callback of a key
}

type stored struct{ key, name string }

type answer struct {
	res producer.Result
	err error
}

func newModel(t *testing.T, seed uint64) *model {
	return &model{
		t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)),
		inDoubt: map[string]bool{}, busy: map[string]bool{}, results: map[string][]answer{}, taken: map[string]bool{}, last: map[string]int{},
	}
}

// chance is true with probability 1/n.
func (m *model) chance(n int) bool { return m.number(n) == 0 }

func (m *model) number(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rnd.IntN(n)
}

func (m *model) Capabilities() shardlog.Capabilities {
	return shardlog.Capabilities{OrderedRequest: true, Headers: true}
}

func (m *model) Shards(context.Context) ([]shardlog.ShardInfo, error) { return nil, nil }

// PutRecords fails in one of the ways that a Sink may.
func (m *model) PutRecords(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	m.enter(records)
	defer m.leave(records)
	latency := time.Duration(m.number(20)) * time.Millisecond
	if m.chance(30) {
		latency = time.Duration(m.number(3000)) * time.Millisecond
	}
	if m.chance(4) {
		time.Sleep(latency)
	} else if err := sleep(ctx, latency); err != nil && m.chance(2) {
		m.suspect(records)
		return nil, errors.Join(shardlog.ErrUnknownOutcome, err)
	}
	for i := range records {
		if bytes.HasPrefix(records[i].Data, []byte("poison")) && m.chance(2) {
			return nil, &shardlog.InvalidError{Field: "Data", Limit: "harmless"}
		}
	}
	switch m.number(14) {
	case 0:
		return nil, throttled(time.Duration(m.number(100)) * time.Millisecond)
	case 1:
		return nil, shardlog.ErrNoSpace
	case 2:
		m.suspect(records)
		return m.store(records, 2)[:m.number(len(records))], nil
	case 3:
		m.suspect(records)
		m.store(records, m.number(3))
		return nil, shardlog.ErrUnknownOutcome
	case 4:
		m.suspect(records)
		m.store(records, 2)
		panic("a sink that panics")
	case 5:
		return nil, errors.New("no sink knows this")
	case 6, 7, 8:
		return m.store(records, 2), nil
	}
	return m.store(records, 0), nil
}

func (m *model) enter(records []shardlog.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range records {
		k := records[i].PartitionKey
		if m.busy[k] && (m.order == producer.OrderStrict || !contains(records[:i], k)) {
			m.t.Errorf("seed %d: key %s is twice in requests", m.seed, k)
		}
		m.busy[k] = true
	}
}

func contains(records []shardlog.Record, key string) bool {
	for i := range records {
		if records[i].PartitionKey == key {
			return true
		}
	}
	return false
}

func (m *model) leave(records []shardlog.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range records {
		delete(m.busy, records[i].PartitionKey)
	}
}

func (m *model) suspect(records []shardlog.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range records {
		m.inDoubt[string(records[i].Data)] = true
	}
}

// store stores the records; one in n fails, unless n is 0. As a sink has to keep
// the order, no record of a key is stored after one that was refused for the
// moment.
func (m *model) store(records []shardlog.Record, n int) []shardlog.PutResult {
	res := make([]shardlog.PutResult, len(records))
	refused := map[string]bool{}
	for i, r := range records {
		name := string(r.Data)
		switch {
		case bytes.HasPrefix(r.Data, []byte("poison")):
			res[i].Err = &shardlog.InvalidError{Field: "Data", Limit: "harmless"}
		case m.order == producer.OrderPerKey && refused[r.PartitionKey], n > 0 && m.chance(n):
			res[i].Err = throttled(time.Duration(m.number(50)) * time.Millisecond)
			refused[r.PartitionKey] = true
		default:
			m.mu.Lock()
			m.log = append(m.log, stored{r.PartitionKey, name})
			res[i] = shardlog.PutResult{ShardID: "s", Sequence: shardlog.NewSequenceNumber(1, 0, uint64(len(m.log)), 1)}
			m.mu.Unlock()
		}
	}
	return res
}

func (m *model) run() {
	t := m.t
	if m.chance(2) {
		m.order = producer.OrderStrict
	}
	opts := &producer.Options{
		MaxBatchRecords: 1 + m.number(20), MaxInFlight: 1 + m.number(4), BufferRecords: 1 + m.number(60),
		Linger: time.Duration(m.number(3)*m.number(10)) * time.Millisecond, Order: m.order,
		TTL: time.Duration(50+m.number(5000)) * time.Millisecond, MaxAttempts: m.number(2) * (1 + m.number(8)),
		RequestTimeout: time.Duration(m.number(2)*(1+m.number(500))) * time.Millisecond,
		Retry:          producer.Retry{Initial: time.Duration(1+m.number(20)) * time.Millisecond},
		WhenFull:       producer.WhenFull(m.number(2)), BorrowData: m.chance(2),
	}
	if m.chance(3) {
		addBadHooks(opts, m.chance)
	}
	p, err := producer.New(m, opts)
	require.NoError(t, err)
	m.p = p
	var wg sync.WaitGroup
	for w := range 1 + m.number(6) {
		wg.Go(func() { m.write(w, 10+m.number(60)) })
	}
	if m.chance(3) {
		wg.Go(func() {
			time.Sleep(time.Duration(m.number(500)) * time.Millisecond)
			_ = p.Flush(context.Background())
		})
	}
	early := m.chance(3)
	if early {
		wg.Go(func() {
			time.Sleep(time.Duration(m.number(300)) * time.Millisecond)
			m.end()
		})
	}
	wg.Wait()
	m.end()
	_ = p.Shutdown(context.Background()) // until the last request has returned
	m.check()
	requireNoGoroutines(t)
}

// end ends the producer in some way.
func (m *model) end() {
	if m.chance(3) {
		_ = m.p.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+m.number(2000))*time.Millisecond)
	defer cancel()
	_ = m.p.Shutdown(ctx)
}

// write puts records of keys that no other goroutine uses.
func (m *model) write(w, n int) {
	next := 0
	record := func() shardlog.Record {
		name := fmt.Sprintf("%d-%d", w, next)
		if m.chance(40) {
			name = "poison" + name
		}
		next++
		return rec(fmt.Sprintf("w%d/%d", w, m.number(3)), name)
	}
	for next < n {
		if m.chance(5) {
			time.Sleep(time.Duration(m.number(20)) * time.Millisecond)
		}
		ctx, cancel := context.Background(), context.CancelFunc(func() {})
		if m.chance(3) {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(m.number(200))*time.Millisecond)
		}
		r := record()
		name := string(r.Data)
		switch m.number(5) {
		case 0:
			res, err := m.p.Put(ctx, r)
			m.result(name, res, err)
		case 1:
			records := []shardlog.Record{r}
			for range m.number(8) {
				records = append(records, record())
			}
			m.batch(ctx, records)
		case 2:
			m.async(r, m.p.TryPut)
		default:
			m.async(r, func(r shardlog.Record, done func(producer.Result, error)) error { return m.p.PutAsync(ctx, r, done) })
		}
		cancel()
	}
}

func (m *model) batch(ctx context.Context, records []shardlog.Record) {
	results, err := m.p.PutBatch(ctx, records)
	var batch *producer.BatchError
	if err != nil {
		require.ErrorAs(m.t, err, &batch, "seed %d", m.seed)
	}
	for i := range results {
		var one error
		if batch != nil {
			one = batch.Errors[i]
		}
		m.result(string(records[i].Data), results[i], one)
	}
}

func (m *model) async(r shardlog.Record, put func(shardlog.Record, func(producer.Result, error)) error) {
	name := string(r.Data)
	err := put(r, func(res producer.Result, err error) {
		m.result(name, res, err)
		m.checkCallbackOrder(r.PartitionKey, name)
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.taken[name] = true
	} else if n := len(m.results[name]); n > 0 {
		m.t.Errorf("seed %d: %s was refused and has %d results", m.seed, name, n)
	}
}

// checkCallbackOrder checks that the callbacks of a key come in order.
func (m *model) checkCallbackOrder(key, name string) {
	n := number(m.t, name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if last, ok := m.last[key]; ok && n < last {
		m.t.Errorf("seed %d: %s: the result of %d comes after that of %d", m.seed, key, n, last)
	}
	m.last[key] = n
}

// number is the second number of a name.
func number(t *testing.T, name string) (n int) {
	var w int
	_, err := fmt.Sscanf(strings.TrimPrefix(name, "poison"), "%d-%d", &w, &n)
	require.NoError(t, err)
	return n
}

func (m *model) result(name string, res producer.Result, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken[name] = true
	m.results[name] = append(m.results[name], answer{res, err})
}

func (m *model) check() {
	t := m.t
	m.mu.Lock()
	defer m.mu.Unlock()
	times, first := map[string]int{}, map[string]int{}
	for i, s := range m.log {
		if times[s.name]++; times[s.name] == 1 {
			first[s.name] = i
		}
	}
	for name := range m.taken {
		require.Len(t, m.results[name], 1, "seed %d: results of %s", m.seed, name)
		a := m.results[name][0]
		n := times[name]
		if a.err == nil {
			i := int(counterOf(a.res.Sequence)) - 1
			require.True(t, i >= 0 && i < len(m.log) && m.log[i].name == name, "seed %d: %s is not at %d", m.seed, name, i)
		} else if !errors.Is(a.err, shardlog.ErrUnknownOutcome) {
			require.Zero(t, n, "seed %d: %s is stored, but its result is: %v", m.seed, name, a.err)
		}
		require.True(t, n <= 1 || m.inDoubt[name], "seed %d: %s is stored %d times without need", m.seed, name, n)
	}
	last := map[string]int{}
	for i, s := range m.log {
		require.True(t, m.taken[s.name], "seed %d: %s was refused, but is stored", m.seed, s.name)
		if first[s.name] != i {
			continue // order is that of the first time
		}
		n := number(t, s.name)
		before, seen := last[s.key]
		require.True(t, !seen || before < n, "seed %d: %s: %d comes after %d", m.seed, s.key, n, before)
		last[s.key] = n
	}
	s := m.p.Stats()
	require.Zero(t, s.Pending, "seed %d", m.seed)
	require.Zero(t, s.PendingBytes, "seed %d", m.seed)
	require.Zero(t, s.Waiting, "seed %d", m.seed)
	require.Zero(t, s.InFlight, "seed %d", m.seed)
	require.Equal(t, s.Received, s.Put+s.Failed, "seed %d", m.seed)
	if m.order == producer.OrderPerKey {
		require.Zero(t, s.Reordered, "seed %d", m.seed)
	}
}
