package kinesisapi

import (
	"bytes"
	"encoding/base64"
	"unicode/utf8"
	"unsafe"

	"github.com/shardlog/shardlog"
)

// fastJSON reads a body as JSON.
func fastJSON(body []byte, p *putInput, single bool) bool {
	f := fastDecoder{b: body}
	// Data takes three quarters of its text, and the text is in the body.
	f.arena = p.acquireArena(len(body), len(body)*3/4)
	if single {
		p.records = make([]shardlog.Record, 1)
		var seen entrySeen
		if !f.object(func(key []byte) bool { return f.top(p, key) || f.entry(&p.records[0], key, &seen) }) || !seen.complete() {
			return false
		}
	} else if !f.object(func(key []byte) bool {
		if string(key) == "Records" && p.records == nil {
			return f.entries(p)
		}
		return f.top(p, key)
	}) || len(p.records) == 0 {
		return false
	}
	f.space()
	return f.i == len(f.b)
}

// fastDecoder reads JSON as it is written by SDKs. Its methods report whether
// what they read is what they expect; nothing is done about it if not.
type fastDecoder struct {
	b     []byte
	i     int
	arena []byte
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

// raw reads a string up to its closing quote, with whatever is in it; one with
// an escaped quote ends too early, and what follows is refused.
func (f *fastDecoder) raw() ([]byte, bool) {
	if !f.is('"') {
		return nil, false
	}
	n := bytes.IndexByte(f.b[f.i:], '"')
	if n < 0 {
		return nil, false
	}
	s := f.b[f.i : f.i+n]
	f.i += n + 1
	return s, true
}

// text reads a string without escapes. It is a part of the body.
func (f *fastDecoder) text() ([]byte, bool) {
	s, ok := f.raw()
	if !ok {
		return nil, false
	}
	ascii := true
	for _, c := range s {
		if c < ' ' || c == '\\' {
			return nil, false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return s, ascii || utf8.Valid(s)
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

// entries reads the list of records. The guess of their number is by the size of
// the body, so a small body allocates little.
func (f *fastDecoder) entries(p *putInput) bool {
	if !f.is('[') {
		return false
	}
	p.records = make([]shardlog.Record, 0, min(maxEntries, len(f.b)/64+1))
	for {
		if f.is(']') {
			return true
		}
		if len(p.records) == maxEntries || len(p.records) > 0 && !f.is(',') {
			return false
		}
		p.records = append(p.records, shardlog.Record{})
		if !f.record(&p.records[len(p.records)-1]) {
			return false
		}
	}
}

// record reads one entry. It repeats what object does, because a closure for each
// record would be an allocation for each.
func (f *fastDecoder) record(r *shardlog.Record) bool {
	var seen entrySeen
	if !f.is('{') {
		return false
	}
	for first := true; ; first = false {
		if f.is('}') {
			return seen.complete()
		}
		if !first && !f.is(',') {
			return false
		}
		key, ok := f.text()
		if !ok || !f.is(':') || !f.entry(r, key, &seen) {
			return false
		}
	}
}

// entry reads one member of an entry.
func (f *fastDecoder) entry(r *shardlog.Record, key []byte, seen *entrySeen) bool {
	switch string(key) {
	case "Data":
		if seen.data {
			return false
		}
		seen.data = true
		return f.data(r)
	case "PartitionKey":
		s, ok := f.text()
		if !ok || seen.key || !keyFits(s) {
			return false
		}
		seen.key = true
		// The body is valid as long as the records, and the log keeps no key.
		r.PartitionKey = unsafe.String(unsafe.SliceData(s), len(s))
		return true
	case "ExplicitHashKey":
		s, ok := f.text()
		if !ok || seen.hash || len(s) > 39 {
			return false
		}
		seen.hash = true
		var err error
		r.ExplicitHashKey, err = shardlog.ParseHashKey(string(s))
		return err == nil
	}
	return false
}

// data decodes base64 into the arena.
func (f *fastDecoder) data(r *shardlog.Record) bool {
	s, ok := f.raw()
	if !ok || len(s)%4 != 0 {
		return false
	}
	want := len(s) / 4 * 3
	for k := len(s) - 1; k >= 0 && k >= len(s)-2 && s[k] == '='; k-- {
		want--
	}
	from := len(f.arena)
	if cap(f.arena)-from < len(s)/4*3 {
		return false
	}
	n, err := base64.StdEncoding.Strict().Decode(f.arena[from:cap(f.arena)], s)
	if err != nil || n != want || n > maxData { // fewer bytes where it has newlines, which Decode skips
		return false
	}
	f.arena = f.arena[:from+n]
	r.Data = f.arena[from : from+n : from+n]
	return true
}
