//go:build unix

package consumer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

var chaosFor = flag.Duration("chaos", 4*time.Second, "how long TestChaos disturbs the group")

// TestMain lets the test binary be a worker, to be killed and stopped.
func TestMain(m *testing.M) {
	if url := os.Getenv("CONSUMER_CHAOS_URL"); url != "" {
		lanes, _ := strconv.Atoi(os.Getenv("CONSUMER_CHAOS_LANES"))
		if err := chaosWorker(url, lanes, os.Getenv("CONSUMER_CHAOS_EXACTLY") != ""); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// The errors that the server of the chaos test distinguishes from others.
var chaosErrors = map[int]error{
	404: shardlog.ErrNotFound, 409: shardlog.ErrConflict, 410: shardlog.ErrExists, 416: shardlog.ErrExpired, 422: shardlog.ErrInvalid,
}

// remote is a source and a store in another process.
type remote struct{ url string }

func (r *remote) Name() string { return "chaos" }

// call posts in and reads out.
func (r *remote) call(ctx context.Context, op string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/"+op, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", checkpoint.ErrUnavailable, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("%w: %w", checkpoint.ErrUnavailable, err)
	}
	if res.StatusCode != 200 {
		known := chaosErrors[res.StatusCode]
		if known == nil {
			known = checkpoint.ErrUnavailable
		}
		return fmt.Errorf("%w: %s: %s", known, op, answer)
	}
	return json.Unmarshal(answer, out)
}

func (r *remote) Shards(ctx context.Context) (out []shardlog.ShardInfo, err error) {
	err = r.call(ctx, "shards", nil, &out)
	return out, err
}

func (r *remote) Read(ctx context.Context, req shardlog.ReadRequest) (out shardlog.Page, err error) {
	err = r.call(ctx, "read", req, &out)
	return out, err
}

func (r *remote) Create(ctx context.Context, l checkpoint.Lease) (out checkpoint.Lease, err error) {
	err = r.call(ctx, "create", l, &out)
	return out, err
}

func (r *remote) Get(ctx context.Context, k checkpoint.Key) (out checkpoint.Lease, err error) {
	err = r.call(ctx, "get", k, &out)
	return out, err
}

func (r *remote) List(ctx context.Context, group, stream string) (out []checkpoint.Lease, err error) {
	err = r.call(ctx, "list", checkpoint.Key{Group: group, Stream: stream}, &out)
	return out, err
}

func (r *remote) Update(ctx context.Context, l checkpoint.Lease) (out checkpoint.Lease, err error) {
	err = r.call(ctx, "update", l, &out)
	return out, err
}

func (r *remote) Delete(ctx context.Context, l checkpoint.Lease) error {
	return r.call(ctx, "delete", l, new(any))
}

// remoteTx is a transaction of the parent's: names are counted and the row is
// written together, or neither.
type remoteTx struct {
	Names []string
	Lease checkpoint.Lease
}

func (r *remote) UpdateTx(ctx context.Context, tx *remoteTx, l checkpoint.Lease) (checkpoint.Lease, error) {
	row, err := r.Get(ctx, l.Key)
	if err == nil && row.Version != l.Version {
		err = shardlog.ErrConflict
	}
	tx.Lease = l
	l.Version++
	return l, err
}

// chaosWorker reports to the parent what it has handled, batch by batch; exactly
// says that it does so in transactions.
func chaosWorker(url string, lanes int, exactly bool) error {
	r := &remote{url}
	c, err := consumer.New(r, &consumer.Options{
		Store: r, MaxBatchRecords: 20, Lanes: lanes, LeaseTTL: time.Second, HandOff: time.Second, DiscoverEvery: time.Second, PollWait: time.Second,
		Retry: consumer.Retry{Initial: 10 * time.Millisecond, Max: 200 * time.Millisecond},
	})
	if err != nil {
		return err
	}
	return c.Run(context.Background(), consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		if rand.IntN(20) == 0 {
			return errors.New("not this time")
		}
		var names []string
		for _, rec := range b.Records {
			names = append(names, string(rec.Data))
		}
		if !exactly || len(names) == 0 {
			return r.call(ctx, "done", names, new(any))
		}
		tx := &remoteTx{Names: names}
		if err := consumer.CheckpointIn(ctx, b, tx, shardlog.After(b.Records[len(b.Records)-1].Sequence)); err != nil {
			return err
		}
		if rand.IntN(10) == 0 {
			return errors.New("rolled back")
		}
		return r.call(ctx, "commit", tx, new(any))
	}))
}

// chaos is the parent: the stream, the store, and the ledger.
type chaos struct {
	st    *stream.Stream
	store *checkpoint.Memory
	down  atomic.Bool // the store

	commits sync.Mutex

	mu        sync.Mutex
	put       map[string]int // records put of each key
	delivered map[string]int // the next one expected of each key
	twice     int
	wrong     []string
}

