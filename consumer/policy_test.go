package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// refusing fails for batches that have one of the records, as a whole.
func refusing(k *sink, bad ...string) consumer.Handler {
	return consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		for i := range b.Records {
			if slices.Contains(bad, string(b.Records[i].Data)) {
				k.note(b)
				return errBroken
			}
		}
		return k.Handle(ctx, b)
	})
}

// letters keeps dead letters.
type letters struct {
	mu  sync.Mutex
	all []consumer.DeadLetter
	err error
}

func (l *letters) put(_ context.Context, d consumer.DeadLetter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.all = append(l.all, d)
	}
	return l.err
}

func (l *letters) names() (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.all {
		out = append(out, string(d.Record.Data))
	}
	return out
}

func TestScenario33BisectFindsThePoison(t *testing.T) {
	for _, poison := range []int{0, 1, 42, 50, 99} {
		bubble(t, func(t *testing.T) {
			src, st, k, l := newSource(1), newStore(), &sink{}, &letters{}
			src.put(0, 100)
			began := time.Now()
			r := start(t, src, refusing(k, name(0, poison)), consumer.Options{
				Store: st, MaxBatchRecords: 100, Bisect: true, MaxAttempts: 1, DeadLetter: l.put,
			})
			settle()
			assert.Equal(t, began, time.Now(), "halving is not waited for")
			assert.LessOrEqual(t, len(k.batches())-1, int(2*math.Ceil(math.Log2(100))+1), "extra calls")
			want := slices.Delete(names(0, 0, 100), poison, poison+1)
			assert.Equal(t, want, k.got(), "the others are processed, once and in order")
			assert.Equal(t, []string{name(0, poison)}, l.names())
			for _, c := range k.batches() {
				assert.Equal(t, 1, c.attempt, "halving costs no attempt")
			}
			assert.Equal(t, shardlog.After(seq(0, 99)), st.row(t, 0).Checkpoint)
			r.stop()
		})
	}
}

func TestScenario34PoisonGoesToTheDeadLetters(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k, l := newSource(1), newStore(), &sink{}, &letters{}
		src.put(0, 10)
		l.err = errors.New("dead letters are down")
		rec := &recorder{}
		each := 0
		r := start(t, src, consumer.Each(func(_ context.Context, rec shardlog.Record) error {
			if string(rec.Data) == name(0, 4) {
				each++
				return errBroken
			}
			k.take([]shardlog.Record{rec})
			return nil
		}), consumer.Options{Store: st, MaxAttempts: 3, DeadLetter: l.put, OnEvent: rec.note})
		time.Sleep(time.Hour)
		settle()
		assert.Equal(t, 3, each)
		assert.Equal(t, shardlog.After(seq(0, 3)), st.row(t, 0).Checkpoint, "the checkpoint stays")
		assert.Contains(t, r.stats(0).Blocked, "dead letter, attempt ")
		assert.NotEmpty(t, rec.of(consumer.EventDeadLetterFailed))
		l.mu.Lock()
		l.err = nil
		l.mu.Unlock()
		time.Sleep(time.Hour)
		settle()
		require.Equal(t, []string{name(0, 4)}, l.names(), "once")
		d := l.all[0]
		require.ErrorIs(t, d.Err, errBroken)
		assert.Equal(t, 3, d.Attempts)
		assert.Equal(t, "orders", d.Stream)
		assert.Equal(t, "default", d.Group)
		assert.Equal(t, uint64(1), d.Epoch)
		assert.Equal(t, append(names(0, 0, 4), names(0, 5, 10)...), k.got())
		assert.Equal(t, shardlog.After(seq(0, 9)), st.row(t, 0).Checkpoint, "then the checkpoint passes it")
		assert.Equal(t, uint64(1), r.stats(0).DeadLetters)
		assert.Equal(t, 3, each)
		r.stop()
	})
}

// Without Bisect, a batch that fails as a whole goes as a whole.
func TestWholeBatchGoesToTheDeadLetters(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k, l := newSource(1), newStore(), &sink{}, &letters{}
		src.put(0, 10)
		r := start(t, src, refusing(k, name(0, 2)), consumer.Options{Store: st, MaxBatchRecords: 5, MaxAttempts: 2, DeadLetter: l.put})
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, names(0, 0, 5), l.names())
		assert.Equal(t, names(0, 5, 10), k.got())
		r.stop()
	})
}

