package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

var errBroken = errors.New("broken")

func TestDeliversAllShardsInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(3), newStore(), &sink{}
		for i := range 3 {
			src.put(i, 25)
		}
		r := start(t, src, k, consumer.Options{Store: st, MaxBatchRecords: 10})
		settle()
		for i := range 3 {
			assert.Subset(t, k.got(), names(i, 0, 25))
			assert.Equal(t, shardlog.After(seq(i, 24)), st.row(t, i).Checkpoint)
			s := r.stats(i)
			assert.Equal(t, uint64(25), s.Delivered)
			assert.Equal(t, shardlog.After(seq(i, 24)), s.Checkpoint)
			assert.Zero(t, s.BehindRecords)
			assert.Empty(t, s.Blocked)
		}
		assert.Len(t, k.got(), 75)
		assert.Equal(t, names(1, 0, 25), only(k.got(), "1/"))
		r.stop()
	})
}

// only returns the names with a prefix.
func only(names []string, prefix string) []string {
	var out []string
	for _, n := range names {
		if len(n) > len(prefix) && n[:len(prefix)] == prefix {
			out = append(out, n)
		}
	}
	return out
}

func TestTailIsDeliveredAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(1), &sink{}
		r := start(t, src, k, consumer.Options{Store: newStore()})
		for range 5 {
			time.Sleep(7 * time.Minute)
			src.put(0, 1)
			settle() // no time passes here
		}
		assert.Equal(t, names(0, 0, 5), k.got())
		reads := src.readsOf(0)
		assert.Equal(t, 20*time.Second, reads[0].Wait)
		assert.Less(t, len(reads), 5*(7*3+3), "it polls more often than PollWait")
		r.stop()
	})
}

func TestSourceThatCannotWaitIsNotReadInALoop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(1), &sink{}
		src.neverWait = true
		r := start(t, src, k, consumer.Options{Store: newStore()})
		time.Sleep(time.Minute)
		settle()
		assert.Less(t, len(src.readsOf(0)), 80)
		src.put(0, 1)
		time.Sleep(time.Second)
		settle()
		assert.Equal(t, names(0, 0, 1), k.got())
		r.stop()
	})
}

func TestBatchDescribesItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := newSource(1)
		src.put(0, 10)
		src.split(0)
		var got []consumer.Batch
		r := start(t, src, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
			got = append(got, *b)
			return nil
		}), consumer.Options{Store: newStore(), MaxBatchRecords: 6})
		settle()
		require.Len(t, got, 2)
		assert.Len(t, got[0].Records, 6)
		assert.Equal(t, shardID(0), got[0].ShardID)
		assert.Equal(t, int64(4), got[0].BehindRecords)
		assert.Equal(t, 4*time.Second, got[0].Behind)
		assert.Equal(t, uint64(1), got[0].Epoch)
		assert.Equal(t, 1, got[0].Attempt)
		assert.False(t, got[0].ShardEnd)
		assert.True(t, got[1].ShardEnd)
		assert.Zero(t, got[1].BehindRecords)
		r.stop()
	})
}

// Scenario 1: the worker dies after processing and before the checkpoint.
func TestScenario01CrashBeforeCheckpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 5)
		r := start(t, src, k, consumer.Options{Store: st, MaxBatchRecords: 5})
		settle()
		src.put(0, 5)
		st.onUpdate(func(checkpoint.Lease) (bool, error) { return false, checkpoint.ErrUnavailable })
		settle()
		require.Equal(t, names(0, 0, 10), k.got())
		assert.Contains(t, r.stats(0).Blocked, "store")
		r.kill()
		st.onUpdate(nil)

		k2 := &sink{}
		before := st.row(t, 0)
		r = start(t, src, k2, consumer.Options{Store: st})
		settle()
		assert.Equal(t, names(0, 5, 10), k2.got())
		assert.Equal(t, before.Epoch+1, st.row(t, 0).Epoch)
		r.stop()
	})
}

func TestSwitchesCountOwnersSinceTheCheckpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		for n := range uint64(3) {
			r := start(t, src, &sink{}, consumer.Options{Store: st})
			settle()
			assert.Equal(t, n+1, st.row(t, 0).Switches)
			assert.Equal(t, n+1, st.row(t, 0).Epoch)
			r.kill()
		}
		src.put(0, 1)
		r := start(t, src, &sink{}, consumer.Options{Store: st})
		settle()
		assert.Zero(t, st.row(t, 0).Switches)
		r.stop()
		assert.Equal(t, uint64(4), st.row(t, 0).Epoch, "a release is not a takeover")
	})
}

