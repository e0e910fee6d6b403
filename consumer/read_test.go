package consumer_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// Scenario 58: Latest is resolved once, when the group begins.
func TestScenario58LatestIsResolvedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(2), newStore(), &sink{}
		src.put(0, 5)
		r := start(t, src, k, consumer.Options{Store: st, Start: shardlog.Latest()})
		settle()
		assert.Equal(t, shardlog.After(seq(0, 4)), st.row(t, 0).Checkpoint)
		assert.Equal(t, shardlog.KindAfter, st.row(t, 1).Checkpoint.Kind())
		r.kill() // before anything was delivered
		src.put(0, 5)
		src.put(1, 5)
		r = start(t, src, k, consumer.Options{Store: st, Start: shardlog.Latest()})
		settle()
		assert.ElementsMatch(t, append(names(0, 5, 10), names(1, 0, 5)...), k.got())
		r.stop()
	})
}

// Scenario 60: retention overtakes the checkpoint.
func TestScenario60TrimmedCheckpoint(t *testing.T) {
	prepare := func(t *testing.T) (*source, *store) {
		src, st := newSource(2), newStore()
		src.put(0, 5)
		r := start(t, src, &sink{}, consumer.Options{Store: st})
		settle()
		r.stop()
		src.put(0, 15)
		src.trim(0, 12)
		return src, st
	}
	t.Run("stops by default", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			src, st := prepare(t)
			k := &sink{}
			r := start(t, src, k, consumer.Options{Store: st})
			err := r.result()
			require.ErrorIs(t, err, shardlog.ErrExpired)
			var lost *shardlog.TrimmedError
			require.ErrorAs(t, err, &lost)
			assert.Equal(t, uint64(7), lost.Missed)
			var e *shardlog.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, shardID(0), e.Shard)
			assert.Empty(t, k.got())
			assert.Equal(t, shardlog.After(seq(0, 4)), st.row(t, 0).Checkpoint)
			assert.Empty(t, st.row(t, 0).Owner)
		})
	})
	t.Run("continues when it is told to", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			src, st := prepare(t)
			k := &sink{}
			var lost *shardlog.TrimmedError
			r := start(t, src, k, consumer.Options{Store: st, OnTrimmed: func(id string, e *shardlog.TrimmedError) error {
				assert.Equal(t, shardID(0), id)
				lost = e
				return nil
			}})
			settle()
			assert.Equal(t, names(0, 12, 20), k.got())
			assert.Equal(t, shardlog.After(seq(0, 4)), lost.From)
			assert.Equal(t, shardlog.At(seq(0, 12)), lost.Oldest)
			r.stop()
		})
	})
	t.Run("stops with the error of the callback", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			src, st := prepare(t)
			r := start(t, src, &sink{}, consumer.Options{Store: st, OnTrimmed: func(string, *shardlog.TrimmedError) error { return errBroken }})
			require.ErrorIs(t, r.result(), errBroken)
		})
	})
}

// The shard expires as a whole while a handler is slow: unread records are
// lost, and that is reported.
func TestShardExpiresWhileBehind(t *testing.T) {
	run := func(t *testing.T, onTrimmed func(string, *shardlog.TrimmedError) error, unread int) (*running, *sink) {
		src, k := newSource(1), &sink{}
		src.put(0, 10)
		src.split(0)
		src.put(1, 5)
		r := start(t, src, slow(k, time.Hour), consumer.Options{
			Store: newStore(), MaxBatchRecords: (10 - unread) / 2, PrefetchBytes: 1, OnTrimmed: onTrimmed,
		})
		settle()
		src.remove(0)
		return r, k
	}
	bubble(t, func(t *testing.T) {
		r, _ := run(t, nil, 4)
		err := r.result()
		require.ErrorIs(t, err, shardlog.ErrExpired)
		assert.ErrorContains(t, err, "up to 4 records")
	})
	bubble(t, func(t *testing.T) {
		r, k := run(t, func(string, *shardlog.TrimmedError) error { return nil }, 4)
		time.Sleep(5 * time.Hour)
		settle()
		assert.Equal(t, append(names(0, 0, 6), names(1, 0, 5)...), k.got())
		assert.Equal(t, "gone from the stream", r.stats(0).Blocked)
		r.stop()
	})
	bubble(t, func(t *testing.T) {
		r, k := run(t, nil, 0) // everything was read: nothing is lost
		time.Sleep(5 * time.Hour)
		settle()
		assert.Equal(t, append(names(0, 0, 10), names(1, 0, 5)...), k.got())
		r.stop()
	})
}

