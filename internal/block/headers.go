package block

import "github.com/shardlog/shardlog"

// Sizes of what Headers sets aside, in headers: enough for most records at
// first, and in the end so many that one allocation serves a hundred records.
const (
	minHeaders = 4
	maxHeaders = 256
)

// Headers is memory for the headers of records that are decoded one after
// another, so that not every record has an allocation of its own. Its zero value
// is ready, and leaves what it gave out to the records.
type Headers struct {
	free []shardlog.Header
	// Reuse says that the headers of a record are overwritten by those of the
	// next one.
	Reuse bool
	last  int // size of the last allocation
}

// take returns room for n headers.
func (h *Headers) take(n int) []shardlog.Header {
	if cap(h.free) < n {
		h.last = max(n, min(max(2*h.last, minHeaders), maxHeaders))
		h.free = make([]shardlog.Header, 0, h.last)
	}
	s := h.free[0:0:n]
	if !h.Reuse {
		h.free = h.free[n:n:cap(h.free)]
	}
	return s
}

// decode returns the headers of a record, or why they cannot be decoded.
func (h *Headers) decode(p []byte) (hs []shardlog.Header, reason string) {
	count, off := uvarint(p, 0)
	if off <= 0 || count > shardlog.MaxHeaders {
		return nil, "their number makes no sense"
	}
	next := func() (string, bool) {
		size, n := uvarint(p, off)
		if n <= 0 || size > uint64(len(p)-off-n) {
			return "", false
		}
		off += n + int(size)
		return text(p[off-int(size) : off]), true
	}
	hs = h.take(int(count))
	for range count {
		key, ok1 := next()
		value, ok2 := next()
		if !ok1 || !ok2 {
			return nil, "cut short"
		}
		hs = append(hs, shardlog.Header{Key: key, Value: value})
	}
	return hs, ""
}
