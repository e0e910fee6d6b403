package logstore

import (
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/shardlog/shardlog"
)

// spoiled is what a borrowed byte becomes after its step.
const spoiled = 0xCC

var poison atomic.Bool

func init() { poison.Store(raceDetector) }

// PoisonBorrowed makes misuse of borrowed records fail, in all iterations of the
// process that begin from now on: each record is lent in memory of its own, which
// is overwritten after the step, and a loop that has changed the bytes panics.
// Tests turn it on; with the race detector it is on from the start.
func PoisonBorrowed(on bool) { poison.Store(on) }

// lend returns yield itself, or one that spoils what was lent.
func lend(yield func(*shardlog.Record, error) bool) func(*shardlog.Record, error) bool {
	if !poison.Load() {
		return yield
	}
	return func(r *shardlog.Record, err error) bool {
		l := newLoan(r)
		more := yield(&l.rec, err)
		l.end(r)
		return more
	}
}

// loan is a copy of a borrowed record.
type loan struct {
	rec shardlog.Record
	mem []byte // all its bytes
}

func newLoan(r *shardlog.Record) *loan {
	size := r.Size() + len(r.DedupID)
	l := &loan{rec: *r, mem: make([]byte, 0, size)}
	l.rec.PartitionKey, l.rec.DedupID = l.text(r.PartitionKey), l.text(r.DedupID)
	l.rec.Data = l.bytes(string(r.Data))
	if r.Headers != nil {
		l.rec.Headers = make([]shardlog.Header, len(r.Headers))
	}
	for i, h := range r.Headers {
		l.rec.Headers[i] = shardlog.Header{Key: l.text(h.Key), Value: l.text(h.Value)}
	}
	return l
}

func (l *loan) bytes(s string) []byte {
	from := len(l.mem)
	l.mem = append(l.mem, s...)
	return l.mem[from:len(l.mem):len(l.mem)]
}

func (l *loan) text(s string) string {
	b := l.bytes(s)
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// end spoils what was lent, after it has compared it with the original.
func (l *loan) end(r *shardlog.Record) {
	if !slices.Equal(newLoan(r).mem, l.mem) {
		panic("shardlog: the bytes of a borrowed record were changed")
	}
	for i := range l.mem {
		l.mem[i] = spoiled
	}
	l.rec.Sequence, l.rec.SubSequence, l.rec.ShardID, l.rec.Arrival = shardlog.SequenceNumber{}, 0, "", r.Arrival.AddDate(-1000, 0, 0)
}