// Scenario 2: the worker dies in the middle of the handler.
func TestScenario02CrashInsideHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 5)
		var cause error
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, _ *consumer.Batch) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil // too late: it was asked to give up
		}), consumer.Options{Store: st})
		settle()
		r.kill()
		require.ErrorIs(t, cause, shardlog.ErrClosed)
		assert.Equal(t, shardlog.TrimHorizon(), st.row(t, 0).Checkpoint)

		k := &sink{}
		r = start(t, src, k, consumer.Options{Store: st})
		settle()
		assert.Equal(t, names(0, 0, 5), k.got())
		r.stop()
	})
}

// Scenario 3: the worker dies after the checkpoint write, before its reply.
func TestScenario03CrashAfterCheckpointWrite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		r := start(t, src, k, consumer.Options{Store: st})
		settle()
		st.onUpdate(func(checkpoint.Lease) (bool, error) { return true, checkpoint.ErrUnavailable })
		src.put(0, 5)
		settle()
		r.kill()
		st.onUpdate(nil)

		r = start(t, src, k, consumer.Options{Store: st})
		settle()
		assert.Equal(t, names(0, 0, 5), k.got(), "nothing is delivered again")
		r.stop()
	})
}

// Scenario 7, for checkpoints: the write was made, but its reply was lost.
func TestScenario07LostReplyOfCheckpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		r := start(t, src, k, consumer.Options{Store: st, MaxBatchRecords: 1})
		settle()
		lost := 0
		st.onUpdate(func(checkpoint.Lease) (bool, error) {
			if lost++; lost%2 == 1 {
				return true, checkpoint.ErrUnavailable
			}
			return false, nil
		})
		src.put(0, 10)
		time.Sleep(time.Hour)
		settle()
		assert.Equal(t, names(0, 0, 10), k.got())
		assert.Equal(t, shardlog.After(seq(0, 9)), st.row(t, 0).Checkpoint)
		r.stop()
		assert.Empty(t, st.row(t, 0).Owner)
	})
}

// Behind what is stored is refused (28), and ahead of what was delivered (29);
// the same again writes nothing (30).
func TestScenario28Scenario29Scenario30BatchCheckpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 10)
		var kept *consumer.Batch
		calls := 0
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			if calls++; calls > 1 {
				return nil
			}
			kept = b
			writes := st.updateCount()
			assert.NoError(t, b.Checkpoint(ctx, shardlog.After(seq(0, 6))))
			assert.Equal(t, shardlog.After(seq(0, 6)), st.row(t, 0).Checkpoint)
			assert.Equal(t, writes+1, st.updateCount())

			assert.NoError(t, b.Checkpoint(ctx, shardlog.After(seq(0, 6))))
			assert.Equal(t, writes+1, st.updateCount(), "equal: no write")

			assert.ErrorIs(t, b.Checkpoint(ctx, shardlog.After(seq(0, 5))), consumer.ErrBehind)
			assert.ErrorIs(t, b.Checkpoint(ctx, shardlog.AfterSub(seq(0, 6), 3)), consumer.ErrBehind)
			assert.ErrorIs(t, b.Checkpoint(ctx, shardlog.After(seq(0, 10))), consumer.ErrAhead)
			assert.ErrorIs(t, b.Checkpoint(ctx, shardlog.Latest()), shardlog.ErrInvalid)
			assert.ErrorIs(t, b.Checkpoint(ctx, shardlog.After(shardlog.SequenceNumber{})), shardlog.ErrInvalid)
			assert.Equal(t, writes+1, st.updateCount())
			return errBroken
		}), consumer.Options{Store: st, MaxBatchRecords: 10})
		time.Sleep(time.Second)
		settle()
		assert.Equal(t, 2, calls)
		assert.Equal(t, shardlog.After(seq(0, 9)), st.row(t, 0).Checkpoint)
		assert.Equal(t, uint64(10), r.stats(0).Delivered)
		require.ErrorIs(t, kept.Checkpoint(context.Background(), shardlog.After(seq(0, 9))), shardlog.ErrClosed)
		r.stop()
	})
}

func TestBatchMadeByATestCannotCheckpoint(t *testing.T) {
	b := &consumer.Batch{ShardID: "x"}
	require.ErrorIs(t, b.Checkpoint(context.Background(), shardlog.After(seq(0, 1))), shardlog.ErrClosed)
}

