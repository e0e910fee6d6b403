package kinesisapi

import (
	"encoding/base64"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// EncryptionType of a record is that of the stream when the record was written.
// A stream's history has, for each change of it, the place in each shard from
// which on it holds. It is kept with the stream and has the changes that records
// which can still be read were written before.

const encryptionKMS = "KMS"

// encryptionChange is one StartStreamEncryption or StopStreamEncryption.
type encryptionChange struct {
	kms bool
	// shards is the index of the first shard that was created later: all records
	// of it and of those that follow were written after the change.
	shards uint32
	// from are, by the index of each shard that was open, the counters of the
	// first records after the change. A shard without one had ended before.
	from map[uint32]uint64
}

// since returns the counter from which on the change holds in a shard, if it
// does.
func (ch *encryptionChange) since(shard uint32) (counter uint64, ok bool) {
	if shard >= ch.shards {
		return 0, true
	}
	counter, ok = ch.from[shard]
	return counter, ok
}

// encryptionHistory is immutable: a change makes another one.
type encryptionHistory struct {
	base    bool // KMS before all changes
	changes []encryptionChange
}

// shardEncryption is the history of one shard. It is for reading records in
// their order.
type shardEncryption struct {
	shard   uint32
	kms     bool
	changes []encryptionChange // those that are ahead
}

// inShard returns the history of the shard with an index.
func (h *encryptionHistory) inShard(index uint32) shardEncryption {
	return shardEncryption{index, h.base, h.changes}
}

// next returns EncryptionType of a record, which is "" for none. The records
// before it were asked for before, if at all.
func (in *shardEncryption) next(n shardlog.SequenceNumber) string {
	counter := counterOf(n)
	for ; len(in.changes) > 0; in.changes = in.changes[1:] {
		from, ok := in.changes[0].since(in.shard)
		if ok && counter < from {
			break
		}
		if ok {
			in.kms = in.changes[0].kms
		}
	}
	return encryptionType(in.kms)
}

// encryptionType returns EncryptionType of a record.
func encryptionType(kms bool) string {
	if kms {
		return encryptionKMS
	}
	return ""
}

// ofNumber returns EncryptionType of the record with a number. Most are asked for
// right after they were put, so it looks from the last change back.
func (h *encryptionHistory) ofNumber(n shardlog.SequenceNumber) string {
	shard, _ := n.Shard()
	counter := counterOf(n)
	for i := len(h.changes) - 1; i >= 0; i-- {
		if from, ok := h.changes[i].since(shard); ok && counter >= from {
			return encryptionType(h.changes[i].kms)
		}
	}
	return encryptionType(h.base)
}

// ofFirst is EncryptionType of a PutRecords, which has one for all records: that
// of the first that was stored.
func (h *encryptionHistory) ofFirst(results []shardlog.PutResult) string {
	for i := range results {
		if results[i].Err == nil {
			return h.ofNumber(results[i].Sequence)
		}
	}
	return ""
}

// with returns the history with one more change. One that no record was written
// before takes the place of the last: those who switch back and forth leave
// nothing behind.
func (h *encryptionHistory) with(ch encryptionChange) *encryptionHistory {
	next := &encryptionHistory{h.base, slices.Clone(h.changes)}
	if n := len(next.changes); n > 0 && next.changes[n-1].shards == ch.shards && maps.Equal(next.changes[n-1].from, ch.from) {
		next.changes = next.changes[:n-1]
	}
	before := next.base
	if n := len(next.changes); n > 0 {
		before = next.changes[n-1].kms
	}
	if before != ch.kms {
		next.changes = append(next.changes, ch)
	}
	return next
}

// trimmed returns the history without changes that all records were written
// after. First are the shards that there still are, with the counters of their
// first records.
func (h *encryptionHistory) trimmed(first map[uint32]uint64) *encryptionHistory {
	for i := len(h.changes) - 1; i >= 0; i-- {
		over := true
		for shard, counter := range first {
			from, ok := h.changes[i].since(shard)
			over = over && ok && counter >= from
		}
		if over {
			return &encryptionHistory{h.changes[i].kms, slices.Clone(h.changes[i+1:])}
		}
	}
	return h
}

// The history is stored in as many attributes as it needs.
const (
	attrEncryption     = "kinesis.encryption/" // + number of the part
	encryptionPart     = 48 << 10
	maxEncryptionParts = 8
	encryptionFormat   = 1
)

// encode returns the attributes of the history; ok is false if it is too large.
// Parts that it does not need are empty, which removes them.
func (h *encryptionHistory) encode() (attrs map[string]string, ok bool) {
	b := []byte{encryptionFormat, 0}
	if h.base {
		b[1] = 1
	}
	for i := range h.changes {
		ch := &h.changes[i]
		kind := byte(0)
		if ch.kms {
			kind = 1
		}
		b = binary.AppendUvarint(append(b, kind), uint64(ch.shards))
		b = binary.AppendUvarint(b, uint64(len(ch.from)))
		for _, shard := range slices.Sorted(maps.Keys(ch.from)) {
			b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(shard)), ch.from[shard])
		}
	}
	text := base64.RawStdEncoding.EncodeToString(b)
	attrs = map[string]string{}
	for part := range maxEncryptionParts {
		n := min(len(text), encryptionPart)
		attrs[attrEncryption+strconv.Itoa(part)] = text[:n]
		text = text[n:]
	}
	return attrs, text == ""
}

// decodeEncryption reads the history of a stream from its attributes. One that
// the endpoint has not written is none: what holds now has held always.
func decodeEncryption(attrs map[string]string, kms bool) *encryptionHistory {
	none := &encryptionHistory{base: kms}
	var text strings.Builder
	for part := range maxEncryptionParts {
		text.WriteString(attrs[attrEncryption+strconv.Itoa(part)])
	}
	b, err := base64.RawStdEncoding.DecodeString(text.String())
	if err != nil || len(b) < 2 || b[0] != encryptionFormat || b[1] > 1 {
		return none
	}
	h := &encryptionHistory{base: b[1] == 1}
	r := awswire.NewPayload(b[2:])
	for r.Left() > 0 {
		kind := r.Byte()
		ch := encryptionChange{kms: kind == 1, shards: uint32(r.Uvarint()), from: map[uint32]uint64{}}
		for n := r.Uvarint(); n > 0 && r.OK(); n-- {
			shard := uint32(r.Uvarint())
			ch.from[shard] = r.Uvarint()
		}
		if !r.OK() || kind > 1 {
			return none
		}
		h.changes = append(h.changes, ch)
	}
	return h
}
