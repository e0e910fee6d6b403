package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kv"
)

// flaky is a store in memory that takes its time for a commit, and refuses some.
type flaky struct {
	*kv.Memory
	mu sync.Mutex
	r  *rand.Rand
	on bool
}

func (f *flaky) Commit(b *kv.Batch) error {
	f.mu.Lock()
	wait, refuse := time.Duration(f.r.Intn(300))*time.Microsecond, f.on && f.r.Intn(12) == 0
	f.mu.Unlock()
	if !f.set() {
		return f.Memory.Commit(b)
	}
	time.Sleep(wait)
	if refuse {
		return fmt.Errorf("%w: refused", shardlog.ErrNoSpace)
	}
	return f.Memory.Commit(b)
}

func (f *flaky) set() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.on
}

func (f *flaky) turn(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = on
}

// Many calls at the same time, of one producer, with dedup IDs and in transactions, on a
// store that refuses commits, whose callers often do not wait for the answer
// and try again: everything is stored once. Epochs change meanwhile.
func TestStoredOnceUnderStress(t *testing.T) {
	r, _ := newRand(t)
	store := &flaky{Memory: kv.NewMemory(), r: rand.New(rand.NewSource(r.Int63()))}
	opts, err := (&Options{}).withDefaults("dir")
	require.NoError(t, err)
	db, err := openOn(store, opts)
	require.NoError(t, err)
	st := create(t, db, "s", Config{Shards: 3, Retention: Forever, DedupWindow: time.Hour})
	epoch := openProducer(t, st, "p")
	_, err = db.Checkpoints().Create(t.Context(), checkpoint.Lease{Key: txKey})
	require.NoError(t, err)
	store.turn(true)

	// until calls f until it succeeds, and often leaves it early.
	until := func(r *rand.Rand, f func(ctx context.Context) error) {
		for {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.Intn(1500))*time.Microsecond)
			err := f(ctx)
			cancel()
			switch {
			case err == nil:
				return
			case errors.Is(err, shardlog.ErrNoSpace), errors.Is(err, context.DeadlineExceeded), errors.Is(err, shardlog.ErrNotTried):
			default:
				t.Errorf("unexpected: %v", err)
				return
			}
		}
	}
	const rounds, batch = 25, 8
	var wg sync.WaitGroup
	worker := func(f func(r *rand.Rand)) {
		seed := r.Int63()
		wg.Go(func() { f(rand.New(rand.NewSource(seed))) })
	}
	var want []string
	for w := range 4 {
		for i := range rounds * batch {
			want = append(want, fmt.Sprint((w*rounds)*batch+i), fmt.Sprintf("id%d", w*rounds*batch+i))
		}
		worker(func(r *rand.Rand) { // numbers, one identity for all
			for i := range rounds {
				from := uint64((w*rounds + i) * batch)
				until(r, func(ctx context.Context) error {
					return firstError(st.PutRequest(ctx, numberedRequest("p", epoch, 0, span(from, from+batch)...)))
				})
			}
		})
		for range 2 { // two for each ID
			worker(func(r *rand.Rand) {
				for i := range rounds {
					var recs []shardlog.Record
					for j := range batch {
						id := fmt.Sprintf("id%d", (w*rounds+i)*batch+j)
						recs = append(recs, withID(id, id))
					}
					until(r, func(ctx context.Context) error { return firstError(st.PutRecords(ctx, recs)) })
				}
			})
		}
	}
	for n := range 2 * rounds {
		want = append(want, fmt.Sprint("tx", n+1))
	}
	for range 2 {
		worker(func(r *rand.Rand) { // each moves the row on
			for done := false; !done; {
				until(r, func(ctx context.Context) error {
					row, err := db.Checkpoints().Get(ctx, txKey)
					if done = row.Beat == 2*rounds; err != nil || done {
						return err
					}
					row.Beat++
					tx := db.Begin()
					tx.Put(st, keyed(fmt.Sprint(row.Beat), fmt.Sprint("tx", row.Beat)))
					tx.Checkpoint(row)
					if _, err = tx.Commit(ctx); errors.Is(err, shardlog.ErrConflict) {
						return nil
					}
					return err
				})
			}
		})
	}
	worker(func(r *rand.Rand) { // identities come and go, and shards too
		for i := range rounds {
			until(r, func(ctx context.Context) error { _, err := st.OpenProducer(ctx, fmt.Sprint("other", i%3)); return err })
			until(r, func(ctx context.Context) error { return st.Reshard(ctx, 1+r.Intn(5)) })
		}
	})
	wg.Wait()
	store.turn(false)
	requireOnce(t, st, want...)
	newer := openProducer(t, st, "p")
	_, err = st.PutRequest(t.Context(), numberedRequest("p", epoch, 0, 1))
	require.ErrorIs(t, err, shardlog.ErrFenced)
	request(t, st, numberedRequest("p", newer, 0, 1_000_000))
	require.Zero(t, st.producers.Find("p").Info().Reserved)
	require.Zero(t, st.dedup.Info().Reserved)
	require.Empty(t, db.rows.held)
	require.NoError(t, db.Close())
}