// Scenario 32: an error at record 57 of 100.
func TestScenario32EachStopsAtTheFailedRecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 100)
		failed := false
		each := consumer.Each(func(_ context.Context, rec shardlog.Record) error {
			if string(rec.Data) == name(0, 56) && !failed {
				failed = true
				return errBroken
			}
			k.take([]shardlog.Record{rec})
			return nil
		})
		var events []consumer.Event
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			k.note(b)
			return each.Handle(ctx, b)
		}), consumer.Options{Store: st, MaxBatchRecords: 100, OnEvent: func(e consumer.Event) {
			if e.Kind == consumer.EventHandlerFailed {
				events = append(events, e)
				assert.Equal(t, shardlog.TrimHorizon(), st.row(t, 0).Checkpoint)
			}
		}})
		settle()
		assert.Equal(t, shardlog.After(seq(0, 55)), st.row(t, 0).Checkpoint, "56 are checkpointed")
		assert.Contains(t, r.stats(0).Blocked, "handler, attempt 1: record 56 of the batch: broken")
		assert.Equal(t, uint64(56), r.stats(0).Delivered)
		time.Sleep(time.Second)
		settle()
		assert.Equal(t, names(0, 0, 100), k.got(), "each record is done once")
		calls := k.batches()
		require.Len(t, calls, 2)
		assert.Equal(t, name(0, 56), calls[1].first)
		assert.Equal(t, 2, calls[1].attempt)
		require.Len(t, events, 1)
		require.ErrorIs(t, events[0].Err, errBroken)
		r.stop()
	})
}

func TestPartialErrorIndexes(t *testing.T) {
	for _, c := range []struct{ index, redelivered int }{{-1, 10}, {0, 10}, {3, 7}, {10, 0}, {11, 10}} {
		bubble(t, func(t *testing.T) {
			src, st, k := newSource(1), newStore(), &sink{}
			src.put(0, 10)
			r := start(t, src, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
				if k.note(b); b.Attempt == 1 {
					return &consumer.PartialError{Index: c.index, Err: errBroken}
				}
				return nil
			}), consumer.Options{Store: st})
			time.Sleep(time.Minute)
			settle()
			calls := k.batches()
			if c.redelivered == 0 {
				require.Len(t, calls, 1)
			} else {
				require.Len(t, calls, 2)
				assert.Equal(t, c.redelivered, calls[1].n)
			}
			assert.Equal(t, shardlog.After(seq(0, 9)), st.row(t, 0).Checkpoint)
			r.stop()
		})
	}
}

// Scenario 36: a panic is an error with a stack; other shards continue.
func TestScenario36PanicIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(2), newStore(), &sink{}
		src.put(0, 1)
		src.put(1, 1)
		var seen atomic.Pointer[consumer.PanicError]
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			if b.ShardID == shardID(0) && b.Attempt < 3 {
				panic(errBroken)
			}
			return k.Handle(ctx, b)
		}), consumer.Options{Store: st, OnEvent: func(e consumer.Event) {
			var p *consumer.PanicError
			if errors.As(e.Err, &p) {
				seen.Store(p)
			}
		}})
		settle()
		assert.Equal(t, names(1, 0, 1), k.got())
		p := seen.Load()
		require.NotNil(t, p)
		assert.Equal(t, errBroken, p.Value)
		require.ErrorIs(t, p, errBroken)
		assert.Contains(t, string(p.Stack), "TestScenario36PanicIsAnError")
		assert.NotContains(t, p.Error(), "\n")
		time.Sleep(time.Minute)
		settle()
		assert.ElementsMatch(t, []string{"0/0", "1/0"}, k.got())
		assert.Equal(t, uint64(2), r.stats(0).Failures)
		r.stop()
	})
}

func TestEachKeepsWhatWasDoneBeforeAPanic(t *testing.T) {
	err := consumer.Each(func(_ context.Context, rec shardlog.Record) error {
		if rec.PartitionKey == "bad" {
			panic("x")
		}
		return nil
	}).Handle(context.Background(), &consumer.Batch{Records: []shardlog.Record{{}, {PartitionKey: "bad"}, {}}})
	var partial *consumer.PartialError
	require.ErrorAs(t, err, &partial)
	assert.Equal(t, 1, partial.Index)
	var p *consumer.PanicError
	require.ErrorAs(t, err, &p)
}

