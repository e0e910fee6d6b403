package main

import (
	"runtime"
	"time"
)

// scanAfterLoad stores records for a while and then reads them, repeatedly.
// What the process took at most meanwhile, and what is on the disk in the end,
// are measured as well: it is a process that does nothing else.
func scanAfterLoad(s system, sh shape) metrics {
	dir, remove := tempDir()
	defer remove()
	r := s.open(dir, s.unsynced == "")
	m := newMaker(0, sh)
	most := pick(100_000_000/sh.size, 5_000)
	for start := time.Now(); m.next < most && (time.Since(start) < 2*time.Second || m.next == 0); {
		r.append(0, m.batch(500))
	}
	out := metrics{"peakMB": peakMB()}
	var sum byte // so that what is lent is touched
	pass := func() (rate, allocs float64) {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		n, start := 0, time.Now()
		r.scan(func(v []byte) { n++; sum += v[len(v)-1] })
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if n != m.next {
			panic(s.name + ": records are missing")
		}
		return float64(n) / took.Seconds(), float64(after.Mallocs-before.Mallocs) / float64(n)
	}
	out["first"], _ = pass()
	var rates, allocs []float64
	d, _ := bounds()
	for start := time.Now(); len(rates) == 0 || time.Since(start) < d; {
		rate, a := pass()
		rates, allocs = append(rates, rate), append(allocs, a)
	}
	out["rate"], out["allocs"] = median(rates), median(allocs)
	verify(r, []*maker{m})
	r.close()
	if n := diskBytes(dir); n > 0 {
		out["disk"] = float64(n) / float64(m.next*m.rawSize())
	}
	return out
}
