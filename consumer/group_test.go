package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

const maxPoll = 500 * time.Millisecond // between two looks at the workers

const ttl = 10 * time.Second // the default of LeaseTTL

// recorder keeps the events of one consumer.
type recorder struct {
	mu     sync.Mutex
	events []consumer.Event
}

func (r *recorder) note(e consumer.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) of(kind consumer.EventKind) (out []consumer.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

func TestScenario01WorkerDiesBeforeTheCheckpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 5)
		a := start(t, src, k, consumer.Options{Store: st, WorkerID: "a", MaxBatchRecords: 5})
		settle()
		st.onUpdate(func(checkpoint.Lease) (bool, error) { return false, checkpoint.ErrUnavailable })
		src.put(0, 5)
		settle()
		a.kill()
		st.onUpdate(nil)
		k2 := &sink{}
		b := start(t, src, k2, consumer.Options{Store: st, WorkerID: "b"})
		began := time.Now()
		settle()
		assert.Empty(t, k2.got(), "it is not known yet that the first is dead")
		time.Sleep(ttl + time.Second)
		settle()
		assert.Equal(t, names(0, 5, 10), k2.got(), "none skipped, and the batch that was not checkpointed again")
		assert.LessOrEqual(t, k2.batches()[0].at.Sub(began), ttl+time.Second)
		assert.Equal(t, uint64(2), st.row(t, 0).Epoch)
		b.stop()
	})
}

func TestScenario04LeaseTakenWhileTheHandlerRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 10)
		var cause, refused error
		rec := &recorder{}
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			refused = b.Checkpoint(context.Background(), shardlog.After(seq(0, 2)))
			return nil
		}), consumer.Options{Store: st, OnEvent: rec.note})
		settle()
		beat := st.alive(t, "other")
		want := st.take(t, 0, "other")
		for range 12 {
			time.Sleep(time.Second)
			beat()
		}
		settle()
		require.ErrorIs(t, cause, consumer.ErrLeaseLost)
		require.ErrorIs(t, refused, consumer.ErrLeaseLost)
		assert.Equal(t, want, st.row(t, 0), "the store is unchanged")
		require.Len(t, rec.of(consumer.EventLeaseLost), 1)
		assert.Equal(t, uint64(1), r.Stats().LostLeases)
		r.stop()
		assert.Equal(t, want, st.row(t, 0), "it does not release what is not its own")
	})
}

// The worker was away for longer than its lease, without knowing it: its
// source and its store answer, but another one has taken the shard.
func TestScenario05ZombieCheckpointsSomethingLower(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 10)
		var refused, again error
		wake := make(chan struct{})
		r := start(t, src, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
			<-wake
			refused = b.Checkpoint(context.Background(), shardlog.After(seq(0, 2)))
			again = b.Checkpoint(context.Background(), shardlog.After(seq(0, 3)))
			return nil
		}), consumer.Options{Store: st})
		settle()
		st.alive(t, "other")
		l := st.take(t, 0, "other")
		l.Checkpoint = shardlog.After(seq(0, 7))
		want, err := st.Memory.Update(context.Background(), l)
		require.NoError(t, err)
		close(wake)
		settle()
		require.ErrorIs(t, refused, consumer.ErrLeaseLost)
		require.ErrorIs(t, again, consumer.ErrLeaseLost)
		assert.Equal(t, want, st.row(t, 0), "the checkpoint never goes back, the owner is the same")
		r.stop()
	})
}

func TestScenario06LostAndRegainedWhileTheOldHandlerRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 10)
		wake := make(chan struct{})
		var mu sync.Mutex
		results := map[uint64]error{}
		r := start(t, src, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
			if b.Epoch == 1 {
				<-wake // it ignores its context
			}
			err := b.Checkpoint(context.Background(), shardlog.After(seq(0, int(b.Epoch))))
			mu.Lock()
			defer mu.Unlock()
			results[b.Epoch] = err
			return nil
		}), consumer.Options{Store: st})
		settle()
		// Another worker has it for a moment, and gives it back.
		l := st.take(t, 0, "other")
		l.Owner = ""
		_, err := st.Memory.Update(context.Background(), l)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		mu.Lock()
		require.Contains(t, results, uint64(3), "the consumer has taken it again")
		require.NoError(t, results[3])
		mu.Unlock()
		want := st.row(t, 0)
		assert.Equal(t, shardlog.After(seq(0, 9)), want.Checkpoint)
		close(wake)
		settle()
		require.ErrorIs(t, results[1], consumer.ErrLeaseLost)
		assert.Equal(t, want, st.row(t, 0))
		r.stop()
	})
}

func TestScenario07ReplyOfARenewalIsLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		rec := &recorder{}
		lossy := &lossy{Store: st.peer()}
		a := start(t, src, k, consumer.Options{Store: lossy, WorkerID: "a", OnEvent: rec.note})
		b := start(t, src, k, consumer.Options{Store: st.peer(), WorkerID: "b", OnEvent: rec.note})
		settle()
		for range 20 {
			src.put(0, 1)
			time.Sleep(ttl)
		}
		assert.Len(t, k.got(), 20)
		assert.Empty(t, rec.of(consumer.EventLeaseLost))
		assert.Len(t, rec.of(consumer.EventLeaseTaken), 1)
		a.stop()
		b.stop()
	})
}

// lossy makes every second write of a worker's row, and loses the answer.
type lossy struct {
	checkpoint.Store
	n int
}

func (s *lossy) Update(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	got, err := s.Store.Update(ctx, l)
	if about(l.Key) {
		if s.n++; s.n%2 == 0 {
			return checkpoint.Lease{}, checkpoint.ErrUnavailable
		}
	}
	return got, err
}

func TestScenario08TwoWorkersRaceForOneLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(2), newStore()
		st.alive(t, "z")
		var once sync.Once
		st.onUpdate(func(l checkpoint.Lease) (bool, error) {
			once.Do(func() {
				assert.Equal(t, rowKey(0), l.Key)
				st.take(t, 0, "z") // it was faster
			})
			return false, nil
		})
		rec := &recorder{}
		// The plan has one shard for each worker; here it is the same one.
		a := start(t, src, &sink{}, consumer.Options{Store: st, WorkerID: "a", OnEvent: rec.note})
		settle()
		assert.Equal(t, map[string]int{"a": 1, "z": 1}, st.owners(t), "exactly one wins, and the other continues to another at once")
		assert.Equal(t, uint64(1), st.row(t, 0).Epoch)
		require.Len(t, rec.of(consumer.EventLeaseTaken), 1)
		assert.Equal(t, shardID(1), rec.of(consumer.EventLeaseTaken)[0].ShardID)
		a.stop()
	})
}

func TestScenario09ThirdWorkerJoins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(6), newStore(), &sink{}
		var all []*running
		rec := &recorder{}
		for _, id := range []string{"a", "b", "c"} {
			if id == "c" {
				time.Sleep(time.Minute)
				settle()
				require.Equal(t, map[string]int{"a": 3, "b": 3}, st.owners(t))
				rec = &recorder{} // only what the third one causes
			}
			all = append(all, start(t, src, k, consumer.Options{Store: st, WorkerID: id, OnEvent: func(e consumer.Event) { rec.note(e) }}))
			time.Sleep(5 * time.Second)
		}
		assert.Equal(t, map[string]int{"a": 2, "b": 2, "c": 2}, st.owners(t))
		moved := map[string]int{}
		for _, e := range rec.of(consumer.EventLeaseTaken) {
			moved[e.ShardID]++
		}
		assert.Len(t, moved, 2, "no more than fairness needs")
		for id, n := range moved {
			assert.Equal(t, 1, n, "%s moved more than once", id)
		}
		time.Sleep(time.Hour)
		settle()
		assert.Len(t, rec.of(consumer.EventLeaseTaken), 2, "and then nothing moves")
		for _, r := range all {
			r.stop()
		}
	})
}