// Scenario 37: a batch that always fails blocks its shard and no other.
func TestScenario37FailingBatchIsRetriedForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(2), newStore(), &sink{}
		src.put(0, 3)
		src.put(1, 3)
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			if b.ShardID == shardID(0) {
				k.note(b)
				return errBroken
			}
			return k.Handle(ctx, b)
		}), consumer.Options{Store: st, MaxBatchRecords: 1, Retry: consumer.Retry{Initial: time.Second, Max: time.Minute}})
		time.Sleep(24 * time.Hour)
		settle()
		assert.Equal(t, names(1, 0, 3), k.got())
		s := r.stats(0)
		assert.Regexp(t, `^handler, attempt \d+: broken$`, s.Blocked)
		assert.Greater(t, s.Attempts, 1000)
		assert.Equal(t, uint64(s.Attempts), s.Failures)
		assert.Zero(t, s.Delivered)
		assert.Equal(t, shardlog.TrimHorizon(), st.row(t, 0).Checkpoint)

		var last call
		var pauses []time.Duration
		for _, c := range k.batches() {
			if c.shard != shardID(0) {
				continue
			}
			assert.Equal(t, name(0, 0), c.first, "nothing is skipped")
			if last.attempt > 0 {
				pauses = append(pauses, c.at.Sub(last.at))
				assert.Equal(t, last.attempt+1, c.attempt)
			}
			last = c
		}
		var sum time.Duration
		for i, p := range pauses {
			bound := min(time.Minute, time.Second<<min(i, 10))
			assert.LessOrEqual(t, p, bound+1, "pause %d", i)
			sum += p
		}
		assert.InDelta(t, 30, sum.Seconds()/float64(len(pauses)), 5, "full jitter: half of the bound on average")
		r.stop()
	})
}

func TestGoexitInHandlerEndsRun(t *testing.T) {
	exit := func(context.Context, *consumer.Batch) error {
		runtime.Goexit() // what t.FailNow does
		return nil
	}
	fail := func(context.Context, *consumer.Batch) error { return errors.New("no") }
	bury := func(context.Context, consumer.DeadLetter) error {
		runtime.Goexit()
		return nil
	}
	for what, c := range map[string]struct {
		h consumer.HandlerFunc
		o consumer.Options
	}{
		"handler":                  {exit, consumer.Options{}},
		"handler, by key":          {exit, consumer.Options{PerKey: 4}},
		"dead letters":             {fail, consumer.Options{MaxAttempts: 1, DeadLetter: bury}},
		"dead letters, by key":     {fail, consumer.Options{MaxAttempts: 1, DeadLetter: bury, PerKey: 4}},
		"dead letters, with lanes": {fail, consumer.Options{MaxAttempts: 1, DeadLetter: bury, Lanes: 2}},
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				src := newSource(1)
				src.put(0, 1)
				o := c.o
				o.Store = newStore()
				r := start(t, src, c.h, o)
				err := r.result()
				var e *shardlog.Error
				require.ErrorAs(t, err, &e)
				require.ErrorContains(t, err, "ended its goroutine")
				assert.Equal(t, shardID(0), e.Shard)
			})
		})
	}
}

func TestCheckpointEvery(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		r := start(t, src, k, consumer.Options{Store: st, MaxBatchRecords: 1, CheckpointEvery: time.Minute, PollWait: time.Hour})
		settle()
		writes := st.updateCount()
		src.put(0, 20)
		settle()
		assert.Equal(t, writes, st.updateCount())
		assert.Equal(t, shardlog.TrimHorizon(), r.stats(0).Checkpoint)
		assert.Equal(t, uint64(20), r.stats(0).Delivered)
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, writes+1, st.updateCount(), "written when it is due, although nothing arrives")
		assert.Equal(t, shardlog.After(seq(0, 19)), st.row(t, 0).Checkpoint)
		time.Sleep(time.Hour)
		settle()
		assert.Equal(t, writes+1, st.updateCount(), "nothing new, no write")
		src.put(0, 1)
		settle()
		src.put(0, 1)
		settle()
		assert.Equal(t, writes+2, st.updateCount())
		r.stop()
		assert.Equal(t, writes+3, st.updateCount(), "at shutdown, together with the release")
		assert.Equal(t, shardlog.After(seq(0, 21)), st.row(t, 0).Checkpoint)
	})
}

