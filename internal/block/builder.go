package block

import (
	"encoding/binary"

	"github.com/shardlog/shardlog"
)

// Builder collects records of one shard. Its zero value is not ready: use
// Init. It is not safe for concurrent use.
type Builder struct {
	h           Header
	raw         []byte // HeaderSize bytes kept free, then records
	restarts    []byte
	nextRestart int
	ids         bool // a record has a dedup ID
}

// Drop makes b forget the memory that it built in, which others have now.
func (b *Builder) Drop() { b.raw = nil }

// Memory returns what b builds in, or built the last block in.
func (b *Builder) Memory() []byte { return b.raw }

// Init makes b ready for a block that begins with the counter first and will
// have about size bytes of records.
func (b *Builder) Init(first uint64, size int) {
	// Room for the table saves copying the records when it is added.
	b.InitIn(make([]byte, HeaderSize+size+size/restartSpacing*restartSize), first)
}

// InitIn is Init that builds in memory that the caller had no more use for, as
// long as it is enough.
func (b *Builder) InitIn(memory []byte, first uint64) {
	b.h = Header{First: first}
	if cap(memory) < HeaderSize {
		memory = make([]byte, HeaderSize)
	}
	b.raw = memory[:HeaderSize]
	b.ids = false
	b.restarts = b.restarts[:0]
	b.nextRestart = HeaderSize + restartSpacing
}

// Len returns the bytes of records so far.
func (b *Builder) Len() int { return len(b.raw) - HeaderSize }

// Count returns how many records were added.
func (b *Builder) Count() uint32 { return b.h.Count }

// LastMs returns the arrival of the last record added.
func (b *Builder) LastMs() int64 { return b.h.LastMs }

// EncodedSize returns the most bytes that a record can take in a block.
func EncodedSize(r *shardlog.Record) int {
	n := 1 + markerSize + 4*binary.MaxVarintLen32 + 16 + len(r.PartitionKey) + len(r.Data) + len(r.DedupID)
	for i := range r.Headers {
		n += 2*binary.MaxVarintLen32 + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}

// Append adds a record that arrived at ms, Unix milliseconds, which must not
// be before that of the record before. The record's bytes are copied.
func (b *Builder) Append(r *shardlog.Record, ms int64) {
	b.mark(ms)
	b.ids = b.ids || r.DedupID != ""
	b.raw = appendRecord(b.raw, r)
	b.h.Count++
}

// appendRecord appends a record as blocks have it.
func appendRecord(raw []byte, r *shardlog.Record) []byte {
	var flags byte
	if len(r.Headers) > 0 {
		flags |= flagHeaders
	}
	if r.ExplicitHashKey.IsSet() {
		flags |= flagExplicit
	}
	if r.DedupID != "" {
		flags |= flagID
	}
	raw = append(raw, flags)
	raw = binary.AppendUvarint(raw, uint64(len(r.PartitionKey)))
	raw = binary.AppendUvarint(raw, uint64(len(r.Data)))
	if flags&flagExplicit != 0 {
		hi, lo := r.ExplicitHashKey.Words()
		raw = binary.BigEndian.AppendUint64(raw, hi)
		raw = binary.BigEndian.AppendUint64(raw, lo)
	}
	if flags&flagID != 0 {
		raw = binary.AppendUvarint(raw, uint64(len(r.DedupID)))
		raw = append(raw, r.DedupID...)
	}
	if flags&flagHeaders != 0 {
		raw = appendHeaders(raw, r.Headers)
	}
	raw = append(raw, r.PartitionKey...)
	return append(raw, r.Data...)
}

// mark notes the arrival of the next record, and a restart point if one is due.
func (b *Builder) mark(ms int64) {
	if b.h.Count == 0 {
		b.h.FirstMs, b.h.LastMs = ms, ms
	}
	if ms != b.h.LastMs {
		b.raw = append(b.raw, flagMarker)
		b.raw = binary.LittleEndian.AppendUint64(b.raw, uint64(ms))
		b.h.LastMs = ms
	}
	if len(b.raw) >= b.nextRestart {
		b.restarts = appendRestart(b.restarts, b.h.Count, len(b.raw)-HeaderSize, ms)
		b.nextRestart = len(b.raw) + restartSpacing
	}
}

func appendHeaders(raw []byte, headers []shardlog.Header) []byte {
	size := uvarintLen(uint64(len(headers)))
	for i := range headers {
		k, v := uint64(len(headers[i].Key)), uint64(len(headers[i].Value))
		size += uvarintLen(k) + int(k) + uvarintLen(v) + int(v)
	}
	raw = binary.AppendUvarint(raw, uint64(size))
	raw = binary.AppendUvarint(raw, uint64(len(headers)))
	for i := range headers {
		raw = binary.AppendUvarint(raw, uint64(len(headers[i].Key)))
		raw = append(raw, headers[i].Key...)
		raw = binary.AppendUvarint(raw, uint64(len(headers[i].Value)))
		raw = append(raw, headers[i].Value...)
	}
	return raw
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// Finish returns the block; prev is the counter of the shard's last record
// before it. It is in the builder's memory. The builder has to be initialized
// before it is used again.
func (b *Builder) Finish(prev uint64) Block {
	b.h.Prev = prev
	end := len(b.raw)
	raw := append(b.raw, b.restarts...)
	b.raw = raw
	v := byte(version)
	if b.ids {
		v = versionIDs
	}
	putHeader(raw, &b.h, v, None, len(raw)-HeaderSize, len(b.restarts)/restartSize)
	return Block{Header: b.h, version: v, raw: raw, itemsEnd: end, table: raw[end:]}
}