func TestScenario10WorkerLeavesCleanly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(4), newStore(), &sink{}
		a := start(t, src, k, consumer.Options{Store: st, WorkerID: "a"})
		settle()
		b := start(t, src, k, consumer.Options{Store: st, WorkerID: "b"})
		time.Sleep(5 * time.Second)
		settle()
		require.Equal(t, map[string]int{"a": 2, "b": 2}, st.owners(t))
		a.stop()
		time.Sleep(time.Second)
		settle()
		assert.Equal(t, map[string]int{"b": 4}, st.owners(t), "at once, and not after the TTL")
		b.stop()
		rows, err := st.Memory.List(context.Background(), "default", "orders/workers")
		require.NoError(t, err)
		assert.Len(t, rows, 1, "only the row of the group is left")
	})
}

// joined starts a worker that has both shards, with a handler that is busy, and
// a second one, which asks for one of them.
func joined(t *testing.T, handler time.Duration, o consumer.Options) (src *source, st *store, a, b *running, ka, kb *sink) {
	t.Helper()
	src, st, ka, kb = newSource(2), newStore(), &sink{}, &sink{}
	src.put(1, 20)
	o.Store, o.WorkerID, o.MaxBatchRecords = st, "a", 10
	a = start(t, src, slow(ka, handler), o)
	time.Sleep(time.Second)
	o.WorkerID, o.Store = "b", st.peer()
	b = start(t, src, kb, o)
	time.Sleep(time.Second)
	require.Equal(t, "b", st.row(t, 1).Next)
	return src, st, a, b, ka, kb
}

func TestScenario11HandOffWithoutDuplicates(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, st, a, b, ka, kb := joined(t, 20*time.Second, consumer.Options{})
		assert.Empty(t, kb.got(), "it waits for the batch")
		time.Sleep(20 * time.Second)
		settle()
		assert.Equal(t, names(1, 0, 10), ka.got(), "the owner finishes its batch and begins no other")
		assert.Equal(t, names(1, 10, 20), kb.got(), "the next one starts exactly after it")
		assert.Equal(t, "b", st.row(t, 1).Owner)
		assert.Empty(t, st.row(t, 1).Next)
		assert.Equal(t, uint64(2), st.row(t, 1).Epoch)
		a.stop()
		b.stop()
	})
}

func TestScenario12HandOffIsForced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(2), newStore()
		src.put(1, 20)
		ka, kb := &sink{}, &sink{}
		var late error
		a := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			ka.note(b)
			time.Sleep(time.Hour) // and ignores its context
			late = b.Checkpoint(context.Background(), shardlog.After(seq(1, 3)))
			return nil
		}), consumer.Options{Store: st, WorkerID: "a", MaxBatchRecords: 10})
		time.Sleep(time.Second)
		b := start(t, src, kb, consumer.Options{Store: st, WorkerID: "b", HandOff: time.Minute})
		time.Sleep(59 * time.Second)
		settle()
		assert.Equal(t, "a", st.row(t, 1).Owner)
		time.Sleep(5 * time.Second)
		settle()
		assert.Equal(t, names(1, 0, 20), kb.got(), "duplicates, but only of that batch")
		want := st.row(t, 1)
		time.Sleep(time.Hour)
		settle()
		require.ErrorIs(t, late, consumer.ErrLeaseLost)
		assert.Equal(t, want, st.row(t, 1))
		a.stop()
		b.stop()
	})
}

func TestScenario13OwnerDiesInAHandOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, _, a, b, _, kb := joined(t, time.Hour, consumer.Options{HandOff: time.Hour})
		a.kill()
		died := time.Now()
		time.Sleep(ttl + time.Second)
		settle()
		require.NotEmpty(t, kb.batches())
		assert.LessOrEqual(t, kb.batches()[0].at.Sub(died), ttl+time.Second, "free at the TTL, not after HandOff")
		b.stop()
	})
}

func TestScenario14NextOwnerDiesInAHandOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, a, b, ka, _ := joined(t, 30*time.Second, consumer.Options{HandOff: time.Hour})
		b.kill()
		time.Sleep(20 * time.Second)
		settle()
		assert.Empty(t, st.row(t, 1).Next, "cleared")
		assert.Equal(t, "a", st.row(t, 1).Owner)
		time.Sleep(2 * time.Minute)
		src.put(1, 1)
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, names(1, 0, 21), ka.got(), "the owner keeps the shard, and nothing comes twice")
		a.stop()
	})
}

func TestScenario15OwnerRestartsInAHandOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, a, b, _, kb := joined(t, time.Hour, consumer.Options{HandOff: time.Hour})
		a.kill()
		a = start(t, src, &sink{}, consumer.Options{Store: st, WorkerID: "a"})
		time.Sleep(2 * time.Second)
		settle()
		assert.Equal(t, names(1, 0, 20), kb.got(), "no stuck lease, and no waiting")
		assert.Equal(t, map[string]int{"a": 1, "b": 1}, st.owners(t))
		a.stop()
		b.stop()
	})
}

// duplicates begins a worker that has the only shard, of 10 records, and is busy with them,
// and then another one with its ID, which has done them.
func duplicates(t *testing.T) (st *store, old, next *running, done *sink) {
	src := newSource(1)
	src.put(0, 10)
	st, done = newStore(), &sink{}
	old = start(t, src, slow(&sink{}, time.Hour), consumer.Options{Store: st, WorkerID: "w"})
	settle()
	next = start(t, src, done, consumer.Options{Store: st, WorkerID: "w"})
	settle()
	return st, old, next, done
}

// requireOvertaken waits for the end of the older of two workers with the same ID.
func requireOvertaken(t *testing.T, old *running) {
	t.Helper()
	err := old.result()
	require.ErrorIs(t, err, consumer.ErrLeaseLost)
	require.ErrorContains(t, err, `another worker has the ID "w"`)
}

func TestScenario16DuplicateWorkerID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st, old, next, done := duplicates(t)
		assert.Equal(t, names(0, 0, 10), done.got(), "the second one continues immediately")
		began := time.Now()
		requireOvertaken(t, old)
		assert.LessOrEqual(t, time.Since(began), ttl/3)
		assert.Equal(t, "w", st.row(t, 0).Owner)
		assert.Equal(t, shardlog.After(seq(0, 9)), st.row(t, 0).Checkpoint)
		assert.Equal(t, uint64(2), done.batches()[0].epoch)
		next.stop()
	})
}

// The row of the shard has the name of both. One that looks at it before its own
// heartbeat fails must not take the shard for its own.
func TestADuplicateThatLooksAtTheShardsFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st, old, next, done := duplicates(t)
		st.alive(t, "z") // so that both look
		requireOvertaken(t, old)
		settle()
		assert.Equal(t, "w", st.row(t, 0).Owner)
		assert.Equal(t, uint64(2), st.row(t, 0).Epoch, "nobody has taken it again")
		assert.Equal(t, names(0, 0, 10), done.got())
		next.stop()
	})
}

func TestScenario17TooFewLeasesForAllShards(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(5), newStore(), &sink{}
		var all []*running
		for _, id := range []string{"a", "b"} {
			all = append(all, start(t, src, k, consumer.Options{Store: st, WorkerID: id, MaxLeases: 2}))
		}
		time.Sleep(time.Minute)
		owners := st.owners(t)
		assert.Equal(t, map[string]int{"a": 2, "b": 2, "": 1}, owners)
		for _, r := range all {
			blocked := r.Blocked()
			require.Len(t, blocked, 1, "it is seen at each worker")
			assert.Equal(t, "no worker has room for it", blocked[0].Why)
			assert.Equal(t, 1, r.Stats().NeededLeases)
			assert.Equal(t, 2, r.Stats().CurrentLeases)
			assert.Equal(t, 5, r.Stats().TotalLeases)
			assert.Equal(t, 2, r.Stats().Workers)
		}
		all = append(all, start(t, src, k, consumer.Options{Store: st, WorkerID: "c"}))
		time.Sleep(15 * time.Second)
		settle()
		assert.Zero(t, st.owners(t)[""], "a worker with room takes it")
		assert.Empty(t, all[0].Blocked())
		for _, r := range all {
			r.stop()
		}
	})
}

func TestScenario18SlowHandlerKeepsItsLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, ka, kb := newSource(1), newStore(), &sink{}, &sink{}
		src.put(0, 20)
		a := start(t, src, slow(ka, 10*ttl), consumer.Options{Store: st, WorkerID: "a", MaxBatchRecords: 10})
		settle()
		b := start(t, src, kb, consumer.Options{Store: st, WorkerID: "b"})
		time.Sleep(21 * ttl)
		settle()
		assert.Equal(t, names(0, 0, 20), ka.got())
		assert.Empty(t, kb.got())
		assert.Equal(t, uint64(1), st.row(t, 0).Epoch)
		a.stop()
		b.stop()
	})
}

func TestScenario19HandlerNeverReturns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, kb := newSource(2), newStore(), &sink{}
		src.put(1, 10)
		release := make(chan struct{})
		a := start(t, src, consumer.HandlerFunc(func(context.Context, *consumer.Batch) error {
			<-release
			return nil
		}), consumer.Options{Store: st, WorkerID: "a"})
		began := time.Now()
		time.Sleep(time.Minute)
		settle()
		require.Len(t, a.Blocked(), 1)
		assert.Equal(t, "the handler has not returned", a.Blocked()[0].Why)
		assert.Equal(t, began, a.Blocked()[0].Since)
		b := start(t, src, kb, consumer.Options{Store: st, WorkerID: "b", HandOff: 20 * time.Second})
		time.Sleep(25 * time.Second)
		settle()
		assert.Equal(t, names(1, 0, 10), kb.got(), "taken after the deadline of the hand-off")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.Error(t, a.Shutdown(ctx))
		require.ErrorIs(t, a.result(), consumer.ErrHandlerStuck, "the goroutine that is left behind is told")
		close(release)
		b.stop()
	})
}

// No clock of a wall is in what workers tell each other: neither a type of
// time in a row nor anything else that a clock that jumps could change.
func TestScenario20NoWallClockDecides(t *testing.T) {
	var look func(typ reflect.Type)
	look = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Struct:
			if typ == reflect.TypeFor[shardlog.Position]() {
				return // a place in a stream, which may be named by a time
			}
			for i := range typ.NumField() {
				look(typ.Field(i).Type)
			}
		case reflect.Pointer, reflect.Slice:
			look(typ.Elem())
		}
		assert.NotContains(t, typ.String(), "time.")
	}
	look(reflect.TypeFor[checkpoint.Lease]())
	bubble(t, func(t *testing.T) {
		st := newStore()
		r := start(t, newSource(1), &sink{}, consumer.Options{Store: st, MaxLeases: 3})
		time.Sleep(time.Minute)
		rows, err := st.Memory.List(context.Background(), "default", "orders/workers")
		require.NoError(t, err)
		require.Len(t, rows, 2)
		assert.Regexp(t, `^\{"most":3,"ttl":10000000000(,"news":\d+)?\}$`, string(rows[1].PreparedState))
		r.stop()
	})
}

func TestScenario22StoreDownForLessThanTheTTL(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k, kb := newSource(1), newStore(), &sink{}, &sink{}
		rec := &recorder{}
		mine := st.peer()
		a := start(t, src, k, consumer.Options{Store: mine, WorkerID: "a", LeaseTTL: time.Minute, OnEvent: rec.note})
		settle()
		b := start(t, src, kb, consumer.Options{Store: st, WorkerID: "b", LeaseTTL: time.Minute})
		time.Sleep(time.Minute)
		until := time.Now().Add(30 * time.Second)
		mine.breakDown(func() error {
			if time.Now().Before(until) {
				return fmt.Errorf("dial: %w", checkpoint.ErrUnavailable)
			}
			return nil
		})
		src.put(0, 1)
		settle()
		assert.Equal(t, names(0, 0, 1), k.got(), "processing continues")
		assert.Contains(t, a.stats(0).Blocked, "store, attempt 1: dial: ")
		time.Sleep(2 * time.Minute)
		src.put(0, 2)
		settle()
		assert.Equal(t, names(0, 0, 3), k.got(), "nothing lost, nothing twice")
		assert.Equal(t, shardlog.After(seq(0, 2)), st.row(t, 0).Checkpoint)
		assert.Empty(t, rec.of(consumer.EventLeaseLost))
		assert.Empty(t, kb.got())
		assert.NotEmpty(t, rec.of(consumer.EventStoreFailed))
		a.stop()
		b.stop()
	})
}