// With explicit checkpoints a shard ends whatever form they have, and whatever
// follows that the handler does not get.
func TestExplicitCheckpointsCoverTheEnd(t *testing.T) {
	damaged := aggregate("a", same(5, "k")...)
	damaged[len(damaged)-1] ^= 1
	x := []byte("x") // is filtered out
	for name, data := range map[string][][]byte{
		"plain":               {[]byte("a"), []byte("b")},
		"an aggregate":        {[]byte("a"), aggregate("a", same(5, "k")...)},
		"a damaged aggregate": {[]byte("a"), damaged},
		"all filtered out":    {x, x, x},
		"the last":            {[]byte("a"), []byte("b"), x, x, x, x},
	} {
		for form, after := range map[string]func(*consumer.Batch) shardlog.Position{
			"Batch.After": func(b *consumer.Batch) shardlog.Position { return b.After(len(b.Records) - 1) },
			"AfterSub": func(b *consumer.Batch) shardlog.Position {
				last := b.Records[len(b.Records)-1]
				return shardlog.AfterSub(last.Sequence, last.SubSequence)
			},
		} {
			for most := 1; most <= 3; most++ {
				t.Run(fmt.Sprintf("%s/%s/%d", name, form, most), func(t *testing.T) {
					bubble(t, func(t *testing.T) {
						src, st, k := newSource(1), newStore(), &sink{}
						src.putData(0, data...)
						src.put(src.add(0), 1)
						r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
							require.NoError(t, b.Checkpoint(ctx, after(b)))
							return k.Handle(ctx, b)
						}), consumer.Options{
							Store: st, ExplicitCheckpoints: true, MaxBatchRecords: most,
							Filter: func(r *shardlog.Record) bool { return string(r.Data) != "x" },
						})
						time.Sleep(time.Minute)
						settle()
						assert.Contains(t, k.got(), "1/0")
						row := st.row(t, 0)
						assert.True(t, row.Ended)
						assert.Equal(t, shardlog.After(seq(0, len(data)-1)), row.Checkpoint)
						r.stop()
					})
				})
			}
		}
	}
}

// A handler that fails with a record does not checkpoint it. When it went to the
// dead letters, the shard ends without that.
func TestExplicitCheckpointsAndDeadLetters(t *testing.T) {
	for _, bad := range []int{0, 1, 2} {
		bubble(t, func(t *testing.T) {
			src, st, k := newSource(1), newStore(), &sink{}
			src.put(0, 3)
			src.put(src.add(0), 1)
			dead := 0
			r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
				for i, rec := range b.Records {
					if string(rec.Data) == name(0, bad) {
						return &consumer.PartialError{Index: i, Err: errBroken}
					}
					k.take(b.Records[i : i+1])
					require.NoError(t, b.Checkpoint(ctx, b.After(i)))
				}
				return nil
			}), consumer.Options{Store: st, ExplicitCheckpoints: true, MaxAttempts: 2, DeadLetter: func(context.Context, consumer.DeadLetter) error {
				dead++
				return nil
			}})
			time.Sleep(time.Hour)
			settle()
			assert.Equal(t, 1, dead)
			assert.Equal(t, append(slices.Delete(names(0, 0, 3), bad, bad+1), "1/0"), k.got())
			assert.True(t, st.row(t, 0).Ended)
			r.stop()
		})
	}
}

// A checkpoint of the last user record of what is stored is one of all of it: a
// batch that fails behind it does not come again.
func TestCheckpointBySubSequence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.putData(0, []byte("plain"), aggregate("a", same(3, "k")...), []byte("behind"))
		failed := false
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			if !failed {
				failed = true
				for i, want := range []shardlog.Position{
					shardlog.After(seq(0, 0)), shardlog.AfterSub(seq(0, 1), 0), shardlog.AfterSub(seq(0, 1), 1), shardlog.After(seq(0, 1)),
				} {
					require.NoError(t, b.Checkpoint(ctx, shardlog.AfterSub(b.Records[i].Sequence, b.Records[i].SubSequence)))
					assert.Equal(t, want, st.row(t, 0).Checkpoint)
				}
				return errBroken
			}
			return k.Handle(ctx, b)
		}), consumer.Options{Store: st})
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, []string{"behind"}, k.got())
		r.stop()
	})
}

// A batch is the handler's: one that it has filtered, or put something in, is done
// like any other.
func TestHandlerThatChangesItsBatch(t *testing.T) {
	for name, change := range map[string]func([]shardlog.Record) []shardlog.Record{
		"filters": func(rs []shardlog.Record) []shardlog.Record {
			return slices.DeleteFunc(rs, func(r shardlog.Record) bool { return true })
		},
		"adds": func(rs []shardlog.Record) []shardlog.Record { return append(rs, rs...) },
	} {
		for kind, o := range map[string]consumer.Options{"in order": {}, "per key": {PerKey: 2}, "lanes": {Lanes: 2}} {
			t.Run(name+" "+kind, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					src, st := newSource(1), newStore()
					src.putKeys(0, 30, 5)
					var got, calls atomic.Int64
					o.Store = st
					r := start(t, src, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
						got.Add(int64(len(b.Records)))
						if calls.Add(1) > 100 {
							return errBroken // the attempt after it comes later
						}
						b.Records = change(b.Records)
						return nil
					}), o)
					time.Sleep(time.Minute)
					settle()
					assert.EqualValues(t, 30, got.Load())
					r.stop()
				})
			})
		}
	}
}
