package patterns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
)

// Progress is the state of a run.
type Progress struct {
	// Workload is its name.
	Workload string
	// Elapsed is the time since the first put, the warm-up included; Total is
	// Workload.Duration, 0 if there is none.
	Elapsed, Total time.Duration
	// Phase is "warm-up", "measuring" or "draining".
	Phase string
	// Acked records so far; Wanted is Workload.Records.
	Acked, Wanted int64
	// Last is the last whole second of the measured time, without the figures
	// of shards; HaveLast is false until there is one.
	Last     Second
	HaveLast bool
}

// Options say how a workload is run. The zero value of each field means its
// default.
type Options struct {
	// Progress is called every second, from another goroutine, one call at a
	// time. Defaults to none.
	Progress func(Progress)
}

// run is a workload in progress.
type run struct {
	w      *Workload
	id     uint64
	log    Log
	clock  *clock
	ledger *ledger
	shards []shardlog.ShardInfo
	taken  atomic.Int64

	ctx       context.Context // of the load: no more records are put when it ends
	putCtx    context.Context // of calls in progress; it ends later, so that they can finish
	cancelPut context.CancelCauseFunc
	feeders   []*feeder
	receivers []*receiver
	readers   sync.WaitGroup

	changed chan struct{} // signals that a receiver received records
	mu      sync.Mutex
	lastErr error // of the last put that failed
	readErr error
}

// Run runs a workload and returns its measurements. It blocks until the log is
// closed again. If ctx ends, the load ends early and Run returns what it has
// measured so far, without an error.
//
// The error is one of the workload (see WithDefaults), of the target, or of a
// consumer. Records that failed are counted by Result.Failed and are no error,
// unless all have failed: then the error is that of one of them.
func Run(ctx context.Context, target Target, w Workload, opts *Options) (*Result, error) {
	w, err := w.WithDefaults()
	if err != nil {
		return nil, err
	}
	m, err := newMaterial(&w)
	if err != nil {
		return nil, err
	}
	r := &run{w: &w, id: rand.Uint64(), ctx: ctx, changed: make(chan struct{}, 1), ledger: new(ledger)}
	cost := loadCost(m)
	if r.log, err = target.Open(ctx, &w); err != nil {
		return nil, err
	}
	res, err := r.measure(m, opts)
	if err := errors.Join(err, r.log.Close()); err != nil {
		return nil, err
	}
	if res.Check.Acked == 0 && r.lastErr != nil {
		return nil, fmt.Errorf("no record was stored: %w", r.lastErr)
	}
	if r.clock.end.Load() <= r.clock.warm {
		return nil, errors.New("the run ended in its warm-up")
	}
	res.Target = target.Name()
	res.Process.LoadCPUPerRecord = cost
	return res, nil
}

// measure runs the load and the consumers.
func (r *run) measure(m *material, opts *Options) (*Result, error) {
	var err error
	if r.shards, err = r.log.Shards(r.ctx); err != nil {
		return nil, err
	}
	r.clock = newClock(r.w)
	var cancel context.CancelFunc
	r.ctx, cancel = context.WithCancel(r.ctx)
	defer cancel()
	r.putCtx, r.cancelPut = context.WithCancelCause(context.WithoutCancel(r.ctx))
	defer r.cancelPut(nil)
	readCtx, stopReading := context.WithCancel(r.putCtx)
	defer r.readers.Wait()
	defer stopReading()
	for n := range r.w.Consumers.Count {
		v, err := r.receive(readCtx, n, func(err error) {
			if err != nil {
				r.failedRead(err)
				cancel()
			}
		})
		if err != nil {
			return nil, err
		}
		r.receivers = append(r.receivers, v)
	}
	watch := r.startWatch(opts)
	defer watch.stop()
	if err := r.feed(m); err != nil {
		return nil, err
	}
	watch.ended()
	r.drain()
	stopReading()
	r.readers.Wait()
	watch.stop()
	if r.readErr != nil {
		return nil, r.readErr
	}
	return r.result(m, watch), nil
}