func TestScenario23StoreDownForLongerThanTheTTL(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, ka, kb := newSource(1), newStore(), &sink{}, &sink{}
		rec := &recorder{}
		mine := st.peer()
		var stopped time.Time
		var cause error
		src.put(0, 5)
		a := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			if string(b.Records[0].Data) == name(0, 5) && b.Epoch == 1 {
				<-ctx.Done()
				stopped, cause = time.Now(), context.Cause(ctx)
				return cause
			}
			return ka.Handle(ctx, b)
		}), consumer.Options{Store: mine, WorkerID: "a", OnEvent: rec.note})
		settle()
		b := start(t, src, kb, consumer.Options{Store: st, WorkerID: "b"})
		time.Sleep(time.Minute)
		src.put(0, 5)
		settle()
		mine.breakDown(func() error { return checkpoint.ErrUnavailable })
		time.Sleep(time.Minute)
		settle()
		require.ErrorIs(t, cause, consumer.ErrLeaseLost)
		assert.Equal(t, names(0, 5, 10), kb.got(), "another one has gone on")
		assert.True(t, stopped.Before(kb.batches()[0].at), "the owner stopped before that: %v, %v", stopped, kb.batches()[0].at)
		require.Len(t, rec.of(consumer.EventFenced), 1)
		mine.breakDown(nil)
		time.Sleep(time.Minute)
		b.stop()
		src.put(0, 5)
		time.Sleep(time.Second)
		settle()
		assert.Equal(t, append(names(0, 0, 5), names(0, 10, 15)...), ka.got(), "it resumes by itself")
		a.stop()
	})
}

// Scenario 23, for a worker that is alone: nobody could take its shards, and it
// takes them again when the store is back.
func TestScenario23AloneItResumes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(2), newStore(), &sink{}
		r := start(t, src, k, consumer.Options{Store: st})
		settle()
		until := time.Now().Add(5 * time.Minute)
		st.breakDown(func() error {
			if time.Now().Before(until) {
				return checkpoint.ErrUnavailable
			}
			return nil
		})
		src.put(0, 3)
		time.Sleep(8 * time.Minute)
		src.put(1, 3)
		time.Sleep(time.Second)
		settle()
		assert.Subset(t, k.got(), append(names(0, 0, 3), names(1, 0, 3)...))
		assert.LessOrEqual(t, len(k.got()), 9, "one batch came again")
		assert.Equal(t, uint64(2), st.row(t, 0).Epoch)
		r.stop()
	})
}

func TestScenario25SignsOfLifeGoBeforeCheckpoints(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k, kb := newSource(1), newStore(), &sink{}, &sink{}
		rec := &recorder{}
		a := start(t, src, k, consumer.Options{Store: st, WorkerID: "a", OnEvent: rec.note})
		settle()
		b := start(t, src, kb, consumer.Options{Store: st.peer(), WorkerID: "b"})
		until := time.Now().Add(10 * ttl)
		st.onUpdate(func(checkpoint.Lease) (bool, error) {
			if time.Now().Before(until) {
				return false, &shardlog.Error{RetryAfter: 2 * ttl, Err: fmt.Errorf("%w: %w", checkpoint.ErrUnavailable, shardlog.ErrThroughputExceeded)}
			}
			return false, nil
		})
		src.put(0, 5)
		time.Sleep(15 * ttl)
		settle()
		assert.Equal(t, names(0, 0, 5), k.got())
		assert.Empty(t, kb.got(), "the lease was kept although no checkpoint got through")
		assert.Equal(t, shardlog.After(seq(0, 4)), st.row(t, 0).Checkpoint)
		assert.InDelta(t, 5, len(rec.of(consumer.EventStoreFailed)), 1, "it backs off as it is told")
		a.stop()
		b.stop()
	})
}

