package patterns

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/backoff"
	"github.com/shardlog/shardlog/producer"
)

// feeder is one producer of a workload: a goroutine that puts records.
type feeder struct {
	run   *run
	gen   *generator
	rec   *recorder
	pace  *pacer // nil in a closed loop
	acked bitmap // under rec.mu
	sink  shardlog.Sink

	// The records of the current call, with their stamps and the buffers of
	// their data.
	records []shardlog.Record
	stamps  []stamp
	bufs    [][]byte
}

// pacer is the schedule of an open loop: when each record is due, in nanoseconds
// since the start.
type pacer struct {
	next, every float64
	rng         *rand.Rand // nil for equal intervals
}

func newPacer(w *Workload, producer int) *pacer {
	if w.Rate == 0 {
		return nil
	}
	every := 1e9 / w.Rate * float64(w.Producers)
	p := &pacer{every: every, next: every * float64(producer) / float64(w.Producers)}
	if w.Poisson {
		p.rng = rand.New(rand.NewPCG(w.Seed, 1<<32+uint64(producer)))
		p.next = every * p.rng.ExpFloat64()
	}
	return p
}

// advance moves on to the record after the next.
func (p *pacer) advance() {
	if p.rng == nil {
		p.next += p.every
	} else {
		p.next += p.every * p.rng.ExpFloat64()
	}
}

// backlog returns how many records were due before a moment and were not put.
func (p *pacer) backlog(end int64) (n int64) {
	for ; p.next < float64(end); p.advance() {
		n++
	}
	return n
}

// take claims one of the records of a workload that has a number of them, and
// returns false if there are no more.
func (r *run) take() bool {
	return r.w.Records == 0 || r.taken.Add(1) <= r.w.Records
}

// over reports whether the load has ended.
func (f *feeder) over(now int64) bool {
	return f.run.w.Duration > 0 && now >= int64(f.run.w.Duration) || f.run.ctx.Err() != nil
}

// grace is the time after the end, in nanoseconds, in which a record that was due
// before the end is still put, so that a late wake-up does not count as a log that
// does not keep up.
const grace = 50e6

// due waits until the next record is due and returns the time at which it was
// due, or false if there are no more records.
func (f *feeder) due(now int64) (at int64, ok bool) {
	if f.pace == nil {
		return now, !f.over(now) && f.run.take()
	}
	at = int64(f.pace.next)
	if f.over(at) || !sleep(f.run.ctx, time.Duration(at-now)) || f.over(f.run.clock.now()-grace) || !f.run.take() {
		return 0, false
	}
	f.pace.advance()
	return at, true
}

// sleep waits for d, and returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// add generates the record that is due at a time.
func (f *feeder) add(at int64) {
	i := len(f.records)
	if i == len(f.bufs) {
		f.bufs = append(f.bufs, nil)
	}
	rec, s := f.gen.make(f.bufs[i], at)
	f.bufs[i] = rec.Data
	f.records, f.stamps = append(f.records, rec), append(f.stamps, s)
}

// single puts one record at a time.
func (f *feeder) single() {
	now := f.run.clock.now()
	for {
		at, ok := f.due(now)
		if !ok {
			return
		}
		f.add(at)
		now = f.put()
	}
}

// batches puts full batches; at a rate, a batch has the records that came due
// within the linger.
func (f *feeder) batches() {
	w := f.run.w
	now := f.run.clock.now()
	for {
		at, ok := f.due(now)
		if !ok {
			return
		}
		f.add(at)
		until := at + int64(w.Linger)
		for len(f.records) < w.Batch {
			if f.pace == nil {
				if !f.run.take() {
					break
				}
				f.add(at)
				continue
			}
			next := int64(f.pace.next)
			if next > max(until, f.run.clock.now()) || f.over(next) || !sleep(f.run.ctx, time.Duration(next-f.run.clock.now())) || !f.run.take() {
				break
			}
			f.pace.advance()
			f.add(next)
		}
		// A batch that is not full is put when its oldest record has waited for
		// the linger.
		if f.pace != nil && len(f.records) < w.Batch && !f.over(until) {
			sleep(f.run.ctx, time.Duration(until-f.run.clock.now()))
		}
		now = f.put()
	}
}

// pauses are the waits between attempts of a request.
var pauses = backoff.Policy{Initial: 5 * time.Millisecond, Max: time.Second}

// put puts the added records until each is stored or has failed, and returns the
// time at which that was so.
func (f *feeder) put() (now int64) {
	c, ctx := f.run.clock, f.run.putCtx
	records, stamps := f.records, f.stamps
	for try := 0; ; try++ {
		res, err := f.sink.PutRecords(ctx, records)
		now = c.now()
		again := 0
		var pause time.Duration
		for i := range records {
			e := err
			if e == nil {
				e = res[i].Err
			}
			switch {
			case e == nil:
				f.rec.acknowledged(&f.acked, &stamps[i], &records[i], now)
			case shardlog.Retryable(e):
				pause = max(pause, backoff.RetryAfter(e))
				// Records to retry move to the front and keep their order. Their data
				// stay in their buffers.
				records[again], stamps[again] = records[i], stamps[i]
				again++
			default:
				f.run.failed(e)
				f.rec.lost()
			}
		}
		records, stamps = records[:again], stamps[:again]
		if again == 0 || !sleep(ctx, max(pause, pauses.Pause(try+1, nil))) {
			break
		}
	}
	for range records {
		f.run.failed(context.Cause(ctx))
		f.rec.lost()
	}
	f.records, f.stamps = f.records[:0], f.stamps[:0]
	return now
}

// asyncRecord is a record that is in the producer and has no result yet. Its
// callback done is allocated once and reused.
type asyncRecord struct {
	f    *feeder
	s    stamp
	rec  shardlog.Record
	done func(producer.Result, error)
}

var asyncRecords sync.Pool

func newAsyncRecord(f *feeder) *asyncRecord {
	t, ok := asyncRecords.Get().(*asyncRecord)
	if !ok {
		t = new(asyncRecord)
		t.done = t.finish
	}
	t.f = f
	return t
}

func (t *asyncRecord) finish(_ producer.Result, err error) {
	if err == nil {
		t.f.rec.acknowledged(&t.f.acked, &t.s, &t.rec, t.f.run.clock.now())
	} else {
		t.f.run.failed(err)
		t.f.rec.lost()
	}
	t.f, t.rec = nil, shardlog.Record{}
	asyncRecords.Put(t)
}

// async puts records through the producer that all feeders share.
func (f *feeder) async(p *producer.Producer) {
	var buf []byte
	for {
		at, ok := f.due(f.run.clock.now())
		if !ok {
			return
		}
		t := newAsyncRecord(f)
		t.rec, t.s = f.gen.make(buf, at)
		buf = t.rec.Data
		// The producer has copied the data when PutAsync returns, so the buffer
		// may be reused. Only the sizes in t.rec are needed later.
		if err := p.PutAsync(f.run.putCtx, t.rec, t.done); err != nil {
			t.finish(producer.Result{}, err)
		}
	}
}

// newProducer returns the producer of PutAsync, configured as the workload says.
func (r *run) newProducer(sink shardlog.Sink) (*producer.Producer, error) {
	w := r.w
	return producer.New(sink, &producer.Options{
		MaxBatchRecords: w.Batch, BufferRecords: w.Window, Linger: time.Duration(w.Linger), TTL: -1,
		Aggregation: producer.Aggregation{Enabled: w.Aggregate},
	})
}