// feed runs the producers until all records are acknowledged or have failed.
func (r *run) feed(m *material) error {
	var p *producer.Producer
	recorders := make([]*recorder, min(r.w.Producers, 64))
	for i := range recorders {
		recorders[i] = newRecorder(r.clock, r.ledger, len(m.names))
	}
	if r.w.Put == PutAsync {
		var err error
		if p, err = r.newProducer(metered(r.log, newRecorder(r.clock, r.ledger, 0))); err != nil {
			return err
		}
		defer p.Close()
	}
	var wg sync.WaitGroup
	for i := range r.w.Producers {
		f := &feeder{run: r, gen: newGenerator(m, r.id, i), rec: recorders[i%len(recorders)], pace: newPacer(r.w, i)}
		f.sink = metered(r.log, f.rec)
		r.feeders = append(r.feeders, f)
	}
	for _, f := range r.feeders {
		if f.pace != nil {
			f.pace.next += float64(r.clock.now())
		}
	}
	if r.w.Duration > 0 {
		// Calls in progress may take as long as Workload.Drain.
		t := time.AfterFunc(time.Duration(r.w.Duration+r.w.Drain), func() { r.cancelPut(errDrain) })
		defer t.Stop()
	}
	for _, f := range r.feeders {
		wg.Go(func() {
			switch r.w.Put {
			case PutSingle:
				f.single()
			case PutBatch:
				f.batches()
			case PutAsync:
				f.async(p)
			}
		})
	}
	wg.Wait()
	if p != nil {
		ctx, cancel := context.WithTimeout(r.putCtx, time.Duration(r.w.Drain))
		defer cancel()
		// Records that are left when it ends have failed, and are counted.
		_ = p.Shutdown(ctx)
	}
	return nil
}

// errDrain ends calls that take too long after the load.
var errDrain = errors.New("not stored within the workload's drain")

// patience is how long drain waits after the run was ended from outside.
const patience = 2 * time.Second

// drain waits until the consumers have received everything. What a run has stored
// is received also when it was ended, so that the report does not show losses that
// are none.
func (r *run) drain() {
	if len(r.receivers) == 0 {
		return
	}
	t := time.NewTimer(time.Duration(r.w.Drain))
	defer t.Stop()
	ended := r.ctx.Done()
	for {
		missing := int64(0)
		for _, v := range r.receivers {
			missing += v.missing(r)
		}
		if missing == 0 {
			return
		}
		select {
		case <-r.changed:
		case <-t.C:
			return
		case <-ended:
			if r.readFailed() {
				return
			}
			ended = nil
			t.Reset(min(time.Duration(r.w.Drain), patience))
		}
	}
}

// missing returns the number of records that are acknowledged and not yet
// delivered.
func (v *receiver) missing(r *run) (n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, f := range r.feeders {
		f.rec.mu.Lock()
		n += f.acked.without(&v.seen[i])
		f.rec.mu.Unlock()
	}
	return n
}

// moved signals that a receiver has received records.
func (r *run) moved() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// failed keeps the error of a record that failed, for Run to return.
func (r *run) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.lastErr = err
	}
}

func (r *run) failedRead(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readErr = err
}

// readFailed reports whether a consumer has failed, which ends the run.
func (r *run) readFailed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.readErr != nil
}

// loadCost measures the processor time that generating a record takes, in
// nanoseconds. It is the median of several measurements, because other programs
// may use the processor meanwhile.
func loadCost(m *material) float64 {
	const each = 64
	g := newGenerator(m, 0, 0)
	var buf []byte
	var goes []time.Duration
	for start := time.Now(); len(goes) < 5 || len(goes) < 1000 && time.Since(start) < 10*time.Millisecond; {
		begin := time.Now()
		for range each {
			rec, _ := g.make(buf, 0)
			buf = rec.Data
		}
		goes = append(goes, time.Since(begin))
	}
	slices.Sort(goes)
	return float64(goes[len(goes)/2]) / each
}
