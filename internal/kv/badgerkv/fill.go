package badgerkv

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fillFar is so much free space that no program takes it in fillAhead.
	fillFar = 1 << 30
	// fillAhead is more than Badger takes to write a table after the commit that
	// fills a memtable, on a busy machine.
	fillAhead = 100 * time.Millisecond
	// fillEvery is the shortest time over which the rate is measured: the store
	// itself takes space in steps.
	fillEvery = 10 * time.Millisecond
	// fillForget is after what time without a measurement nothing is known.
	fillForget = time.Second
)

// fillGauge measures how fast other programs fill the disk. The zero value is
// ready.
type fillGauge struct {
	own atomic.Int64 // what the store has taken since the last measurement

	mu   sync.Mutex
	at   time.Time // of the last measurement
	free int64     // then
	rate float64   // bytes per second
}

// ahead returns how much others will have taken in fillAhead if they continue
// like this; free is what is free now.
func (f *fillGauge) ahead(free int64) int64 {
	if free >= fillFar {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch passed := time.Since(f.at); {
	case f.at.IsZero() || passed > fillForget:
		f.at, f.free, f.rate = time.Now(), free, 0
		f.own.Store(0)
	case passed >= fillEvery:
		f.rate = max(0, float64(f.free-free-f.own.Swap(0))/passed.Seconds())
		f.at, f.free = time.Now(), free
	}
	return int64(f.rate * fillAhead.Seconds())
}
