package patterns

import (
	"errors"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/shardlog/shardlog"
)

// clock says which part of a run a time is in. Times are in nanoseconds since
// the start, on the monotonic clock.
type clock struct {
	start time.Time
	warm  int64        // where the measured time begins
	end   atomic.Int64 // where it ends; a distant time until that is known
}

func newClock(w *Workload) *clock {
	c := &clock{start: time.Now(), warm: int64(w.WarmUp)}
	c.end.Store(1 << 62)
	if w.Duration > 0 {
		c.end.Store(int64(w.Duration))
	}
	return c
}

func (c *clock) now() int64 { return int64(time.Since(c.start)) }

// measured reports whether a moment is in the measured time.
func (c *clock) measured(at int64) bool { return at >= c.warm && at < c.end.Load() }

// second returns which second of the measured time a moment is in.
func (c *clock) second(at int64) int { return int((at - c.warm) / int64(time.Second)) }

// load is a number of records and of their bytes.
type load struct{ records, bytes int64 }

func (l *load) add(bytes int) {
	l.records++
	l.bytes += int64(bytes)
}

// slice is what one recorder counted in one second.
type slice struct {
	acked, delivered load
	throttled        int64
	ack, delivery    *hdrhistogram.Histogram // nil if there was none
	shards           map[string]*load
}

// recorder counts what one goroutine, or a few, put or read. A ledger sums the
// recorders up. There are many of them so that producers do not contend for a
// lock.
type recorder struct {
	clock  *clock
	ledger *ledger

	mu       sync.Mutex
	second   int
	cur      slice
	ack      *hdrhistogram.Histogram
	delivery *hdrhistogram.Histogram
	sizes    [64]load
	keys     map[uint32]int64
	dense    []int64 // in place of keys, if there are few of them
	stored   load
	units    int64 // PUT payload units
	rounded  int64 // bytes rounded up by the KiB
	failed   int64
	calls    int64
	refused  map[string]int64 // by shard
	reads    int64            // refused
	acked    int64            // including the warm-up
}

// denseKeys is the largest number of keys that are counted in an array instead of
// a map.
const denseKeys = 1 << 16

func newRecorder(c *clock, l *ledger, keys int) *recorder {
	r := &recorder{clock: c, ledger: l, refused: map[string]int64{}}
	if keys <= denseKeys {
		r.dense = make([]int64, keys)
	} else {
		r.keys = map[uint32]int64{}
	}
	l.add(r)
	return r
}

// at makes cur the slice of the second of a moment in the measured time.
func (r *recorder) at(now int64) {
	if s := r.clock.second(now); s != r.second {
		r.flush()
		r.second = s
	}
}

// flush merges cur into the ledger; r.mu is held.
func (r *recorder) flush() {
	if r.cur.shards != nil || r.cur.acked.records != 0 || r.cur.delivered.records != 0 || r.cur.throttled != 0 {
		r.ledger.merge(r.second, &r.cur)
	}
	c := slice{ack: r.cur.ack, delivery: r.cur.delivery} // their memory is reused
	for _, h := range []*hdrhistogram.Histogram{c.ack, c.delivery} {
		if h != nil {
			h.Reset()
		}
	}
	r.cur = c
}

// called counts one call of the target: the records that are stored and those
// that were throttled. It ignores other errors.
func (r *recorder) called(records []shardlog.Record, results []shardlog.PutResult, err error, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.clock.measured(now) {
		return
	}
	r.at(now)
	r.calls++
	if err != nil {
		if errors.Is(err, shardlog.ErrThroughputExceeded) {
			r.refuse(err, int64(len(records)))
		}
		return
	}
	if r.cur.shards == nil {
		r.cur.shards = map[string]*load{}
	}
	for i := range results {
		if err := results[i].Err; err != nil {
			if errors.Is(err, shardlog.ErrThroughputExceeded) {
				r.refuse(err, 1)
			}
			continue
		}
		l := r.cur.shards[results[i].ShardID]
		if l == nil {
			l = new(load)
			r.cur.shards[results[i].ShardID] = l
		}
		n := records[i].Size()
		l.add(n)
		r.stored.add(n)
		r.units += int64((max(n, 1) + putUnit - 1) / putUnit)
		r.rounded += int64((max(n, 1)+1023)/1024) * 1024
	}
}

// putUnit is the PUT payload unit of Kinesis: 25 KiB, written as 25 KB by AWS
// (Kinesis pricing).
const putUnit = 25 << 10

func (r *recorder) refuse(err error, n int64) {
	r.cur.throttled += n
	shard := ""
	var e *shardlog.Error
	if errors.As(err, &e) {
		shard = e.Shard
	}
	r.refused[shard] += n
}

// acknowledged counts an acknowledged record of the workload. Seen is the set of
// its producer's acknowledged records, and is guarded by r.mu.
func (r *recorder) acknowledged(seen *bitmap, s *stamp, rec *shardlog.Record, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seen.set(s.index) {
		r.acked++
	}
	if s.at >= r.clock.warm {
		if r.ack == nil {
			r.ack = fine()
		}
		record(r.ack, now-s.at, 1)
	}
	if !r.clock.measured(now) {
		return
	}
	r.at(now)
	if r.cur.ack == nil {
		r.cur.ack = coarse()
	}
	record(r.cur.ack, now-s.at, 1)
	r.cur.acked.add(len(rec.Data) + len(rec.PartitionKey))
	n := len(rec.Data)
	r.sizes[bits.Len(uint(max(n-1, 0)))].add(n)
	if r.dense != nil {
		r.dense[s.key]++
	} else {
		r.keys[s.key]++
	}
}

// gave counts records that a consumer received in one batch. The stamps may be
// of the warm-up as well as of the measured time.
func (r *recorder) gave(stamps []stamp, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	measured := r.clock.measured(now)
	if measured {
		r.at(now)
		r.cur.delivered.records += int64(len(stamps))
		if r.cur.delivery == nil {
			r.cur.delivery = coarse()
		}
	}
	if r.delivery == nil {
		r.delivery = fine()
	}
	for i := range stamps {
		if at := stamps[i].at; at >= r.clock.warm {
			record(r.delivery, now-at, 1)
			if measured {
				record(r.cur.delivery, now-at, 1)
			}
		}
	}
}

// lost counts a record that is not stored, or of which that is unknown.
func (r *recorder) lost() {
	r.mu.Lock()
	r.failed++
	r.mu.Unlock()
}

// readRefused counts a read that was throttled.
func (r *recorder) readRefused(n int64) {
	r.mu.Lock()
	r.reads += n
	r.mu.Unlock()
}

// bitmap is a set of numbers that are mostly dense from 0 on.
type bitmap struct {
	words []uint64
	n     int64
}

// set adds i and reports whether it is new.
func (b *bitmap) set(i uint64) bool {
	w := i / 64
	for uint64(len(b.words)) <= w {
		b.words = append(b.words, 0)
	}
	bit := uint64(1) << (i % 64)
	if b.words[w]&bit != 0 {
		return false
	}
	b.words[w] |= bit
	b.n++
	return true
}

// without returns how many numbers are in b and not in other.
func (b *bitmap) without(other *bitmap) (n int64) {
	for i, w := range b.words {
		if i < len(other.words) {
			w &^= other.words[i]
		}
		n += int64(bits.OnesCount64(w))
	}
	return n
}
