package patterns

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/internal/backoff"
	"github.com/shardlog/shardlog/internal/kpl"
)

// receiver is one consumer of a workload: it receives every record, with
// ConsumeGroup by several workers.
type receiver struct {
	run *run
	rec *recorder

	mu         sync.Mutex
	seen       []bitmap // by producer
	unique     int64
	duplicates int64
	misordered int64
	foreign    int64
	last       map[uint64]uint64 // the highest index and one of each producer and key
	users      []kpl.UserRecord
	stamps     []stamp
}

func newReceiver(r *run) *receiver {
	return &receiver{run: r, rec: newRecorder(r.clock, r.ledger, 0), seen: make([]bitmap, r.w.Producers), last: map[uint64]uint64{}}
}

// got counts and checks records of one shard, in their order, that were delivered
// at a moment.
func (v *receiver) got(records []shardlog.Record, now int64) {
	if len(records) == 0 {
		return
	}
	v.mu.Lock()
	v.stamps = v.stamps[:0]
	for i := range records {
		data := records[i].Data
		if !kpl.HasMagic(data) {
			v.one(data)
			continue
		}
		users, err := kpl.Decode(data, v.users[:0])
		if err != nil {
			v.one(data)
			continue
		}
		for j := range users {
			v.one(users[j].Data)
		}
		v.users = users
	}
	v.rec.gave(v.stamps, now)
	v.mu.Unlock()
	v.run.moved()
}

// one checks that a record is new and in order; v.mu is held.
func (v *receiver) one(data []byte) {
	s, ok := readStamp(data, v.run.id)
	if !ok || int(s.producer) >= len(v.seen) {
		v.foreign++
		return
	}
	v.stamps = append(v.stamps, s)
	if !v.seen[s.producer].set(s.index) {
		v.duplicates++
		return
	}
	v.unique++
	k := uint64(s.producer)<<32 | uint64(s.key)
	if last := v.last[k]; s.index < last {
		v.misordered++
	} else {
		v.last[k] = s.index + 1
	}
}

// receive starts a receiver. It ends with ctx, and done gets its error.
func (r *run) receive(ctx context.Context, n int, done func(error)) (*receiver, error) {
	v := newReceiver(r)
	if r.w.Consumers.Mode == ConsumeGroup {
		return v, v.group(ctx, n, done)
	}
	read, wait, err := r.reads(ctx, n)
	if err != nil {
		return nil, err
	}
	for i := range r.shards {
		r.readers.Go(func() { done(v.shard(ctx, r.shards[i].ID, read, wait)) })
	}
	return v, nil
}

// read is a method of a source.
type read = func(context.Context, shardlog.ReadRequest) (shardlog.Page, error)

// reads returns the method by which the n-th consumer reads, and how long a read
// waits for records.
func (r *run) reads(ctx context.Context, n int) (read, time.Duration, error) {
	refuse := func(limit string) (read, time.Duration, error) {
		return nil, 0, &shardlog.InvalidError{Field: "consumers.mode", Value: r.w.Consumers.Mode, Limit: limit}
	}
	switch r.w.Consumers.Mode {
	case ConsumePoll:
		return r.log.Read, 0, nil
	case ConsumeFanOut:
		if f, ok := r.log.(FanOut); ok {
			read, err := f.Dedicated(ctx, n)
			return read, time.Second, err
		}
		d, ok := r.log.(shardlog.DedicatedReader)
		if !ok {
			return refuse("another: the target has no dedicated reads")
		}
		return d.ReadDedicated, time.Second, nil
	}
	if !shardlog.CapabilitiesOf(r.log).Pushes {
		return refuse("poll, fanout or group: reads of the target do not wait for records")
	}
	return r.log.Read, time.Second, nil
}

// shard reads one shard until ctx ends.
func (v *receiver) shard(ctx context.Context, id string, read read, wait time.Duration) error {
	req := shardlog.ReadRequest{ShardID: id, Wait: wait}
	for ctx.Err() == nil {
		page, err := read(ctx, req)
		now := v.run.clock.now()
		var pause time.Duration
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, shardlog.ErrThroughputExceeded):
			v.rec.readRefused(1)
			pause = max(backoff.RetryAfter(err), 5*time.Millisecond)
		case err != nil:
			return fmt.Errorf("reading %s: %w", id, err)
		default:
			v.got(page.Records, now)
			if page.End {
				return nil
			}
			req.From = page.Next
			if wait == 0 && page.Behind == 0 {
				pause = time.Duration(v.run.w.Consumers.PollEvery)
			}
		}
		if pause > 0 && !sleep(ctx, pause) {
			return nil
		}
	}
	return nil
}

// group starts the workers of a consumer group.
func (v *receiver) group(ctx context.Context, n int, done func(error)) error {
	opts := consumer.Options{Group: fmt.Sprintf("bench-%d", n), Stream: "bench"}
	if _, ok := v.run.log.(checkpoint.Provider); !ok {
		opts.Store = checkpoint.NewMemory()
	}
	for i := range v.run.w.Consumers.Workers {
		opts.WorkerID = fmt.Sprintf("worker-%d", i)
		c, err := consumer.New(v.run.log, &opts)
		if err != nil {
			return err
		}
		v.run.readers.Go(func() {
			err := c.Run(ctx, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
				v.got(b.Records, v.run.clock.now())
				return nil
			}))
			for _, s := range c.Stats().Shards {
				v.rec.readRefused(int64(s.Throttled))
			}
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				err = nil
			}
			done(err)
		})
	}
	return nil
}
