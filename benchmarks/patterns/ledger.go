package patterns

import (
	"maps"
	"slices"
	"sync"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// ledger sums up what the recorders of a run have counted.
type ledger struct {
	mu        sync.Mutex
	recorders []*recorder
	seconds   []*slice
}

func (l *ledger) add(r *recorder) {
	l.mu.Lock()
	l.recorders = append(l.recorders, r)
	l.mu.Unlock()
}

// merge adds what a recorder counted in a second. The recorder's lock is held: it
// is always acquired before l.mu.
func (l *ledger) merge(second int, s *slice) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.seconds) <= second {
		l.seconds = append(l.seconds, &slice{shards: map[string]*load{}})
	}
	t := l.seconds[second]
	t.acked.records += s.acked.records
	t.acked.bytes += s.acked.bytes
	t.delivered.records += s.delivered.records
	t.throttled += s.throttled
	t.ack, t.delivery = mergeInto(t.ack, s.ack, coarse), mergeInto(t.delivery, s.delivery, coarse)
	for id, n := range s.shards {
		if t.shards[id] == nil {
			t.shards[id] = new(load)
		}
		t.shards[id].records += n.records
		t.shards[id].bytes += n.bytes
	}
}

// mergeInto adds h to into, either of which may be nil.
func mergeInto(into, h *hdrhistogram.Histogram, make func() *hdrhistogram.Histogram) *hdrhistogram.Histogram {
	if h == nil || h.TotalCount() == 0 {
		return into
	}
	if into == nil {
		into = make()
	}
	into.Merge(h)
	return into
}

// all returns the recorders.
func (l *ledger) all() []*recorder {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.recorders)
}

// flush merges the current slices of all recorders into l.seconds.
func (l *ledger) flush() {
	for _, r := range l.all() {
		r.mu.Lock()
		r.flush()
		r.mu.Unlock()
	}
}

// count returns the number of acknowledged records, including the warm-up.
func (l *ledger) count() (acked int64) {
	for _, r := range l.all() {
		r.mu.Lock()
		acked += r.acked
		r.mu.Unlock()
	}
	return acked
}

// last returns a copy of the figures of a second, without those of shards.
func (l *ledger) last(second int) slice {
	l.mu.Lock()
	defer l.mu.Unlock()
	if second < 0 || second >= len(l.seconds) {
		return slice{}
	}
	s := *l.seconds[second]
	s.shards = nil
	for _, h := range []**hdrhistogram.Histogram{&s.ack, &s.delivery} {
		if *h != nil {
			c := coarse()
			c.Merge(*h)
			*h = c
		}
	}
	return s
}

// keyCounts sums up how often each key was used.
func keyCounts(all []*recorder) map[uint32]int64 {
	sum := map[uint32]int64{}
	for _, r := range all {
		for k, n := range r.keys {
			sum[k] += n
		}
		for k, n := range r.dense {
			if n > 0 {
				sum[uint32(k)] += n
			}
		}
	}
	return sum
}

// hottest returns the keys with most records, at most n.
func hottest(counts map[uint32]int64, names []string, n int) []KeyLoad {
	var total int64
	for _, c := range counts {
		total += c
	}
	order := slices.SortedFunc(maps.Keys(counts), func(a, b uint32) int {
		if counts[a] != counts[b] {
			return int(max(min(counts[b]-counts[a], 1), -1))
		}
		return int(a) - int(b)
	})
	loads := []KeyLoad{}
	for _, k := range order[:min(n, len(order))] {
		loads = append(loads, KeyLoad{names[k], counts[k], float64(counts[k]) / float64(total)})
	}
	return loads
}
