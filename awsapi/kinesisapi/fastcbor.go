package kinesisapi

import (
	"unicode/utf8"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// fastCBOR is the fast way for CBOR.
func fastCBOR(body []byte, p *putInput, single bool) bool {
	f := fastSource{awswire.NewCBORReader(body)}
	if t, err := f.Value(); err != nil || t.Kind != awswire.TokenMap {
		return false
	}
	var e fastEntry
	entries := false
	ok := f.members(func(key []byte) bool {
		switch {
		case string(key) == "StreamName":
			return f.name(&p.name)
		case string(key) == "StreamARN":
			return f.name(&p.arn)
		case single:
			return f.entry(&p.run, key, &e)
		case string(key) == "Records" && !entries:
			entries = true
			return f.entries(&p.run)
		}
		return false
	})
	if single {
		ok = ok && e.addTo(&p.run)
	}
	return ok && p.run.Len() > 0 && f.End() == nil
}

// fastSource is a reader of CBOR whose methods report whether what they read is
// what they expect.
type fastSource struct {
	awswire.CBORReader
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

// entries reads the list of records.
func (f *fastSource) entries(r *putRun) bool {
	if t, err := f.Value(); err != nil || t.Kind != awswire.TokenList {
		return false
	}
	for {
		more, err := f.More()
		if err != nil || !more {
			return err == nil
		}
		if r.Len() == maxEntries {
			return false
		}
		if f.usual(r) {
			continue
		}
		if t, err := f.Value(); err != nil || t.Kind != awswire.TokenMap {
			return false
		}
		var e fastEntry
		if !f.members(func(key []byte) bool { return f.entry(r, key, &e) }) || !e.addTo(r) {
			return false
		}
	}
}

// usual reads an entry as the SDK for Java writes it, without an explicit hash key.
// If it is another it has read nothing.
func (f *fastSource) usual(r *putRun) bool {
	all := f.Rest()
	b, indefinite := after(all, "\xbf") // a map that a break ends
	if !indefinite {
		var two bool
		if b, two = after(all, "\xa2"); !two {
			return false
		}
	}
	b, ok := after(b, "\x64Data")
	if !ok {
		return false
	}
	data, b := awswire.CutCBORBytes(b)
	if data == nil || len(data) > maxData {
		return false
	}
	if b, ok = after(b, "\x6cPartitionKey"); !ok {
		return false
	}
	key, b := awswire.CutCBORText(b)
	if !keyFits(key) || !utf8.Valid(key) {
		return false
	}
	if indefinite {
		if b, ok = after(b, "\xff"); !ok {
			return false
		}
	}
	if copy(r.room(), data) < len(data) || !r.add(key, shardlog.HashKey{}, len(data)) {
		return false
	}
	f.Skip(len(all) - len(b))
	return true
}

// entry reads one member of an entry.
func (f *fastSource) entry(r *putRun, key []byte, e *fastEntry) bool {
	if string(key) == "Data" {
		t, err := f.Value()
		return err == nil && t.Kind == awswire.TokenBytes && e.setData(len(t.Text)) && copy(r.room(), t.Text) == len(t.Text)
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
