package once

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
)

// MaxIDs is how many dedup IDs a stream remembers. Each takes about 100 bytes of
// memory.
const MaxIDs = 4 << 20

// idKey stands for an ID: 128 bits of a hash with a seed that is this process's
// own, so nobody can choose two IDs with the same key, and chance does so once in
// 2^84 for as many IDs as are kept.
type idKey [2]uint64

var idSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func keyOf(id string) idKey {
	return idKey{maphash.String(idSeeds[0], id), maphash.String(idSeeds[1], id)}
}

// idPlace is where the record with an ID is.
type idPlace struct {
	seq shardlog.SequenceNumber
	ms  int64 // its arrival
}

// IDs has the dedup IDs of a stream's records within its window. It is in memory
// only: the IDs are in the blocks with their records, from where it is built when
// the database is opened. It is a logstore.Participant to learn the outcome of
// the records. All methods are safe for concurrent use. Use NewIDs.
type IDs struct {
	stream *Stream

	mu    sync.Mutex
	table idTable // guarded by mu
}

// idTable is the state of IDs. Its methods are called with IDs locked, and do not
// lock.
type idTable struct {
	limit   int      // MaxIDs, except in tests
	ages    []*idAge // oldest first; new IDs are added to the last
	n       int      // of all ages together
	pending map[idKey]pendingID
}

// pendingID is an ID that is being stored: for whom, and the index of its record.
type pendingID struct {
	by    *reservation
	index int
}

// idAge has the IDs of about half of the window, so that they are dropped
// together, with their memory.
type idAge struct {
	from, last int64 // arrivals
	ids        map[idKey]idPlace
}

// AgesPerWindow is into how many parts the IDs of a window are divided.
const AgesPerWindow = 2

// NewIDs returns the IDs of a stream that has none.
func NewIDs(st *Stream) *IDs {
	return &IDs{stream: st, table: idTable{limit: MaxIDs, pending: map[idKey]pendingID{}}}
}

// SetLimit replaces MaxIDs, for tests.
func (d *IDs) SetLimit(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.table.limit = n
}

// find returns where the record with an ID is, if that arrived after a time.
func (t *idTable) find(k idKey, after int64) (shardlog.SequenceNumber, bool) {
	for i := len(t.ages) - 1; i >= 0; i-- {
		if p, ok := t.ages[i].ids[k]; ok {
			return p.seq, p.ms > after
		}
	}
	return shardlog.SequenceNumber{}, false
}

// insert adds an ID.
func (t *idTable) insert(k idKey, p idPlace, window time.Duration) {
	n := len(t.ages)
	// An age does not outlast a step back of the clock, which may have been ahead.
	if n == 0 || p.ms-t.ages[n-1].from >= max(window.Milliseconds()/AgesPerWindow, 1) || p.ms < t.ages[n-1].from-clockTolerance.Milliseconds() {
		t.ages = append(t.ages, &idAge{from: p.ms, last: p.ms, ids: map[idKey]idPlace{}})
		n++
	}
	a := t.ages[n-1]
	a.last = max(a.last, p.ms)
	t.n -= len(a.ids)
	a.ids[k] = p
	t.n += len(a.ids)
}

// clockTolerance is how far arrivals of different shards can be apart without the
// clock having stepped back, which the log follows beyond it.
const clockTolerance = time.Hour

// prune drops the IDs that arrived before the window, which begins at after, and
// returns when the next are to be dropped, in Unix milliseconds. IDs that are
// later than now, because the clock was ahead, are dropped with those that came
// after them.
func (t *idTable) prune(after, now int64) (next int64) {
	drop := 0
	for i, a := range t.ages {
		if a.last <= after {
			drop = i + 1
		} else if a.last <= now {
			break
		}
	}
	for _, a := range t.ages[:drop] {
		t.n -= len(a.ids)
	}
	if drop > 0 {
		t.ages = append([]*idAge(nil), t.ages[drop:]...)
	}
	next = after
	for i, a := range t.ages {
		if i == 0 || a.last <= now {
			next = a.last
		}
		if a.last <= now {
			break
		}
	}
	return next
}

