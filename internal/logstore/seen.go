package logstore

import (
	"runtime"
	"sync/atomic"

	"github.com/shardlog/shardlog/internal/block"
)

// seen is how far a run has grown, for readers that take no lock. There is one writer at
// a time. A reader that meets a change looks again, which is why the counter is odd
// meanwhile.
type seen struct {
	changes atomic.Uint64
	words   [5]atomic.Uint64
}

// set says that a run has the parts and one behind them, open, which ends it.
func (s *seen) set(parts int, open *partRef) {
	s.changes.Add(1)
	e := &open.reach
	for i, w := range [...]uint64{
		uint64(parts)<<32 | uint64(e.Points)<<8 | uint64(e.Version),
		uint64(e.Count)<<32 | uint64(e.Records),
		uint64(e.LastMs),
		uint64(open.count)<<32 | uint64(open.size),
		uint64(open.firstMs),
	} {
		s.words[i].Store(w)
	}
	s.changes.Add(1)
}

// get returns what set was last given, but for the end and the sum of open.
func (s *seen) get() (parts int, open partRef) {
	var w [len(s.words)]uint64
	for {
		before := s.changes.Load()
		for i := range w {
			w[i] = s.words[i].Load()
		}
		if before%2 == 0 && s.changes.Load() == before {
			break
		}
		runtime.Gosched()
	}
	open.reach = block.Extent{Points: uint16(w[0] >> 8), Version: uint8(w[0]), Count: uint32(w[1] >> 32), Records: uint32(w[1]), LastMs: int64(w[2])}
	open.count, open.size, open.firstMs = uint32(w[3]>>32), uint32(w[3]), int64(w[4])
	return int(w[0] >> 32), open
}