func TestScenario35LimitedAttemptsNeedATarget(t *testing.T) {
	for _, o := range []consumer.Options{{MaxAttempts: 3}, {MaxAge: time.Hour}} {
		o.Store = newStore()
		_, err := consumer.New(newSource(1), &o)
		require.ErrorIs(t, err, shardlog.ErrInvalid)
		require.ErrorContains(t, err, "DeadLetter")
		o.Drop = true
		_, err = consumer.New(newSource(1), &o)
		require.NoError(t, err)
		o.DeadLetter = (&letters{}).put
		_, err = consumer.New(newSource(1), &o)
		require.ErrorContains(t, err, "Drop")
	}
}

func TestScenario37MaxAgeFreesABlockedShard(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		rec := &recorder{}
		src.put(0, 3)
		r := start(t, src, refusing(k, name(0, 1)), consumer.Options{
			Store: st, MaxBatchRecords: 1, MaxAge: time.Hour, Drop: true, OnEvent: rec.note, Retry: consumer.Retry{Max: time.Minute},
		})
		time.Sleep(30 * time.Minute)
		settle()
		require.Len(t, r.Blocked(), 1)
		assert.Regexp(t, `^handler, attempt \d\d: broken$`, r.Blocked()[0].Why)
		assert.Equal(t, 30*time.Minute, time.Since(r.Blocked()[0].Since).Round(time.Minute))
		time.Sleep(35 * time.Minute)
		settle()
		assert.Equal(t, []string{name(0, 0), name(0, 2)}, k.got())
		assert.Empty(t, r.Blocked())
		require.Len(t, rec.of(consumer.EventDeadLetter), 1, "dropped, but not silently")
		assert.Equal(t, shardlog.At(seq(0, 1)), rec.of(consumer.EventDeadLetter)[0].Position)
		r.stop()
	})
}

func TestPermanentErrors(t *testing.T) {
	require.NoError(t, consumer.Permanent(nil))
	type order struct{ ID int }
	run := func(o consumer.Options) (got []int, l *letters, blocked string) {
		l = &letters{}
		bubble(t, func(t *testing.T) {
			src := newSource(1)
			src.putData(0, []byte(`{"ID":1}`), []byte(`{`), []byte(`{"ID":2}`))
			o.Store = newStore()
			if !o.Drop && o.Group != "" {
				o.DeadLetter = l.put
			}
			r := start(t, src, consumer.JSON(func(_ context.Context, v order, rec shardlog.Record) error {
				got = append(got, v.ID)
				assert.NotEmpty(t, rec.PartitionKey)
				return nil
			}), o)
			time.Sleep(time.Second)
			blocked = r.stats(0).Blocked
			r.stop()
		})
		return got, l, blocked
	}
	got, l, _ := run(consumer.Options{Group: "default"})
	assert.Equal(t, []int{1, 2}, got)
	assert.Equal(t, []string{"{"}, l.names())
	assert.ErrorContains(t, l.all[0].Err, "decode record")
	got, _, _ = run(consumer.Options{Drop: true})
	assert.Equal(t, []int{1, 2}, got)
	got, _, blocked := run(consumer.Options{})
	assert.Equal(t, []int{1}, got, "without a target nothing is skipped")
	assert.Contains(t, blocked, "decode record")
}

// putter is a sink that keeps what it gets.
type putter struct {
	records []shardlog.Record
	err     error
	plain   bool // cannot recognize a record
	bare    bool // does not store headers
}

func (p *putter) Capabilities() shardlog.Capabilities {
	return shardlog.Capabilities{DedupID: !p.plain, Headers: !p.bare}
}

func (p *putter) Shards(context.Context) ([]shardlog.ShardInfo, error) { return nil, nil }

func (p *putter) PutRecords(_ context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	p.records = append(p.records, records...)
	return []shardlog.PutResult{{Err: p.err}}, nil
}

func TestDeadLettersTo(t *testing.T) {
	p := &putter{}
	put := consumer.DeadLettersTo(p)
	d := consumer.DeadLetter{
		Record: shardlog.Record{PartitionKey: "k", Data: []byte("d"), Headers: []shardlog.Header{{Key: "a", Value: "b"}}, Sequence: seq(0, 1), SubSequence: 3, ShardID: shardID(0)},
		Err:    errors.New(strings.Repeat("x", 5000)), Attempts: 4, Stream: "orders",
	}
	require.NoError(t, put(context.Background(), d))
	require.Len(t, p.records, 1)
	rec := p.records[0]
	assert.Equal(t, "k", rec.PartitionKey)
	assert.Equal(t, []byte("d"), rec.Data)
	origin := fmt.Sprintf("orders/%s/%s/3", shardID(0), seq(0, 1))
	assert.Equal(t, origin, rec.DedupID)
	require.Len(t, rec.Headers, 4)
	assert.Equal(t, shardlog.Header{Key: "a", Value: "b"}, rec.Headers[0])
	assert.Equal(t, strings.Repeat("x", 997)+"...", rec.Headers[1].Value)
	assert.Equal(t, shardlog.Header{Key: consumer.HeaderOrigin, Value: origin}, rec.Headers[2])
	assert.Equal(t, shardlog.Header{Key: consumer.HeaderAttempts, Value: "4"}, rec.Headers[3])
	p.plain = true
	require.NoError(t, consumer.DeadLettersTo(p)(context.Background(), d))
	assert.Empty(t, p.records[1].DedupID)
	p.err = errBroken
	require.ErrorIs(t, put(context.Background(), d), errBroken)
}