// A listed shard of which everything has expired does not block its children.
func TestShardThatExpiredBeforeTheStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(1), &sink{}
		src.put(0, 10)
		src.split(0)
		src.put(1, 5)
		src.readFault = func(req shardlog.ReadRequest) error {
			if req.ShardID == shardID(0) {
				return &shardlog.Error{Err: shardlog.ErrExpired}
			}
			return nil
		}
		r := start(t, src, k, consumer.Options{Store: newStore()})
		settle()
		assert.Equal(t, names(1, 0, 5), k.got())
		r.stop()
	})
}

func TestCorruptRecordsStopTheConsumer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(2), newStore(), &sink{}
		src.put(0, 10)
		src.put(1, 10)
		src.readFault = func(req shardlog.ReadRequest) error {
			if req.ShardID == shardID(0) && req.From == shardlog.After(seq(0, 4)) {
				return &shardlog.CorruptError{Shard: req.ShardID, Next: shardlog.After(seq(0, 7))}
			}
			return nil
		}
		var failed []consumer.Event
		r := start(t, src, slow(k, time.Second), consumer.Options{Store: st, MaxBatchRecords: 5, OnEvent: func(e consumer.Event) {
			if e.Kind == consumer.EventFailed {
				failed = append(failed, e)
			}
		}})
		err := r.result()
		require.ErrorIs(t, err, shardlog.ErrCorrupt)
		var c *shardlog.CorruptError
		require.ErrorAs(t, err, &c)
		assert.Equal(t, names(0, 0, 5), only(k.got(), "0/"), "nothing is skipped")
		assert.Equal(t, shardlog.After(seq(0, 4)), st.row(t, 0).Checkpoint)
		require.Len(t, failed, 1)
		assert.Equal(t, shardID(0), failed[0].ShardID)
		assert.Empty(t, st.row(t, 1).Owner, "the other shard was stopped in order")
		assert.Contains(t, r.stats(0).Blocked, "corrupt")
	})
}

// Scenario 61: a start in time.
func TestScenario61StartAtTime(t *testing.T) {
	bubble(t, func(t *testing.T) { // before the trim horizon
		src, k := newSource(1), &sink{}
		src.put(0, 10)
		src.trim(0, 3)
		r := start(t, src, k, consumer.Options{Store: newStore(), Start: shardlog.AtTime(time.Now().Add(-time.Hour))})
		settle()
		assert.Equal(t, names(0, 3, 10), k.got())
		r.stop()
	})
	bubble(t, func(t *testing.T) { // in the future, also over a restart
		src, st, k := newSource(1), newStore(), &sink{}
		at := time.Now().Add(time.Hour)
		src.put(0, 3)
		r := start(t, src, k, consumer.Options{Store: st, Start: shardlog.AtTime(at)})
		settle()
		src.put(0, 3)
		settle()
		r.stop()
		time.Sleep(time.Hour)
		src.put(0, 3)
		r = start(t, src, k, consumer.Options{Store: st, Start: shardlog.AtTime(at)})
		settle()
		assert.Equal(t, names(0, 6, 9), k.got())
		r.stop()
	})
}

// Start is about groups that have no progress.
func TestStartDoesNotMoveAnOldGroup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 5)
		r := start(t, src, k, consumer.Options{Store: st})
		settle()
		r.stop()
		src.put(0, 5)
		r = start(t, src, k, consumer.Options{Store: st, Start: shardlog.Latest()})
		settle()
		assert.Equal(t, names(0, 0, 10), k.got())
		r.stop()
	})
}

// Scenario 62: reads are throttled.
func TestScenario62ThrottledReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(1), &sink{}
		src.put(0, 5)
		began := time.Now()
		var reads []time.Duration
		src.readFault = func(shardlog.ReadRequest) error {
			reads = append(reads, time.Since(began))
			if len(reads) <= 3 {
				return &shardlog.Error{RetryAfter: 10 * time.Second, Err: shardlog.ErrThroughputExceeded}
			}
			return nil
		}
		var kinds []consumer.EventKind
		r := start(t, src, k, consumer.Options{Store: newStore(), OnEvent: func(e consumer.Event) { kinds = append(kinds, e.Kind) }})
		settle()
		assert.Contains(t, r.stats(0).Blocked, "throttled, attempt 1: ")
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, []time.Duration{0, 10 * time.Second, 20 * time.Second, 30 * time.Second}, reads[:4])
		assert.Equal(t, names(0, 0, 5), k.got())
		assert.Contains(t, kinds, consumer.EventThrottled)
		assert.Zero(t, r.stats(0).Failures)
		assert.Empty(t, r.stats(0).Blocked)
		r.stop()
	})
}