func (c *chaos) handler() http.Handler {
	mux := http.NewServeMux()
	serve := func(op string, store bool, f func(ctx context.Context, in []byte) (any, error)) {
		mux.HandleFunc("/"+op, func(w http.ResponseWriter, r *http.Request) {
			in, err := io.ReadAll(r.Body)
			var out any
			if err == nil && store && c.down.Load() {
				err = checkpoint.ErrUnavailable
			}
			if err == nil {
				out, err = f(r.Context(), in)
			}
			if err == nil {
				_ = json.NewEncoder(w).Encode(out)
				return
			}
			status := 500
			for code, target := range chaosErrors {
				if errors.Is(err, target) {
					status = code
				}
			}
			http.Error(w, err.Error(), status)
		})
	}
	lease := func(f func(ctx context.Context, l checkpoint.Lease) (any, error)) func(context.Context, []byte) (any, error) {
		return func(ctx context.Context, in []byte) (any, error) {
			var l checkpoint.Lease
			if err := json.Unmarshal(in, &l); err != nil {
				return nil, err
			}
			return f(ctx, l)
		}
	}
	serve("shards", false, func(ctx context.Context, _ []byte) (any, error) { return c.st.Shards(ctx) })
	serve("read", false, func(ctx context.Context, in []byte) (any, error) {
		var req shardlog.ReadRequest
		if err := json.Unmarshal(in, &req); err != nil {
			return nil, err
		}
		return c.st.Read(ctx, req)
	})
	serve("create", true, lease(func(ctx context.Context, l checkpoint.Lease) (any, error) { return c.store.Create(ctx, l) }))
	serve("update", true, lease(func(ctx context.Context, l checkpoint.Lease) (any, error) { return c.store.Update(ctx, l) }))
	serve("delete", true, lease(func(ctx context.Context, l checkpoint.Lease) (any, error) { return nil, c.store.Delete(ctx, l) }))
	serve("get", true, lease(func(ctx context.Context, l checkpoint.Lease) (any, error) { return c.store.Get(ctx, l.Key) }))
	serve("list", true, lease(func(ctx context.Context, l checkpoint.Lease) (any, error) {
		return c.store.List(ctx, l.Group, l.Stream)
	}))
	serve("done", false, func(_ context.Context, in []byte) (any, error) {
		var names []string
		if err := json.Unmarshal(in, &names); err != nil {
			return nil, err
		}
		c.note(names)
		return nil, nil
	})
	serve("commit", true, func(_ context.Context, in []byte) (any, error) {
		var tx remoteTx
		if err := json.Unmarshal(in, &tx); err != nil {
			return nil, err
		}
		switch rand.IntN(20) {
		case 0:
			time.AfterFunc(time.Duration(rand.IntN(50))*time.Millisecond, func() { _ = c.commit(tx) })
			return nil, checkpoint.ErrUnavailable
		case 1:
			_ = c.commit(tx)
			return nil, checkpoint.ErrUnavailable
		}
		return nil, c.commit(tx)
	})
	return mux
}

// commit counts the names if the row is as the transaction saw it.
func (c *chaos) commit(tx remoteTx) error {
	c.commits.Lock() // so that the ledger has the order of the commits
	defer c.commits.Unlock()
	if _, err := c.store.Update(context.Background(), tx.Lease); err != nil {
		return err
	}
	c.note(tx.Names)
	return nil
}

// note counts deliveries: each record of a key comes for the first time right
// after the one before it.
func (c *chaos) note(names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		var key string
		var n int
		if _, err := fmt.Sscanf(name, "%s %d", &key, &n); err != nil {
			c.wrong = append(c.wrong, name)
			continue
		}
		switch next := c.delivered[key]; {
		case n == next:
			c.delivered[key]++
		case n < next:
			c.twice++
		default:
			c.wrong = append(c.wrong, fmt.Sprintf("%s came when %d was next", name, next))
		}
	}
}

// produce puts records until ctx ends.
func (c *chaos) produce(ctx context.Context, keys []string) {
	for ctx.Err() == nil {
		var batch []shardlog.Record
		for _, key := range keys {
			batch = append(batch, shardlog.Record{PartitionKey: key, Data: fmt.Appendf(nil, "%s %d", key, c.count(key))})
		}
		results, err := c.st.PutRecords(context.WithoutCancel(ctx), batch)
		for i := range results {
			if err == nil && results[i].Err == nil {
				c.mu.Lock()
				c.put[keys[i]]++
				c.mu.Unlock()
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (c *chaos) count(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.put[key]
}

// reshard splits and merges at random until ctx ends.
func (c *chaos) reshard(t *testing.T, ctx context.Context) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(100+rand.IntN(300)) * time.Millisecond)
		n := 1 + rand.IntN(6)
		if err := c.st.Reshard(context.WithoutCancel(ctx), n); err != nil {
			t.Errorf("reshard to %d: %v", n, err)
		}
	}
}

func (c *chaos) behind() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for key, put := range c.put {
		n += put - c.delivered[key]
	}
	return n
}