// putKey appends a record of a key.
func (s *source) putKey(i int, key string) {
	s.put(i, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	records := s.shards[i].records
	records[len(records)-1].PartitionKey = key
}

func TestScenario38OneKeyFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		const rounds = 20
		for range rounds {
			for _, key := range []string{"a", "b", "c", "d"} {
				src.putKey(0, key)
			}
		}
		heal := false
		var mu sync.Mutex
		busy := map[string]bool{}
		h := consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			key := b.Records[0].PartitionKey
			mu.Lock()
			assert.False(t, busy[key], "one call at a time for a key")
			busy[key] = true
			bad := key == "a" && !heal && string(b.Records[0].Data) != name(0, 0)
			mu.Unlock()
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				busy[key] = false
			}()
			for _, r := range b.Records {
				assert.Equal(t, key, r.PartitionKey)
			}
			assert.ErrorIs(t, b.Checkpoint(ctx, shardlog.After(b.Records[0].Sequence)), shardlog.ErrUnsupported)
			if bad {
				return errBroken
			}
			return k.Handle(ctx, b)
		})
		o := consumer.Options{Store: st, PerKey: 8, MaxBatchRecords: 3, Retry: consumer.Retry{Max: time.Second}}
		r := start(t, src, h, o)
		time.Sleep(time.Minute)
		settle()
		// 4 batches of 3 is the window; what is above it waits.
		assert.Equal(t, shardlog.After(seq(0, 3)), st.row(t, 0).Checkpoint, "below the failing record")
		got := k.got()
		assert.Contains(t, got, name(0, 13), "other keys continue")
		assert.NotContains(t, got, name(0, 24), "up to the window")
		assert.Contains(t, r.stats(0).Blocked, `handler, key "a", attempt `)
		r.kill()
		mu.Lock()
		heal = true
		mu.Unlock()
		r = start(t, src, h, o)
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, shardlog.After(seq(0, 4*rounds-1)), st.row(t, 0).Checkpoint)
		r.stop()
		// Nothing is lost, and the order of each key holds.
		first := map[string]int{}
		for i, n := range k.got() {
			if _, ok := first[n]; !ok {
				first[n] = i
			}
		}
		assert.Len(t, first, 4*rounds)
		for n := 4; n < 4*rounds; n++ {
			assert.Less(t, first[name(0, n-4)], first[name(0, n)])
		}
	})
}

func TestPerKeyDeadLettersBisectAndEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k, l := newSource(1), newStore(), &sink{}, &letters{}
		for range 20 {
			src.putKey(0, "a")
			src.putKey(0, "b")
		}
		src.split(0)
		src.put(1, 5)
		r := start(t, src, refusing(k, name(0, 8)), consumer.Options{
			Store: st, PerKey: 4, MaxBatchRecords: 10, Bisect: true, MaxAttempts: 2, DeadLetter: l.put, Filter: func(r *shardlog.Record) bool {
				return string(r.Data) != name(0, 39)
			},
		})
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, []string{name(0, 8)}, l.names())
		assert.Len(t, k.got(), 20+20-2+5)
		assert.True(t, st.row(t, 0).Ended)
		r.stop()
	})
}

func TestScenario42FilterDropsEverything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 50)
		r := start(t, src, k, consumer.Options{Store: st, MaxBatchRecords: 10, Filter: func(r *shardlog.Record) bool {
			return string(r.Data) == name(0, 55)
		}})
		settle()
		assert.Empty(t, k.got())
		assert.Equal(t, shardlog.After(seq(0, 49)), st.row(t, 0).Checkpoint, "the checkpoint advances anyway")
		src.put(0, 10)
		settle()
		assert.Equal(t, []string{name(0, 55)}, k.got())
		assert.Equal(t, shardlog.After(seq(0, 59)), st.row(t, 0).Checkpoint)
		r.stop()
	})
}

