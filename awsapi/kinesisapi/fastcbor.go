package kinesisapi

import (
	"unicode/utf8"
	"unsafe"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// fastCBOR is the fast way for CBOR. The data of the records is a part of the
// body.
func fastCBOR(body []byte, p *putInput, single bool) bool {
	f := fastSource{awswire.NewCBORReader(body), len(body)}
	if t, err := f.Value(); err != nil || t.Kind != awswire.TokenMap {
		return false
	}
	var seen entrySeen
	if single {
		p.records = make([]shardlog.Record, 1)
	}
	ok := f.members(func(key []byte) bool {
		switch {
		case string(key) == "StreamName":
			return f.name(&p.name)
		case string(key) == "StreamARN":
			return f.name(&p.arn)
		case single:
			return f.entry(&p.records[0], key, &seen)
		case string(key) == "Records" && p.records == nil:
			return f.entries(p)
		}
		return false
	})
	if single {
		ok = ok && seen.complete()
	}
	return ok && len(p.records) > 0 && f.End() == nil
}

// fastSource is a reader of CBOR whose methods report whether what they read is
// what they expect.
type fastSource struct {
	awswire.CBORReader
	size int // of the body
}

// members reads what is in a map that has begun; member reads the value of a
// key.
func (f *fastSource) members(member func(key []byte) bool) bool {
	for {
		more, err := f.More()
		if err != nil || !more {
			return err == nil
		}
		key, err := f.Key()
		if err != nil || !member(key) {
			return false
		}
	}
}

// text reads valid UTF-8. The general way replaces what is not, so it has to see
// that.
func (f *fastSource) text() ([]byte, bool) {
	t, err := f.Value()
	return t.Text, err == nil && t.Kind == awswire.TokenString && utf8.Valid(t.Text)
}

// name reads the name or the ARN of the stream, once.
func (f *fastSource) name(to *string) bool {
	s, ok := f.text()
	if !ok || *to != "" || len(s) == 0 {
		return false
	}
	*to = string(s)
	return true
}

// entries reads the list of records. Its length is not trusted: memory is
// allocated by the size of the body.
func (f *fastSource) entries(p *putInput) bool {
	if t, err := f.Value(); err != nil || t.Kind != awswire.TokenList {
		return false
	}
	p.records = make([]shardlog.Record, 0, min(maxEntries, f.size/32+1))
	for {
		more, err := f.More()
		if err != nil || !more {
			return err == nil
		}
		if t, err := f.Value(); err != nil || t.Kind != awswire.TokenMap || len(p.records) == maxEntries {
			return false
		}
		p.records = append(p.records, shardlog.Record{})
		r := &p.records[len(p.records)-1]
		var seen entrySeen
		if !f.members(func(key []byte) bool { return f.entry(r, key, &seen) }) || !seen.complete() {
			return false
		}
	}
}

// entry reads one member of an entry.
func (f *fastSource) entry(r *shardlog.Record, key []byte, seen *entrySeen) bool {
	switch string(key) {
	case "Data":
		t, err := f.Value()
		if err != nil || seen.data || t.Kind != awswire.TokenBytes || len(t.Text) > maxData {
			return false
		}
		seen.data = true
		r.Data = t.Text
		return true
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
