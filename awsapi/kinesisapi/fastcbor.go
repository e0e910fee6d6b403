package kinesisapi

import (
	"unicode/utf8"
	"unsafe"

	"github.com/shardlog/shardlog"
)

// fastCBOR is the fast way for CBOR. The data of the records is a part of the
// body.
func fastCBOR(body []byte, p *putInput, single bool) bool {
	f := fastSource{cborSource{data: body}}
	if t, err := f.value(); err != nil || t.kind != tokenMap {
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
	return ok && len(p.records) > 0 && f.end() == nil
}

type fastSource struct{ cborSource }

// members reads what is in a map that has begun; member reads the value of a
// key.
func (f *fastSource) members(member func(key []byte) bool) bool {
	for {
		more, err := f.more()
		if err != nil || !more {
			return err == nil
		}
		key, err := f.key()
		if err != nil || !member(key) {
			return false
		}
	}
}

func (f *fastSource) text() ([]byte, bool) {
	t, err := f.value()
	return t.text, err == nil && t.kind == tokenString && utf8.Valid(t.text)
}

func (f *fastSource) name(to *string) bool {
	s, ok := f.text()
	if !ok || *to != "" || len(s) == 0 {
		return false
	}
	*to = string(s)
	return true
}

func (f *fastSource) entries(p *putInput) bool {
	if t, err := f.value(); err != nil || t.kind != tokenList {
		return false
	}
	p.records = make([]shardlog.Record, 0, min(500, len(f.data)/32+1))
	for {
		more, err := f.more()
		if err != nil || !more {
			return err == nil
		}
		if t, err := f.value(); err != nil || t.kind != tokenMap || len(p.records) == 500 {
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
		t, err := f.value()
		if err != nil || seen.data || t.kind != tokenBytes || len(t.text) > 10<<20 {
			return false
		}
		seen.data = true
		r.Data = t.text
		return true
	case "PartitionKey":
		s, ok := f.text()
		if !ok || seen.key || !keyFits(s) {
			return false
		}
		seen.key = true
		// The body outlives the call, and the log keeps no key.
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