func TestScenario26StoreLosesARow(t *testing.T) {
	for _, c := range []struct {
		from shardlog.Position
		want []string
	}{
		{shardlog.TrimHorizon(), append(names(0, 0, 5), names(0, 0, 6)...)},
		{shardlog.Latest(), []string{name(0, 5)}},
	} {
		bubble(t, func(t *testing.T) {
			src, st, k := newSource(1), newStore(), &sink{}
			rec := &recorder{}
			src.put(0, 5)
			r := start(t, src, k, consumer.Options{Store: st, Start: c.from, OnEvent: rec.note})
			time.Sleep(time.Minute)
			settle()
			require.NoError(t, st.Memory.Delete(context.Background(), st.row(t, 0)))
			time.Sleep(time.Minute)
			src.put(0, 1)
			settle()
			assert.Equal(t, c.want, k.got())
			require.Len(t, rec.of(consumer.EventRowMissing), 1, "not without a word")
			assert.Equal(t, uint64(2), st.row(t, 0).Epoch, "old tokens do not come back")
			r.stop()
		})
	}
	// With children, it is known to have been done.
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		rec := &recorder{}
		src.put(0, 5)
		r := start(t, src, k, consumer.Options{Store: st, OnEvent: rec.note})
		settle()
		src.split(0)
		time.Sleep(time.Minute)
		settle()
		require.NoError(t, st.Memory.Delete(context.Background(), st.row(t, 0)))
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, names(0, 0, 5), k.got())
		assert.True(t, st.row(t, 0).Ended)
		require.Len(t, rec.of(consumer.EventRowMissing), 1)
		r.stop()
	})
}

// Workers that start at the same moment divide the shards, and none of them
// ends another.
func TestConcurrentStart(t *testing.T) {
	for round := range 10 {
		bubble(t, func(t *testing.T) {
			src, st, k := newSource(8), newStore(), &sink{}
			for i := range 8 {
				src.put(i, 10)
			}
			st.onUpdate(func(checkpoint.Lease) (bool, error) {
				time.Sleep(time.Millisecond)
				return false, nil
			})
			var all []*running
			for i := range 3 {
				all = append(all, start(t, src, k, consumer.Options{Store: st, WorkerID: fmt.Sprint(i)}))
				time.Sleep(time.Duration(round%10) * 300 * time.Microsecond)
			}
			time.Sleep(30 * time.Second)
			for id, n := range st.owners(t) {
				assert.NotEmpty(t, id)
				assert.GreaterOrEqual(t, n, 2)
				assert.LessOrEqual(t, n, 3)
			}
			assert.Len(t, k.got(), 80, "and nothing comes twice")
			for _, r := range all {
				r.stop()
			}
		})
	}
}

// A thousand shards and ten workers: all leases are held soon, and then the
// group writes little.
func TestManyShardsFewWrites(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const shards, workers = 300, 10
		src, st := newSource(shards), newStore()
		var all []*running
		for i := range workers {
			all = append(all, start(t, src, &sink{}, consumer.Options{Store: st, WorkerID: fmt.Sprint(i)}))
		}
		time.Sleep(2 * maxPoll)
		settle()
		assert.Zero(t, st.owners(t)[""], "every shard has a worker after two looks")
		time.Sleep(4 * time.Second)
		owners := st.owners(t)
		assert.Len(t, owners, workers)
		for id, n := range owners {
			assert.Equal(t, shards/workers, n, id)
		}
		time.Sleep(time.Minute)
		st.mu.Lock()
		before := st.updates + st.beats
		st.mu.Unlock()
		time.Sleep(time.Minute)
		st.mu.Lock()
		writes := st.updates + st.beats - before
		st.mu.Unlock()
		assert.LessOrEqual(t, writes, 5*60)
		for _, r := range all {
			r.stop()
		}
	})
}

// A worker that is suspended finds out before it begins anything new.
func TestWorkerThatCannotBeatStopsItsHandlersFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		mine := st.peer()
		rec := &recorder{}
		r := start(t, src, k, consumer.Options{Store: mine, OnEvent: rec.note})
		settle()
		mine.breakDown(func() error { return errors.New("network down") })
		time.Sleep(ttl)
		src.put(0, 1)
		time.Sleep(time.Minute)
		settle()
		assert.Empty(t, k.got(), "fenced, it begins nothing")
		mine.breakDown(nil)
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, names(0, 0, 1), k.got())
		r.stop()
	})
}
