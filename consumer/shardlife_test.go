package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// life is a handler that writes down its calls, and may fail.
type life struct {
	mu      sync.Mutex
	log     []string
	fail    func(call string) error
	end     func(ctx context.Context, e *consumer.End) error
	stop    func(ctx context.Context, s *consumer.Stop) error
	handle  func(ctx context.Context, b *consumer.Batch) error
	stopped []consumer.Stop
	lost    []consumer.Lost
	started []consumer.Start
}

func (l *life) note(format string, args ...any) error {
	l.mu.Lock()
	call := fmt.Sprintf(format, args...)
	l.log = append(l.log, call)
	fail := l.fail
	l.mu.Unlock()
	if fail != nil {
		return fail(call)
	}
	return nil
}

func (l *life) calls() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.log...)
}

func number(id string) string { return id[len(id)-1:] }

func (l *life) StartShard(_ context.Context, s consumer.Start) error {
	l.mu.Lock()
	l.started = append(l.started, s)
	l.mu.Unlock()
	return l.note("start %s", number(s.ShardID))
}

func (l *life) EndShard(ctx context.Context, e *consumer.End) error {
	if l.end != nil {
		if err := l.end(ctx, e); err != nil {
			return err
		}
	}
	return l.note("end %s", number(e.ShardID))
}

func (l *life) StopShard(ctx context.Context, s *consumer.Stop) error {
	l.mu.Lock()
	l.stopped = append(l.stopped, *s)
	l.mu.Unlock()
	if l.stop != nil {
		if err := l.stop(ctx, s); err != nil {
			return err
		}
	}
	return l.note("stop %s", number(s.ShardID))
}

func (l *life) LoseShard(ctx context.Context, lost consumer.Lost) {
	l.mu.Lock()
	l.lost = append(l.lost, lost)
	l.mu.Unlock()
	if ctx.Err() == nil {
		panic("the context has not ended")
	}
	_ = l.note("lose %s", number(lost.ShardID))
}

func (l *life) Handle(ctx context.Context, b *consumer.Batch) error {
	if l.handle != nil {
		if err := l.handle(ctx, b); err != nil {
			return err
		}
	}
	return l.note("%s: %d", number(b.ShardID), len(b.Records))
}

// Also the shard without records, and the one whose end is found after its last
// batch, end with a call.
func TestLifeOfShardsThroughAReshard(t *testing.T) {
	for _, perKey := range []int{1, 4} {
		bubble(t, func(t *testing.T) {
			src, st, l := newSource(1), newStore(), &life{}
			src.put(0, 3)
			r := start(t, src, l, consumer.Options{Store: st, PerKey: perKey})
			settle()
			assert.Equal(t, []string{"start 0", "0: 3"}, l.calls())
			src.split(0) // the end follows the last batch
			settle()
			time.Sleep(time.Second)
			settle()
			src.add(1) // shard 1 was empty, and closes
			time.Sleep(time.Second)
			settle()
			r.stop()
			calls := l.calls()
			assert.Equal(t, []string{"start 0", "0: 3", "end 0"}, calls[:3])
			assert.ElementsMatch(t, []string{"start 1", "start 2", "end 1", "start 3", "stop 2", "stop 3"}, calls[3:])
			assert.Less(t, indexOf(calls, "end 1"), indexOf(calls, "start 3"))
			assert.True(t, st.row(t, 0).Ended)
			assert.True(t, st.row(t, 1).Ended)
			require.Len(t, l.stopped, 2)
			assert.ErrorIs(t, l.stopped[0].Cause, consumer.ErrShutdown)
			assert.Equal(t, uint64(1), l.started[0].Epoch)
			assert.Equal(t, shardlog.TrimHorizon(), l.started[0].From)
		})
	}
}

func indexOf(all []string, s string) int {
	for i, v := range all {
		if v == s {
			return i
		}
	}
	return -1
}

