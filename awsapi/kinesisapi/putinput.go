package kinesisapi

import (
	"sync"
	"unicode/utf8"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// putInput is what PutRecord and PutRecords ask for. The records refer to the
// body and to the arena, so they are valid until the answer was sent.
type putInput struct {
	name, arn string
	records   []shardlog.Record
	arena     *[]byte // decoded data; nil if all of it is in the body
}

// arenas hold decoded data until the records are stored.
var arenas = sync.Pool{New: func() any { return new([]byte) }}

// acquireArena takes an arena of at least so many bytes.
func (p *putInput) acquireArena(size, least int) []byte {
	p.arena = arenas.Get().(*[]byte)
	if cap(*p.arena) < least {
		*p.arena = make([]byte, 0, size)
	}
	return (*p.arena)[:0]
}

// releaseArena lets other requests use the arena. The records are not valid
// afterwards.
func (p *putInput) releaseArena() {
	if p.arena == nil {
		return
	}
	if cap(*p.arena) > awswire.MaxPooled {
		*p.arena = nil
	}
	arenas.Put(p.arena)
	p.arena = nil
}

// The fast way reads bodies of PutRecords and PutRecord as SDKs write them,
// without allocating anything but the records. It checks what the general way
// does, and leaves every body that it does not understand to that, which finds
// out what is wrong. The two must agree; a fuzz test compares them.

// readPut reads a body in the fast way, or returns nil.
func readPut(format awswire.Format, body []byte, single bool) *putInput {
	p := &putInput{}
	ok := false
	if format == awswire.FormatCBOR {
		ok = fastCBOR(body, p, single)
	} else {
		ok = fastJSON(body, p, single)
	}
	if !ok || p.name != "" && !nameFits(p.name) || p.arn != "" && (len(p.arn) > maxARN || !shapeStreamARN.Matches(p.arn)) {
		p.releaseArena()
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

// entrySeen is which members of an entry there were. One that comes twice is
// left to the general way.
type entrySeen struct{ data, key, hash bool }

// complete reports whether the members were there that an entry must have.
func (s *entrySeen) complete() bool { return s.data && s.key }

// maxKeyRunes is how long a partition key may be, in characters (API
// reference, PutRecord).
const maxKeyRunes = shardlog.MaxPartitionKeyLength

// keyFits reports whether a partition key has an allowed length. Keys that are
// short in bytes are short in characters, and need no counting.
func keyFits(key []byte) bool {
	return len(key) > 0 && (len(key) <= maxKeyRunes || len(key) <= utf8.UTFMax*maxKeyRunes && utf8.RuneCount(key) <= maxKeyRunes)
}
