package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
)

// Bounds of dedup IDs.
const (
	// MaxDedupID is the longest Record.DedupID, in bytes.
	MaxDedupID = 256
	// MinDedupWindow is the unit of arrivals.
	MinDedupWindow = time.Millisecond
	// MaxDedupWindow bounds what is read when a database is opened.
	MaxDedupWindow = 24 * time.Hour
	// MaxDedupIDs is how many IDs a stream remembers. Each takes about 100 bytes
	// of memory, so that is about 400 MiB a stream at the most. Records with more within
	// the window get shardlog.ErrThroughputExceeded until the oldest are over.
	MaxDedupIDs = 4 << 20
)

// dedupKey stands for an ID: 128 bits of a hash with a seed that is this
// process's own, so nobody can make two IDs meet, and chance does so once in
// 2^84 for as many IDs as are kept.
type dedupKey [2]uint64

var dedupSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func dedupKeyOf(id string) dedupKey {
	return dedupKey{maphash.String(dedupSeeds[0], id), maphash.String(dedupSeeds[1], id)}
}

// dedupPlace is where the record with an ID is.
type dedupPlace struct {
	seq shardlog.SequenceNumber
	ms  int64 // its arrival
}

// dedupIndex has the IDs of a stream's records within its window. It is in
// memory only: the IDs are in the blocks with their records, from where it is
// made when the database is opened. It rides with records to learn what became
// of them.
type dedupIndex struct {
	st    *Stream
	limit int // MaxDedupIDs, but for tests

	mu      sync.Mutex
	ages    []*dedupAge // oldest first; new IDs go to the last
	n       int         // of all ages together
	pending map[dedupKey]pendingID
}

// pendingID is an ID that is being stored: for whom, and which of its records.
type pendingID struct {
	claim *claim
	index int
}

// dedupAge has the IDs of about half of the window, so that they are
// dropped together, with their memory.
type dedupAge struct {
	from, last int64 // arrivals
	ids        map[dedupKey]dedupPlace
}

const agesPerWindow = 2

// find returns where the record with an ID is, if that is in the window; with
// mu held.
func (d *dedupIndex) find(k dedupKey, after int64) (shardlog.SequenceNumber, bool) {
	for i := len(d.ages) - 1; i >= 0; i-- {
		if p, ok := d.ages[i].ids[k]; ok {
			return p.seq, p.ms > after
		}
	}
	return shardlog.SequenceNumber{}, false
}

// insert adds an ID, with mu held.
func (d *dedupIndex) insert(k dedupKey, p dedupPlace, window time.Duration) {
	n := len(d.ages)
	if n == 0 || p.ms-d.ages[n-1].from >= max(window.Milliseconds()/agesPerWindow, 1) {
		d.ages = append(d.ages, &dedupAge{from: p.ms, last: p.ms, ids: map[dedupKey]dedupPlace{}})
		n++
	}
	a := d.ages[n-1]
	a.last = max(a.last, p.ms)
	d.n -= len(a.ids)
	a.ids[k] = p
	d.n += len(a.ids)
}

// prune drops what is out of the window, with mu held, and returns when the
// next is to be dropped, in Unix milliseconds.
func (d *dedupIndex) prune(after int64) (next int64) {
	drop := 0
	for drop < len(d.ages) && d.ages[drop].last <= after {
		d.n -= len(d.ages[drop].ids)
		drop++
	}
	if drop > 0 {
		d.ages = append([]*dedupAge(nil), d.ages[drop:]...)
	}
	if len(d.ages) > 0 {
		return d.ages[0].last
	}
	return after
}

func (d *dedupIndex) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

// room tells whether the pending IDs may be kept too, with mu held.
func (d *dedupIndex) room(after int64) error {
	if d.n+len(d.pending) <= d.limit {
		return nil
	}
	next := d.prune(after)
	if d.n+len(d.pending) <= d.limit {
		return nil
	}
	return &shardlog.Error{Op: "put", Stream: d.st.name, RetryAfter: time.Duration(max(next-after, 1)) * time.Millisecond,
		Err: fmt.Errorf("%w: %d dedup IDs within the window", shardlog.ErrThroughputExceeded, d.limit)}
}

// unclaim gives IDs back that no group took.
func (d *dedupIndex) unclaim(c *claim, keys []dedupKey) {
	d.mu.Lock()
	for _, k := range keys {
		delete(d.pending, k)
	}
	d.mu.Unlock()
	c.release(len(keys))
}

// dedupTicket is what became of the IDs of a call.
type dedupTicket struct {
	keys   []dedupKey
	places []dedupPlace
	claim  *claim
}