// What fails or panics at the start and at the end of a shard is tried again,
// and delays what comes after it.
func TestStartAndEndAreTriedUntilTheySucceed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, rec := newSource(1), newStore(), &recorder{}
		src.put(0, 3)
		src.split(0)
		tries := map[string]int{} // of one shard: those of others are called at the same time
		l := &life{fail: func(call string) error {
			if call == "start 0" || call == "end 0" {
				tries[call]++
				switch tries[call] {
				case 1:
					return errBroken
				case 2:
					panic("broken too")
				}
			}
			return nil
		}}
		r := start(t, src, l, consumer.Options{Store: st, OnEvent: rec.note})
		time.Sleep(time.Minute)
		settle()
		r.stop()
		assert.Equal(t, []string{"start 0", "start 0", "start 0", "0: 3", "end 0", "end 0", "end 0"}, l.calls()[:7])
		assert.Len(t, rec.of(consumer.EventHandlerFailed), 4)
		assert.True(t, st.row(t, 0).Ended)
	})
}

// A shutdown during a start that never succeeds calls nothing else.
func TestStartThatNeverSucceeds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 3)
		l := &life{fail: func(string) error { return errBroken }}
		r := start(t, src, l, consumer.Options{Store: st})
		time.Sleep(time.Minute)
		settle()
		assert.Contains(t, r.stats(0).Blocked, "start of the shard, attempt")
		r.stop()
		for _, call := range l.calls() {
			assert.Equal(t, "start 0", call)
		}
		assert.Empty(t, st.row(t, 0).Owner)
	})
}

// The checkpoint that StopShard stores, and everything handled, is where the
// other worker starts.
func TestStopInAHandOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(2), newStore()
		src.put(0, 3)
		src.put(1, 3)
		a, b := &life{}, &life{}
		a.stop = func(ctx context.Context, s *consumer.Stop) error {
			if errors.Is(s.Cause, consumer.ErrHandOff) {
				assert.NoError(t, s.Checkpoint(ctx, s.Position))
				assert.ErrorIs(t, s.Checkpoint(ctx, shardlog.After(seq(1, 7))), consumer.ErrAhead)
				panic("does not stop the hand-over")
			}
			return nil
		}
		ra := start(t, src, a, consumer.Options{Store: st, WorkerID: "a"})
		settle()
		rb := start(t, src, b, consumer.Options{Store: st, WorkerID: "b"})
		time.Sleep(10 * time.Second)
		settle()
		require.Len(t, a.stopped, 1)
		require.ErrorIs(t, a.stopped[0].Cause, consumer.ErrHandOff)
		require.Len(t, b.started, 1)
		assert.Equal(t, a.stopped[0].ShardID, b.started[0].ShardID)
		assert.Equal(t, a.stopped[0].Position, b.started[0].From)
		assert.Equal(t, a.stopped[0].Epoch+1, b.started[0].Epoch)
		kept := a.stopped[0]
		require.ErrorIs(t, kept.Checkpoint(context.Background(), kept.Position), shardlog.ErrClosed, "later")
		rb.stop()
		ra.stop()
		assert.Empty(t, a.lost)
	})
}

func TestLoseAndCloseCallLoseShard(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, l := newSource(1), newStore(), &life{}
		src.put(0, 3)
		r := start(t, src, l, consumer.Options{Store: st})
		settle()
		beat := st.alive(t, "other")
		st.take(t, 0, "other")
		time.Sleep(time.Second)
		settle()
		beat()
		time.Sleep(10 * time.Second)
		settle()
		require.Len(t, l.lost, 1)
		assert.ErrorIs(t, l.lost[0].Cause, consumer.ErrLeaseLost)
		assert.Equal(t, uint64(1), l.lost[0].Epoch)
		assert.Empty(t, l.stopped)
		time.Sleep(time.Minute) // the other one is dead, and the shard comes back
		settle()
		r.kill()
		require.Len(t, l.lost, 2)
		assert.ErrorIs(t, l.lost[1].Cause, shardlog.ErrClosed)
		assert.Equal(t, uint64(3), l.lost[1].Epoch)
		assert.Equal(t, []string{"start 0", "0: 3", "lose 0", "start 0", "lose 0"}, l.calls())
	})
}

