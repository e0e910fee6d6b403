package kinesisapi

import (
	"sync"
	"unsafe"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/internal/block"
)

// putRun is records of a request, encoded as the log stores them, so that they are
// copied once more and no oftener. It implements block.Run. The zero value has none.
type putRun struct {
	memory *putMemory // nil until reserve
	// gap is what stands between the end of a record and the data of the next one,
	// because the key and what else is stored before the data are known only after
	// it: as much as the last record needed.
	gap int
}

// putMemory is what a request needs until its answer is encoded.
type putMemory struct {
	bytes   []byte // encoded records and gaps
	entries []putEntry
	results []shardlog.PutResult
}

// putEntry is a record of a putRun, by offsets.
type putEntry struct {
	start, data, end int // where what is stored begins, its data, and the end of both
	key              int // bytes of the partition key, which ends where the data begins
	hash             shardlog.HashKey
}

var putMemories = sync.Pool{New: func() any { return new(putMemory) }}

const (
	// firstGap is enough for usual keys, mostGap bounds what a long one makes the
	// next record take.
	firstGap = 32
	mostGap  = 64
	// decodeRoom is what decoding may write behind the data.
	decodeRoom = 8
)

// reserve gives r memory for the records of a body of so many bytes. An entry of a
// body takes more bytes than what is stored of it, but for the part of the gap that
// it does not need. Where that is much of a body, the memory is not enough.
func (r *putRun) reserve(body int) {
	size := body + body/8 + mostGap + decodeRoom
	m := putMemories.Get().(*putMemory)
	if cap(m.bytes) < size {
		m.bytes = make([]byte, 0, size)
	}
	m.bytes, m.entries = m.bytes[:0], m.entries[:0]
	r.memory, r.gap = m, firstGap
}

// release lets other requests use the memory. The records and results are not valid
// afterwards.
func (r *putRun) release() {
	m := r.memory
	if m == nil {
		return
	}
	if cap(m.bytes) > awswire.MaxPooled {
		m.bytes = nil
	}
	clear(m.results) // which have errors
	putMemories.Put(m)
	r.memory = nil
}

// room returns memory for the data of the next record, and decodeRoom more. If
// there is none left, no data fits.
func (r *putRun) room() []byte {
	b := r.memory.bytes
	return b[min(len(b)+r.gap, cap(b)):cap(b)]
}

// add adds a record whose data is the first n bytes of room, and reports whether
// the memory is enough for it.
func (r *putRun) add(key []byte, hash shardlog.HashKey, n int) bool {
	b, text := r.memory.bytes, unsafe.String(unsafe.SliceData(key), len(key)) // which is only read
	head := block.HeadSize(text, hash, n)
	data := len(b) + r.gap
	all := b[:cap(b)]
	more := max(head-r.gap, 0)
	if len(all)-data-n < more {
		return false
	}
	if more > 0 {
		copy(all[data+more:], all[data:data+n])
		data += more
	}
	r.gap = min(head, mostGap)
	block.AppendHead(all[data-head:data-head:data], text, hash, n)
	r.memory.bytes = all[:data+n]
	r.memory.entries = append(r.memory.entries, putEntry{start: data - head, data: data, end: data + n, key: len(key), hash: hash})
	return true
}

// Len implements block.Run.
func (r *putRun) Len() int {
	if r.memory == nil {
		return 0
	}
	return len(r.memory.entries)
}

// At implements block.Run. What it refers to is valid until release.
func (r *putRun) At(i int, it *block.Encoded) {
	e, b := &r.memory.entries[i], r.memory.bytes
	it.Key, it.HashKey = unsafe.String(unsafe.SliceData(b[e.data-e.key:e.data]), e.key), e.hash
	it.Bytes, it.Data = b[e.start:e.end:e.end], b[e.data:e.end:e.end]
}

// results returns memory for the results of all records.
func (r *putRun) results() []shardlog.PutResult {
	m := r.memory
	if cap(m.results) < len(m.entries) {
		m.results = make([]shardlog.PutResult, len(m.entries))
	}
	m.results = m.results[:cap(m.results)]
	return m.results[:len(m.entries)]
}