// room returns an error, with the time until the oldest are dropped, if the
// pending IDs are too many to be kept.
func (t *idTable) room(st *Stream, after int64) error {
	if t.n+len(t.pending) <= t.limit {
		return nil
	}
	next := t.prune(after, time.Now().UnixMilli())
	if t.n+len(t.pending) <= t.limit {
		return nil
	}
	return &shardlog.Error{Op: "put", Stream: st.Name, RetryAfter: time.Duration(max(next-after, 1)) * time.Millisecond,
		Err: fmt.Errorf("%w: %d dedup IDs within the window", shardlog.ErrThroughputExceeded, t.limit)}
}

// release releases IDs that no group took.
func (d *IDs) release(by *reservation, keys []idKey) {
	d.mu.Lock()
	for _, k := range keys {
		delete(d.table.pending, k)
	}
	d.mu.Unlock()
	by.release(len(keys))
}

// idUpdate is what one call adds to IDs.
type idUpdate struct {
	keys   []idKey
	places []idPlace
	by     *reservation
}

// Prepare implements logstore.Participant. The IDs are in the records.
func (d *IDs) Prepare([]any, *logstore.Tx) {}

// Finish implements logstore.Participant.
func (d *IDs) Finish(updates []any, err error) {
	window := d.stream.Window()
	d.mu.Lock()
	for _, u := range updates {
		u := u.(*idUpdate)
		for i, k := range u.keys {
			delete(d.table.pending, k)
			if err == nil && window > 0 {
				d.table.insert(k, u.places[i], window)
			}
		}
	}
	d.mu.Unlock()
	for _, u := range updates {
		u := u.(*idUpdate)
		u.by.release(len(u.keys))
	}
}

// windowStart is what an arrival has to be above to be within the window.
func windowStart(now time.Time, window time.Duration) int64 { return now.Add(-window).UnixMilli() }

// Load fills d with the IDs of the records within the window, before d is used.
// Scan calls add for each ID of a record that arrived at a time or later, in any
// order.
func (d *IDs) Load(scan func(from int64, add func(id []byte, seq shardlog.SequenceNumber, ms int64)) error) error {
	window := d.stream.Window()
	if window == 0 {
		return nil
	}
	type found struct {
		k idKey
		p idPlace
	}
	var all []found
	err := scan(windowStart(time.Now(), window)+1, func(id []byte, seq shardlog.SequenceNumber, ms int64) {
		all = append(all, found{keyOf(string(id)), idPlace{seq, ms}})
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.p.ms, b.p.ms) })
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range all[max(0, len(all)-d.table.limit):] {
		d.table.insert(f.k, f.p, window)
	}
	return nil
}

// Expire frees the memory of IDs that are older than the window; it returns how
// long there will be no others.
func (d *IDs) Expire() time.Duration {
	window, now := d.stream.Window(), time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	after := windowStart(now, window)
	next := d.table.prune(after, now.UnixMilli())
	if len(d.table.ages) == 0 {
		return time.Hour
	}
	return max(time.Duration(next-after)*time.Millisecond, time.Second)
}

// IDsInfo describes IDs at one moment.
type IDsInfo struct {
	// Remembered counts the IDs that are stored, Reserved those that are being
	// stored.
	Remembered, Reserved int
	// Ages counts the remembered ones by the time at which they are dropped.
	Ages []int
}

// Info returns a description of d.
func (d *IDs) Info() IDsInfo {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := IDsInfo{Remembered: d.table.n, Reserved: len(d.table.pending)}
	for _, a := range d.table.ages {
		i.Ages = append(i.Ages, len(a.ids))
	}
	return i
}

// Len returns how many IDs are remembered.
func (d *IDs) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table.n
}