// A shard that cannot continue stops with its error.
func TestStopOfAShardThatFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, l := newSource(1), newStore(), &life{}
		src.put(0, 3)
		broken := false
		src.readFault = func(shardlog.ReadRequest) error {
			if broken {
				return shardlog.ErrCorrupt
			}
			return nil
		}
		r := start(t, src, l, consumer.Options{Store: st})
		settle()
		broken = true
		src.put(0, 1)
		require.ErrorIs(t, r.result(), shardlog.ErrCorrupt)
		require.Len(t, l.stopped, 1)
		assert.ErrorIs(t, l.stopped[0].Cause, shardlog.ErrCorrupt)
	})
}

// With explicit checkpoints EndShard can store that everything is done, as
// a hosted processor of the Kinesis Client Library does.
func TestEndShardWithExplicitCheckpoints(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, l := newSource(1), newStore(), &life{}
		src.put(0, 3)
		src.split(0)
		l.end = func(ctx context.Context, e *consumer.End) error {
			if e.ShardID == shardID(0) {
				assert.Equal(t, []string{shardID(1), shardID(2)}, e.Children)
				assert.Equal(t, shardlog.After(seq(0, 2)), e.Position)
			}
			return e.Checkpoint(ctx, e.Position)
		}
		r := start(t, src, l, consumer.Options{Store: st, ExplicitCheckpoints: true})
		time.Sleep(time.Second)
		settle()
		assert.True(t, st.row(t, 0).Ended)
		src.add(1) // ends it without a record
		time.Sleep(time.Second)
		settle()
		assert.True(t, st.row(t, 1).Ended)
		r.stop()
	})
}

// With explicit checkpoints a shard that is given back waits, within its
// bounds, for what was delivered.
func TestLeavingWaitsForExplicitCheckpoints(t *testing.T) {
	for what, c := range map[string]struct {
		covers bool
		takes  time.Duration
	}{
		"covered":     {true, 7 * time.Second},
		"not covered": {false, 20 * time.Second},
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				src, st := newSource(1), newStore()
				src.put(0, 3)
				var flushed time.Time
				l := &life{handle: func(_ context.Context, b *consumer.Batch) error {
					go func() {
						<-b.Leaving()
						flushed = time.Now()
						time.Sleep(7 * time.Second) // to write it somewhere
						if c.covers {
							assert.NoError(t, b.Checkpoint(context.Background(), b.After(len(b.Records)-1)))
						}
					}()
					return nil
				}}
				r := start(t, src, l, consumer.Options{Store: st, ExplicitCheckpoints: true, ShutdownTimeout: 20 * time.Second})
				time.Sleep(time.Minute)
				settle()
				assert.Zero(t, flushed)
				began := time.Now()
				r.stop()
				settle()
				assert.Equal(t, began, flushed)
				assert.Equal(t, c.takes, time.Since(began))
				assert.Equal(t, c.covers, st.row(t, 0).Checkpoint == shardlog.After(seq(0, 2)))
				time.Sleep(time.Minute)
				settle()
			})
		})
	}
}

func TestLeavingInAHandOverAndAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(2), newStore()
		src.put(0, 3)
		src.put(1, 3)
		h := consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
			go func() {
				<-b.Leaving()
				time.Sleep(3 * time.Second)
				_ = b.Checkpoint(context.Background(), b.After(len(b.Records)-1))
			}()
			return nil
		})
		var starts []consumer.Start
		b := &life{}
		ra := start(t, src, h, consumer.Options{Store: st, WorkerID: "a", ExplicitCheckpoints: true})
		settle()
		rb := start(t, src, b, consumer.Options{Store: st, WorkerID: "b"})
		time.Sleep(20 * time.Second)
		settle()
		starts = b.started
		require.Len(t, starts, 1)
		given := int(starts[0].ShardID[len(starts[0].ShardID)-1] - '0')
		assert.Equal(t, shardlog.After(seq(given, 2)), starts[0].From)
		src.split(1 - given)
		time.Sleep(4 * time.Second)
		settle()
		assert.True(t, st.row(t, 1-given).Ended, "not a whole interval later")
		rb.stop()
		ra.stop()
	})
}

