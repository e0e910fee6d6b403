package kinesisapi

import (
	"unicode/utf8"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/internal/block"
)

// putInput is what PutRecord and PutRecords ask for. The records are in run if the
// fast way has read them and nothing has unpacked them, and otherwise in records.
type putInput struct {
	name, arn string
	run       putRun
	records   []shardlog.Record
}

// unpack moves the records to p.records. They refer to the memory of run, and are
// valid as long as that is.
func (p *putInput) unpack() {
	if p.records != nil || p.run.Len() == 0 {
		return
	}
	p.records = make([]shardlog.Record, p.run.Len())
	var it block.Encoded
	for i := range p.records {
		p.run.At(i, &it)
		p.records[i] = it.Record()
	}
}

// len returns how many records there are.
func (p *putInput) len() int {
	if p.records == nil {
		return p.run.Len()
	}
	return len(p.records)
}

// sizes returns the bytes of a record's data and of its partition key.
func (p *putInput) sizes(i int) (data, key int) {
	if p.records == nil {
		e := &p.run.memory.entries[i]
		return e.end - e.data, e.key
	}
	return len(p.records[i].Data), len(p.records[i].PartitionKey)
}

// The fast way reads bodies of PutRecords and PutRecord as SDKs write them,
// without allocating anything. It checks what the general way does, and leaves
// every body that it does not understand to that, which finds out what is wrong.
// The two must agree; a fuzz test compares them.

// readPut reads a body in the fast way, or returns nil.
func readPut(format awswire.Format, body []byte, single bool) *putInput {
	p := &putInput{}
	p.run.reserve(len(body))
	ok := false
	if format == awswire.FormatCBOR {
		ok = fastCBOR(body, p, single)
	} else {
		ok = fastJSON(body, p, single)
	}
	if !ok || p.name != "" && !nameFits(p.name) || p.arn != "" && (len(p.arn) > maxARN || !shapeStreamARN.Matches(p.arn)) {
		p.run.release()
		return nil
	}
	return p
}

// nameFits reports whether a name satisfies shapeStreamName, without the cost
// of a regular expression.
func nameFits(s string) bool { return len(s) <= 128 && nameChars(s) }

// nameChars reports whether a name is not empty and has no other characters than
// shapeStreamName allows.
func nameChars(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c|0x20)-'a' >= 26 && c-'0' >= 10 && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return len(s) >= 1
}

// fastEntry is what was read of an entry. The key is a part of the body. A member
// that comes twice is left to the general way.
type fastEntry struct {
	key  []byte
	hash shardlog.HashKey
	data int // bytes of the data, which is in the room of the run
	seen struct{ data, key, hash bool }
}

// addTo adds the record to a run, if the members were there that an entry must
// have.
func (e *fastEntry) addTo(r *putRun) bool {
	return e.seen.data && e.seen.key && r.add(e.key, e.hash, e.data)
}

// setKey takes a partition key, which is valid UTF-8.
func (e *fastEntry) setKey(key []byte) bool {
	if e.seen.key || !keyFits(key) {
		return false
	}
	e.key, e.seen.key = key, true
	return true
}

// setHash takes an explicit hash key.
func (e *fastEntry) setHash(text []byte) bool {
	if e.seen.hash || len(text) > 39 {
		return false
	}
	e.seen.hash = true
	var err error
	e.hash, err = shardlog.ParseHashKey(string(text))
	return err == nil
}

// setData takes data of so many bytes that is in the room of the run.
func (e *fastEntry) setData(n int) bool {
	if e.seen.data || n > maxData {
		return false
	}
	e.data, e.seen.data = n, true
	return true
}

// maxKeyRunes is how long a partition key may be, in characters (API
// reference, PutRecord).
const maxKeyRunes = shardlog.MaxPartitionKeyLength

// keyFits reports whether a partition key has an allowed length. Keys that are
// short in bytes are short in characters, and need no counting.
func keyFits(key []byte) bool {
	return len(key) > 0 && (len(key) <= maxKeyRunes || len(key) <= utf8.UTFMax*maxKeyRunes && utf8.RuneCount(key) <= maxKeyRunes)
}