// Prepare implements logstore.Participant. The IDs are in the records.
func (d *dedupIndex) Prepare([]any, *logstore.Tx) {}

// Finish implements logstore.Participant.
func (d *dedupIndex) Finish(tickets []any, err error) {
	window := d.st.meta.Load().DedupWindow
	d.mu.Lock()
	for _, t := range tickets {
		t := t.(*dedupTicket)
		for i, k := range t.keys {
			delete(d.pending, k)
			if err == nil && window > 0 {
				d.insert(k, t.places[i], window)
			}
		}
	}
	d.mu.Unlock()
	for _, t := range tickets {
		t := t.(*dedupTicket)
		t.claim.release(len(t.keys))
	}
}

// windowStart is what an arrival has to be above to be within the window.
func windowStart(now time.Time, window time.Duration) int64 { return now.Add(-window).UnixMilli() }

// loadIDs makes the index from the records.
func (st *Stream) loadIDs() error {
	window := st.meta.Load().DedupWindow
	if window == 0 {
		return nil
	}
	type found struct {
		k dedupKey
		p dedupPlace
	}
	var all []found
	after := windowStart(time.Now(), window)
	for _, m := range st.routes.Load().all {
		err := m.s.ScanDedupIDs(after+1, func(id []byte, seq shardlog.SequenceNumber, ms int64) {
			all = append(all, found{dedupKeyOf(string(id)), dedupPlace{seq, ms}})
		})
		if errors.Is(err, shardlog.ErrCorrupt) {
			st.db.warn("dedup IDs of damaged records in stream "+st.name+" are not known", err)
		} else if err != nil {
			return err
		}
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.p.ms, b.p.ms) })
	d := &st.dedup
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range all[max(0, len(all)-d.limit):] {
		d.insert(f.k, f.p, window)
	}
	return nil
}

// expireIDs gives back the memory of IDs that are out of the window; it returns
// how long none will be.
func (st *Stream) expireIDs() time.Duration {
	window, now := st.meta.Load().DedupWindow, time.Now()
	d := &st.dedup
	d.mu.Lock()
	defer d.mu.Unlock()
	after := windowStart(now, window)
	next := d.prune(after)
	if len(d.ages) == 0 {
		return time.Hour
	}
	return max(time.Duration(next-after)*time.Millisecond, time.Second)
}

// SetDedupWindow changes the time in which a record with the DedupID of another
// is a duplicate, as in Config; 0 turns it off. A longer window does not bring
// back IDs that were over in the old one, until the database is opened anew.
func (st *Stream) SetDedupWindow(ctx context.Context, window time.Duration) error {
	err := st.update(ctx, "set dedup window", func(m *streamMeta) error {
		m.DedupWindow = window
		return checkDedupWindow(window)
	})
	if err == nil {
		st.db.wakeJanitor()
	}
	return err
}

func checkDedupWindow(d time.Duration) error {
	if d != 0 && (d < MinDedupWindow || d > MaxDedupWindow) {
		return &shardlog.InvalidError{Field: "DedupWindow", Value: d, Limit: fmt.Sprintf("0 for none, or %v to %v", MinDedupWindow, MaxDedupWindow)}
	}
	return nil
}

// idRule says whether a call takes dedup IDs.
type idRule uint8

const (
	idsOff       idRule = iota // the stream has no window
	idsOn                      // they are taken
	idsCondition               // the call is PutIf
)

func (m *streamMeta) idRule() idRule {
	if m.DedupWindow > 0 {
		return idsOn
	}
	return idsOff
}

// check looks at an ID that is not empty.
func (rule idRule) check(id string) *shardlog.InvalidError {
	switch {
	case rule == idsOff:
		return &shardlog.InvalidError{Field: "DedupID", Value: id, Limit: "empty in a stream without Config.DedupWindow"}
	case rule == idsCondition:
		return &shardlog.InvalidError{Field: "DedupID", Value: id, Limit: "empty in PutIf, whose condition keeps copies out"}
	case len(id) > MaxDedupID:
		return &shardlog.InvalidError{Field: "DedupID", Value: fmt.Sprintf("of %d bytes", len(id)), Limit: fmt.Sprintf("at most %d bytes", MaxDedupID)}
	case !utf8.ValidString(id):
		return &shardlog.InvalidError{Field: "DedupID", Value: id, Limit: "valid UTF-8"}
	}
	return nil
}

// putWithIDs is PutRecords for records some of which have dedup IDs.
func (st *Stream) putWithIDs(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	return st.request(ctx, &shardlog.PutRequest{Records: records})
}

func hasIDs(records []shardlog.Record) bool {
	for i := range records {
		if records[i].DedupID != "" {
			return true
		}
	}
	return false
}