// A lease is lost while the end is being stored: both calls are made.
func TestEndThatCannotBeStored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, l := newSource(1), newStore(), &life{}
		src.put(0, 3)
		src.split(0)
		l.end = func(context.Context, *consumer.End) error {
			st.onUpdate(func(row checkpoint.Lease) (bool, error) {
				if row.Ended {
					st.onUpdate(nil)
					st.take(t, 0, "other")
					return false, shardlog.ErrConflict
				}
				return false, nil
			})
			l.end = nil
			return nil
		}
		r := start(t, src, l, consumer.Options{Store: st})
		settle()
		assert.Equal(t, []string{"start 0", "0: 3", "end 0", "lose 0"}, l.calls()[:4])
		time.Sleep(time.Minute)
		settle()
		assert.True(t, st.row(t, 0).Ended, "by the next owner, which is called again")
		r.stop()
	})
}

// The record that a handler gave back in a shutdown is not given up.
func TestFailureInAShutdownDropsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 3)
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}), consumer.Options{Store: st, MaxAttempts: 1, Drop: true, ShutdownTimeout: time.Second})
		settle()
		r.cancel()
		require.NoError(t, r.result())
		assert.Zero(t, r.stats(0).DeadLetters)
		assert.Equal(t, shardlog.TrimHorizon(), st.row(t, 0).Checkpoint)
	})
}

// A StopShard that does not return after its context has ended is left behind
// as a handler is.
func TestStopShardThatDoesNotReturn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, l := newSource(1), newStore(), &life{}
		src.put(0, 3)
		release := make(chan struct{})
		var ended time.Time
		l.stop = func(ctx context.Context, _ *consumer.Stop) error {
			<-ctx.Done()
			ended = time.Now()
			<-release
			return nil
		}
		r := start(t, src, l, consumer.Options{Store: st, ShutdownTimeout: 7 * time.Second})
		settle()
		began := time.Now()
		r.cancel()
		require.ErrorIs(t, r.result(), consumer.ErrHandlerStuck)
		settle()
		assert.Equal(t, began.Add(7*time.Second), ended)
		close(release)
		settle()
	})
}

// A handler that never asks for Leaving does not make a shutdown wait, nor a
// hand-over, although not everything is covered.
func TestExplicitCheckpointsWithoutLeavingDoNotWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 3)
		r := start(t, src, &life{handle: func(ctx context.Context, b *consumer.Batch) error {
			return b.Checkpoint(ctx, b.After(0))
		}}, consumer.Options{Store: st, ExplicitCheckpoints: true})
		settle()
		began := time.Now()
		r.stop()
		assert.Equal(t, began, time.Now())
		assert.Equal(t, shardlog.After(seq(0, 0)), st.row(t, 0).Checkpoint)

		c := newConsumer(t, src, consumer.Options{Store: st, ExplicitCheckpoints: true})
		for range c.Batches(t.Context()) {
			break
		}
		assert.Equal(t, began, time.Now(), "nor does a loop")
	})
}

// The handler's own goroutine stores checkpoints while the shard is given back.
func TestExplicitCheckpointsDuringAShutdown(t *testing.T) {
	src, st := newSource(1), newStore()
	src.put(0, 1000)
	var wg sync.WaitGroup
	r := start(t, src, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
		wg.Go(func() {
			for i := range b.Records {
				if b.Checkpoint(context.Background(), b.After(i)) != nil {
					return
				}
			}
		})
		return nil
	}), consumer.Options{Store: st, ExplicitCheckpoints: true})
	for st.updateCount() < 50 {
		time.Sleep(100 * time.Microsecond)
	}
	r.stop()
	wg.Wait()
}