// TestChaos runs a group of processes over a stream that is resharded, while
// workers, with lanes and without, are killed and suspended and the store fails:
// everything arrives, and in the order of each key; with checkpoints in the transactions that count the
// records, of which some are rolled back and some committed with their answers
// lost or late, everything counts once. It runs in real time, because processes
// do.
func TestChaos(t *testing.T) {
	t.Run("at least once", func(t *testing.T) { runChaos(t, false) })
	t.Run("exactly once", func(t *testing.T) { runChaos(t, true) })
}

// newChaos returns a parent with a stream of so many shards, and a function
// that starts a worker, which the caller ends with kill.
func newChaos(t *testing.T, shards int, exactly bool) (c *chaos, spawn func() *exec.Cmd) {
	db, err := stream.Open("", &stream.Options{InMemory: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	st, err := db.Create(t.Context(), "chaos", stream.Config{Shards: shards})
	require.NoError(t, err)
	c = &chaos{st: st, store: checkpoint.NewMemory(), put: map[string]int{}, delivered: map[string]int{}}
	server := httptest.NewServer(c.handler())
	t.Cleanup(server.Close)
	spawned := 0
	return c, func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CONSUMER_CHAOS_URL="+server.URL)
		if exactly {
			cmd.Env = append(cmd.Env, "CONSUMER_CHAOS_EXACTLY=1")
		} else {
			// A shard goes from workers with lanes to others without, and back.
			cmd.Env = append(cmd.Env, fmt.Sprintf("CONSUMER_CHAOS_LANES=%d", []int{4, 1, 8}[spawned%3]))
			spawned++
		}
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		return cmd
	}
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// caughtUp waits until everything that was put has been delivered.
func (c *chaos) caughtUp() {
	for deadline := time.Now().Add(time.Minute); c.behind() > 0 && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
}

// A process that was suspended for longer than its lease, as a virtual machine
// that is moved: what it was about to store is refused when it wakes up, and it
// continues as a worker like any other.
func TestScenario21SuspendedWorker(t *testing.T) {
	c, spawn := newChaos(t, 2, true)
	keys := []string{"a", "b", "c", "d"}
	puts := func(d time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		c.produce(ctx, keys)
	}
	first := spawn()
	defer kill(first)
	puts(200 * time.Millisecond)
	c.caughtUp()
	var wg sync.WaitGroup
	wg.Go(func() { puts(300 * time.Millisecond) })
	time.Sleep(100 * time.Millisecond) // so that it is in the middle of something
	require.NoError(t, first.Process.Signal(syscall.SIGSTOP))
	second := spawn()
	defer kill(second)
	wg.Wait()
	c.caughtUp() // only the second one can do that
	require.NoError(t, first.Process.Signal(syscall.SIGCONT))
	puts(300 * time.Millisecond)
	c.caughtUp()
	kill(second)
	puts(100 * time.Millisecond)
	c.caughtUp() // and this only the first one
	c.mu.Lock()
	defer c.mu.Unlock()
	assert.Equal(t, c.put, c.delivered)
	assert.Empty(t, c.wrong)
	assert.Zero(t, c.twice)
	assert.Positive(t, c.put["a"])
}

func runChaos(t *testing.T, exactly bool) {
	c, spawn := newChaos(t, 3, exactly)
	var workers []*exec.Cmd
	for range 3 {
		workers = append(workers, spawn())
	}
	defer func() {
		for _, w := range workers {
			kill(w)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), *chaosFor)
	defer cancel()
	var wg sync.WaitGroup
	for p := range 3 {
		var keys []string
		for i := range 10 {
			keys = append(keys, fmt.Sprintf("key%d-%d", p, i))
		}
		wg.Go(func() { c.produce(ctx, keys) })
	}
	wg.Go(func() { c.reshard(t, ctx) })
	kills, stops, outages := 0, 0, 0
	for ctx.Err() == nil {
		time.Sleep(time.Duration(100+rand.IntN(400)) * time.Millisecond)
		at := rand.IntN(len(workers))
		switch rand.IntN(3) {
		case 0:
			kills++
			kill(workers[at])
			workers[at] = spawn()
		case 1:
			stops++
			require.NoError(t, workers[at].Process.Signal(syscall.SIGSTOP))
			time.Sleep(time.Duration(500+rand.IntN(1500)) * time.Millisecond) // up to twice the lease
			require.NoError(t, workers[at].Process.Signal(syscall.SIGCONT))
		case 2:
			outages++
			c.down.Store(true)
			time.Sleep(time.Duration(200+rand.IntN(1500)) * time.Millisecond)
			c.down.Store(false)
		}
	}
	wg.Wait()
	c.caughtUp()
	c.mu.Lock()
	defer c.mu.Unlock()
	assert.Equal(t, c.put, c.delivered, "the set delivered is the set put")
	assert.Empty(t, c.wrong, "the order of each key")
	if exactly {
		assert.Zero(t, c.twice, "counted again")
	}
	total := 0
	for _, n := range c.put {
		total += n
	}
	t.Logf("%d records, %d delivered again; %d kills, %d suspensions, %d outages", total, c.twice, kills, stops, outages)
	assert.Positive(t, total)
}
