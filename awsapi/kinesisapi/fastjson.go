package kinesisapi

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
	"unsafe"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// fastJSON reads a body as JSON.
func fastJSON(body []byte, p *putInput, single bool) bool {
	f := fastDecoder{b: body}
	if single {
		var e fastEntry
		if !f.object(func(key []byte) bool { return f.top(p, key) || f.member(&p.run, key, &e) }) || !e.addTo(&p.run) {
			return false
		}
	} else if seen := false; !f.object(func(key []byte) bool {
		if string(key) == "Records" && !seen {
			seen = true
			return f.entries(&p.run)
		}
		return f.top(p, key)
	}) || p.run.Len() == 0 {
		return false
	}
	f.space()
	return f.i == len(f.b)
}

// fastDecoder reads JSON as it is written by SDKs. Its methods report whether
// what they read is what they expect; nothing is done about it if not.
type fastDecoder struct {
	b []byte
	i int
}

// space skips white space.
func (f *fastDecoder) space() {
	for f.i < len(f.b) && (f.b[f.i] == ' ' || f.b[f.i] == '\n' || f.b[f.i] == '\r' || f.b[f.i] == '\t') {
		f.i++
	}
}

// is skips white space and takes one byte if it is c.
func (f *fastDecoder) is(c byte) bool {
	if f.i < len(f.b) && f.b[f.i] == c {
		f.i++
		return true
	}
	f.space()
	if f.i < len(f.b) && f.b[f.i] == c {
		f.i++
		return true
	}
	return false
}

// text reads a string without escapes. It is a part of the body.
func (f *fastDecoder) text() ([]byte, bool) {
	if !f.is('"') {
		return nil, false
	}
	b := f.b[f.i:]
	if n := plainText(b); n >= 0 {
		f.i += n + 1
		return b[:n], true
	}
	n := bytes.IndexByte(b, '"')
	if n < 0 {
		return nil, false
	}
	b = b[:n]
	for _, c := range b {
		if c < ' ' || c == '\\' {
			return nil, false
		}
	}
	f.i += n + 1
	return b, utf8.Valid(b)
}

// plainText returns how many bytes stand before the first quote, or -1 if it does
// not see in words of eight bytes that all of them are ASCII without escapes and
// control characters.
func plainText(b []byte) int {
	const each, top = 0x0101010101010101, 0x8080808080808080
	for i := 0; len(b)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, escape := w^'"'*each, w^'\\'*each
		// Of the bytes with the top bit the lowest is one that ends plain text. Those
		// above it may be wrong, because of the borrow.
		if end := ((quote-each)&^quote | (escape-each)&^escape | (w-' '*each)&^w | w) & top; end != 0 {
			if i += bits.TrailingZeros64(end) / 8; b[i] == '"' {
				return i
			}
			return -1
		}
	}
	return -1
}

// object reads a structure; member reads the value of a key.
func (f *fastDecoder) object(member func(key []byte) bool) bool {
	if !f.is('{') {
		return false
	}
	for first := true; ; first = false {
		if f.is('}') {
			return true
		}
		if !first && !f.is(',') {
			return false
		}
		key, ok := f.text()
		if !ok || !f.is(':') || !member(key) {
			return false
		}
	}
}

// top reads the members that say which stream.
func (f *fastDecoder) top(p *putInput, key []byte) bool {
	var to *string
	switch string(key) {
	case "StreamName":
		to = &p.name
	case "StreamARN":
		to = &p.arn
	default:
		return false
	}
	s, ok := f.text()
	if !ok || *to != "" || len(s) == 0 {
		return false
	}
	*to = string(s)
	return true
}

// entries reads the list of records.
func (f *fastDecoder) entries(r *putRun) bool {
	if !f.is('[') {
		return false
	}
	for {
		if f.is(']') {
			return true
		}
		if r.Len() == maxEntries || r.Len() > 0 && !f.is(',') {
			return false
		}
		if !f.usual(r) && !f.entry(r) {
			return false
		}
	}
}

// usual reads an entry as the SDKs for Go, JavaScript and Rust write it. If it is
// another it has read nothing.
func (f *fastDecoder) usual(r *putRun) bool {
	b, ok := after(f.b[f.i:], `{"Data":"`)
	if !ok {
		return false
	}
	n, read, ok := awswire.DecodeBase64(r.room(), b)
	if !ok || n > maxData {
		return false
	}
	b = b[read:]
	var hash shardlog.HashKey
	if rest, ok := after(b, `,"ExplicitHashKey":"`); ok {
		k := plainText(rest)
		if k < 0 {
			return false
		}
		var err error
		if hash, err = shardlog.ParseHashKey(unsafe.String(unsafe.SliceData(rest), k)); err != nil {
			return false
		}
		b = rest[k+1:]
	}
	if b, ok = after(b, `,"PartitionKey":"`); !ok {
		return false
	}
	k := plainText(b)
	if k < 0 || len(b) < k+2 || b[k+1] != '}' || !keyFits(b[:k]) || !r.add(b[:k], hash, n) {
		return false
	}
	f.i = len(f.b) - len(b) + k + 2
	return true
}

// after returns what stands in b after what it begins with.
func after(b []byte, begin string) (rest []byte, ok bool) {
	if len(b) < len(begin) || string(b[:len(begin)]) != begin {
		return b, false
	}
	return b[len(begin):], true
}

// entry reads any entry. It repeats what object does, because a closure for each
// record would be an allocation for each.
func (f *fastDecoder) entry(r *putRun) bool {
	var e fastEntry
	if !f.is('{') {
		return false
	}
	for first := true; ; first = false {
		if f.is('}') {
			return e.addTo(r)
		}
		if !first && !f.is(',') {
			return false
		}
		key, ok := f.text()
		if !ok || !f.is(':') || !f.member(r, key, &e) {
			return false
		}
	}
}

// member reads one member of an entry.
func (f *fastDecoder) member(r *putRun, key []byte, e *fastEntry) bool {
	if string(key) == "Data" {
		if !f.is('"') {
			return false
		}
		n, read, ok := awswire.DecodeBase64(r.room(), f.b[f.i:])
		f.i += read
		return ok && e.setData(n)
	}
	s, ok := f.text()
	if !ok {
		return false
	}
	switch string(key) {
	case "PartitionKey":
		return e.setKey(s)
	case "ExplicitHashKey":
		return e.setHash(s)
	}
	return false
}