// The shard is lost, or the consumer closed, while the last write is made: a
// shard that failed and was to be kept was not reported as lost.
func TestLossDuringTheLastWriteCallsLoseShard(t *testing.T) {
	for what, park := range map[string]bool{"kept": true, "given back": false} {
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				src, st, l := newSource(1), newStore(), &life{}
				src.put(0, 3)
				src.readFault = func(req shardlog.ReadRequest) error {
					if req.From.Kind() == shardlog.KindAfter {
						return shardlog.ErrCorrupt
					}
					return nil
				}
				taken := false
				l.stop = func(context.Context, *consumer.Stop) error {
					st.onUpdate(nil)
					if !taken {
						taken = true
						st.take(t, 0, "other")
					}
					return nil
				}
				r := start(t, src, l, consumer.Options{Store: st, ParkFailed: park, CheckpointEvery: time.Hour})
				settle()
				assert.Equal(t, []string{"start 0", "0: 3", "stop 0", "lose 0"}, l.calls()[:4])
				require.NoError(t, r.Close())
				require.Error(t, r.result())
			})
		})
	}
	t.Run("closed", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			src, st, l := newSource(1), newStore(), &life{}
			src.put(0, 3)
			r := start(t, src, l, consumer.Options{Store: st})
			settle()
			st.onUpdate(func(checkpoint.Lease) (bool, error) { return false, checkpoint.ErrUnavailable })
			r.cancel()
			settle()
			assert.Equal(t, "stop 0", l.calls()[len(l.calls())-1])
			r.kill()
			assert.Equal(t, []string{"start 0", "0: 3", "stop 0", "lose 0"}, l.calls())
		})
	})
}

// A handler that ends its goroutine gets no further call, also in a lane.
func TestHandlerThatEndsItsGoroutineIsNotCalledAgain(t *testing.T) {
	for _, lanes := range []int{1, 4} {
		bubble(t, func(t *testing.T) {
			src, st, l := newSource(1), newStore(), &life{}
			src.put(0, 3)
			l.handle = func(context.Context, *consumer.Batch) error {
				runtime.Goexit()
				return nil
			}
			r := start(t, src, l, consumer.Options{Store: st, Lanes: lanes})
			require.ErrorContains(t, r.result(), "ended its goroutine")
			assert.Equal(t, []string{"start 0"}, l.calls())
		})
	}
}

// atNext is a source whose pages continue at the next record, as those of a log
// with offsets do, and not after the last one.
type atNext struct{ *source }

func (s atNext) Read(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	p, err := s.source.Read(ctx, req)
	if n := len(p.Records); err == nil && n > 0 {
		p.Next = shardlog.At(seq(0, int(counterOf(p.Records[n-1].Sequence))))
	}
	return p, err
}

// The end of such a page can be checkpointed: without that, a closed shard with
// explicit checkpoints never ended.
func TestCheckpointAtTheEndOfAPageThatNamesTheNextRecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 3)
		var end error
		l := &life{handle: func(ctx context.Context, b *consumer.Batch) error {
			return b.Checkpoint(ctx, b.After(len(b.Records)-1))
		}, end: func(ctx context.Context, e *consumer.End) error {
			end = e.Checkpoint(ctx, e.Position)
			return nil
		}}
		r := start(t, atNext{src}, l, consumer.Options{Store: st, ExplicitCheckpoints: true})
		settle()
		assert.Equal(t, shardlog.At(seq(0, 3)), st.row(t, 0).Checkpoint)
		src.split(0)
		time.Sleep(time.Second)
		settle()
		require.NoError(t, end)
		assert.True(t, st.row(t, 0).Ended)
		r.stop()
	})
}
