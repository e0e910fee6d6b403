package main

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// manner is one way to append: writers that each append batches of so many
// records, one call at a time.
type manner struct {
	writers, batch int
	sync           bool
	shape
}

// name is that of the work.
func (w manner) name() string {
	if w.sync {
		return "synced " + w.label()
	}
	return "append " + w.label()
}

// label distinguishes the work among those of one table.
func (w manner) label() string { return fmt.Sprintf("%d x %d%s", w.writers, w.batch, w.shape) }

var manners = []manner{
	{1, 1, false, small}, {16, 1, false, small}, {1, 500, false, small}, {16, 500, false, small},
	{16, 1, false, large}, {1, 500, false, large}, {16, 500, false, large},
	{1, 1, true, small}, {16, 1, true, small}, {256, 1, true, small}, {1, 500, true, small}, {16, 500, true, small},
	{16, 1, true, large}, {256, 1, true, large}, {16, 500, true, large},
}

// bounds are how long writers append, and how many bytes they store at most, so
// that the fastest systems do not fill the disk.
func bounds() (time.Duration, int) {
	if *quick {
		return 10 * time.Millisecond, 2 << 20
	}
	return *span, 400 << 20
}

// appendFor has writers append for a while, and then checks what is stored.
func appendFor(s system, w manner) metrics {
	dir, remove := tempDir()
	defer remove()
	r := s.open(dir, w.sync)
	defer r.close()
	makers := make([]*maker, w.writers)
	times := make([][]time.Duration, w.writers)
	for i := range makers {
		makers[i] = newMaker(i, w.shape)
		if w.writers > 16 {
			makers[i].slab = 50
		}
		makers[i].fill(makers[i].slab)
		times[i] = make([]time.Duration, 0, 1<<16/w.writers)
	}
	d, most := bounds()
	most /= w.rawSize() * w.writers
	runtime.GC()
	var wg sync.WaitGroup
	start := time.Now()
	for i, m := range makers {
		wg.Go(func() {
			t := time.Now()
			for m.next < most && (m.next == 0 || t.Sub(start) < d) {
				b := m.batch(w.batch)
				if w.batch > 1 {
					// Making a single record takes as long as reading the clock.
					t = time.Now()
				}
				r.append(i, b)
				end := time.Now()
				times[i] = append(times[i], end.Sub(t))
				t = end
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	all := slices.Concat(times...)
	return metrics{"rate": float64(verify(r, makers)) / took.Seconds(), "p50": percentile(all, 0.5), "p99": percentile(all, 0.99)}
}
