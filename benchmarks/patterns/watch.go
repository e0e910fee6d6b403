package patterns

import (
	"runtime/metrics"
	"sync"
	"time"
)

// usage is what the process and the log have used so far.
type usage struct {
	cpu            time.Duration
	allocs, bytes  uint64
	written, syncs int64
}

// look reads what the process has used.
func (r *run) look() (u usage) {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return usage{processorTime(), s[0].Value.Uint64(), s[1].Value.Uint64(), writtenBytes(), r.log.Usage().Syncs}
}

// watch samples the process at both ends of the measured time, and reports
// progress.
type watch struct {
	r          *run
	begin, end usage
	maxHeap    int64
	progress   func(Progress)
	quit       chan struct{}
	once       sync.Once
	wg         sync.WaitGroup
	mu         sync.Mutex
	draining   bool
	done       bool // end is set
}

func (r *run) startWatch(opts *Options) *watch {
	w := &watch{r: r, quit: make(chan struct{})}
	if opts != nil {
		w.progress = opts.Progress
	}
	w.begin = r.look()
	w.wg.Go(w.loop)
	return w
}

// stop ends the goroutine; it may be called more than once.
func (w *watch) stop() {
	w.once.Do(func() { close(w.quit) })
	w.wg.Wait()
}

func (w *watch) loop() {
	var warm, end <-chan time.Time
	if d := w.r.w.WarmUp; d > 0 {
		t := time.NewTimer(time.Duration(d))
		defer t.Stop()
		warm = t.C
	}
	if d := w.r.w.Duration; d > 0 {
		t := time.NewTimer(time.Duration(d))
		defer t.Stop()
		end = t.C
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-warm:
			u := w.r.look()
			w.mu.Lock()
			w.begin = u
			w.mu.Unlock()
		case <-end:
			w.finish()
		case <-tick.C:
			w.tick()
		case <-w.quit:
			return
		}
	}
}

// finish samples the process for the last time.
func (w *watch) finish() {
	u := w.r.look()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		w.end, w.done = u, true
	}
}

// ended notes that no more records are put. If the run ends by their number, or
// was stopped, the measured time ends now.
func (w *watch) ended() {
	r, c := w.r, w.r.clock
	all := r.w.Records > 0 && r.taken.Load() >= r.w.Records
	if now := c.now(); now < c.end.Load() && (all || r.ctx.Err() != nil) {
		c.end.Store(now)
	}
	w.finish()
	w.mu.Lock()
	w.draining = true
	w.mu.Unlock()
	w.tick()
}

func (w *watch) tick() {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	r := w.r
	now := r.clock.now()
	w.mu.Lock()
	w.maxHeap = max(w.maxHeap, int64(heap[0].Value.Uint64()))
	phase := "measuring"
	if w.draining || now >= r.clock.end.Load() {
		phase = "draining"
	} else if now < r.clock.warm {
		phase = "warm-up"
	}
	w.mu.Unlock()
	if w.progress == nil {
		return
	}
	r.ledger.flush()
	p := Progress{Workload: r.w.Name, Elapsed: time.Duration(now), Total: time.Duration(r.w.Duration),
		Phase: phase, Acked: r.ledger.count(), Wanted: r.w.Records}
	if second := r.clock.second(now) - 1; second >= 0 && r.clock.measured(now-int64(time.Second)) {
		s := r.ledger.last(second)
		p.Last, p.HaveLast = s.summary(second, nil), true
	}
	w.progress(p)
}