func TestReadErrorsThatHeal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(1), &sink{}
		src.put(0, 5)
		until := time.Now().Add(time.Hour)
		src.readFault = func(shardlog.ReadRequest) error {
			if time.Now().Before(until) {
				return errors.New("network down")
			}
			return nil
		}
		r := start(t, src, k, consumer.Options{Store: newStore()})
		time.Sleep(2 * time.Hour)
		settle()
		assert.Equal(t, names(0, 0, 5), k.got())
		assert.Less(t, len(src.readsOf(0)), 600)
		r.stop()
	})
}

// A shard that is listed, but not found when it is read, is tried again.
func TestReadNotFoundOfAListedShard(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(1), &sink{}
		src.put(0, 5)
		n := 0
		src.readFault = func(shardlog.ReadRequest) error {
			if n++; n < 5 {
				return shardlog.ErrNotFound
			}
			return nil
		}
		r := start(t, src, k, consumer.Options{Store: newStore()})
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, names(0, 0, 5), k.got())
		r.stop()
	})
}

func TestDeletedStreamEndsRun(t *testing.T) {
	for _, target := range []error{shardlog.ErrNotFound, shardlog.ErrClosed} {
		bubble(t, func(t *testing.T) {
			src := newSource(1)
			r := start(t, src, &sink{}, consumer.Options{Store: newStore()})
			settle()
			src.failLists(func() error { return &shardlog.Error{Op: "shards", Err: target} })
			require.ErrorIs(t, r.result(), target)
		})
	}
}

// unnamed hides the methods of a source that are not in shardlog.Source.
type unnamed struct{ shardlog.Source }

// subRecords is a source that de-aggregates.
type subRecords struct{ shardlog.Source }

func (s subRecords) Read(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	p, err := s.Source.Read(ctx, req)
	var out []shardlog.Record
	for _, r := range p.Records {
		for sub := range uint32(3) {
			r.SubSequence = sub
			out = append(out, r)
		}
	}
	p.Records = out
	return p, err
}

// Positions inside an aggregated record are kept apart.
func TestCheckpointInsideARecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.put(0, 2)
		fail := true
		r := start(t, subRecords{src}, consumer.HandlerFunc(func(context.Context, *consumer.Batch) error {
			if fail {
				fail = false
				return &consumer.PartialError{Index: 2, Err: errBroken}
			}
			return nil
		}), consumer.Options{Stream: "orders", Store: st, Retry: consumer.Retry{Initial: time.Hour, Max: time.Hour}})
		settle()
		assert.Equal(t, shardlog.AfterSub(seq(0, 0), 1), st.row(t, 0).Checkpoint)
		time.Sleep(2 * time.Hour)
		settle()
		assert.Equal(t, shardlog.After(seq(0, 1)), st.row(t, 0).Checkpoint)
		r.stop()
	})
}

// forgetful is a source that does not set Next.
type forgetful struct{ shardlog.Source }

func (s forgetful) Read(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	p, err := s.Source.Read(ctx, req)
	p.Next = shardlog.Position{}
	return p, err
}

func TestSourceThatForgetsNext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 10)
		r := start(t, forgetful{src}, k, consumer.Options{Stream: "orders", Store: st, MaxBatchRecords: 3, PollWait: time.Minute})
		settle()
		src.split(0)
		settle()
		assert.Equal(t, names(0, 0, 10), k.got())
		assert.Equal(t, shardlog.After(seq(0, 9)), st.row(t, 0).Checkpoint)
		assert.True(t, st.row(t, 0).Ended)
		r.stop()
	})
}

// relative is a source that breaks the promise that Next is fixed.
type relative struct{ shardlog.Source }

func (s relative) Read(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	p, err := s.Source.Read(ctx, req)
	p.Next = req.From
	return p, err
}

func TestLatestThatCannotBeResolved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, relative{newSource(1)}, &sink{}, consumer.Options{Stream: "x", Store: checkpoint.NewMemory(), Start: shardlog.Latest()})
		require.ErrorIs(t, r.result(), shardlog.ErrInvalid)
	})
}