func TestScenario43EmptyBatches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		empty, full := 0, 0
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			if len(b.Records) > 0 {
				full++
				return nil
			}
			empty++
			assert.ErrorIs(t, b.Checkpoint(ctx, shardlog.After(seq(0, 7))), consumer.ErrAhead)
			return nil
		}), consumer.Options{Store: st, EmptyBatches: true, PollWait: time.Minute})
		time.Sleep(10*time.Minute + time.Second)
		settle()
		assert.Equal(t, 10, empty)
		assert.Equal(t, shardlog.TrimHorizon(), st.row(t, 0).Checkpoint, "nothing to checkpoint")
		src.put(0, 1)
		settle()
		assert.Equal(t, 1, full)
		r.stop()
	})
}

func TestBatchWindowGathers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		r := start(t, src, k, consumer.Options{Store: st, MaxBatchRecords: 10, BatchWindow: time.Minute})
		settle()
		for range 3 {
			src.put(0, 2)
			time.Sleep(10 * time.Second)
		}
		assert.Empty(t, k.got())
		time.Sleep(30 * time.Second)
		settle()
		require.Len(t, k.batches(), 1)
		assert.Equal(t, 6, k.batches()[0].n)
		assert.Equal(t, shardlog.After(seq(0, 5)), st.row(t, 0).Checkpoint)
		src.put(0, 15) // more than one batch does not wait
		settle()
		assert.Equal(t, 10, k.batches()[1].n)
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, names(0, 0, 21), k.got())
		r.stop()
	})
}

func TestExplicitCheckpoints(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 10)
		var kept []*consumer.Batch
		h := consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
			kept = append(kept, b)
			return nil
		})
		r := start(t, src, h, consumer.Options{Store: st, MaxBatchRecords: 5, ExplicitCheckpoints: true})
		settle()
		require.Len(t, kept, 2, "it continues without a checkpoint")
		assert.Equal(t, shardlog.TrimHorizon(), st.row(t, 0).Checkpoint)
		ctx := context.Background()
		require.NoError(t, kept[0].Checkpoint(ctx, shardlog.After(seq(0, 7))), "later, and with any batch of the shard")
		require.ErrorIs(t, kept[1].Checkpoint(ctx, shardlog.After(seq(0, 6))), consumer.ErrBehind)
		require.ErrorIs(t, kept[1].Checkpoint(ctx, shardlog.After(seq(0, 10))), consumer.ErrAhead)
		src.split(0)
		src.put(1, 1)
		settle()
		assert.False(t, st.row(t, 0).Ended)
		assert.Contains(t, r.stats(0).Blocked, "waits for a checkpoint")
		require.NoError(t, kept[1].Checkpoint(ctx, shardlog.After(seq(0, 9))))
		settle()
		assert.True(t, st.row(t, 0).Ended)
		require.Len(t, kept, 3, "the child starts")
		r.stop()
		require.ErrorIs(t, kept[2].Checkpoint(ctx, shardlog.After(seq(1, 0))), shardlog.ErrClosed)
		assert.Equal(t, shardlog.KindAfter, st.row(t, 1).Checkpoint.Kind())
		assert.NotEqual(t, shardlog.After(seq(1, 0)), st.row(t, 1).Checkpoint)
	})
}

func TestPrepareIsHandedToTheNextWorker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 10)
		state := []byte("about to do it")
		a := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			assert.Nil(t, b.Prepared)
			assert.NoError(t, b.Prepare(ctx, shardlog.After(seq(0, 4)), state))
			assert.ErrorIs(t, b.Prepare(ctx, shardlog.After(seq(0, 10)), state), consumer.ErrAhead)
			assert.ErrorIs(t, b.Prepare(ctx, shardlog.After(seq(0, 4)), make([]byte, checkpoint.MaxPreparedState+1)), shardlog.ErrInvalid)
			state[0] = 'X'
			<-ctx.Done()
			return context.Cause(ctx)
		}), consumer.Options{Store: st})
		settle()
		assert.Equal(t, shardlog.TrimHorizon(), st.row(t, 0).Checkpoint)
		a.kill()
		var got *consumer.Prepared
		b := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			got = b.Prepared
			return nil
		}), consumer.Options{Store: st})
		settle()
		require.NotNil(t, got)
		assert.Equal(t, shardlog.After(seq(0, 4)), got.Position)
		assert.Equal(t, "about to do it", string(got.State))
		assert.Nil(t, st.row(t, 0).Prepared, "a checkpoint removes it")
		b.stop()
	})
}
