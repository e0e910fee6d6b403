package once

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog"
)

// KeyPrefix begins the keys of what is stored of producers. The number of their
// stream follows, and then what the value is: the last epoch that the stream
// gave out, or a value of an identity.
const KeyPrefix = 'i'

const (
	kindEpoch    = 'e'
	kindIdentity = 'p'
)

// epochKey is where the last epoch of a stream is.
func epochKey(stream uint32) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{KeyPrefix}, stream), kindEpoch)
}

// IdentityKey is where a producer's state is: its base in slot 0, and what was
// added since in the others.
func IdentityKey(stream uint32, id string, slot uint8) []byte {
	k := make([]byte, 0, 7+len(id))
	k = binary.BigEndian.AppendUint32(append(k, KeyPrefix), stream)
	return append(append(k, kindIdentity, slot), id...)
}

// parseIdentityKey is the reverse of IdentityKey; ok is false for other keys.
func parseIdentityKey(k []byte) (id string, slot uint8, ok bool) {
	if len(k) < 8 || k[5] != kindIdentity {
		return "", 0, false
	}
	return string(k[7:]), k[6], true
}

// storedState is a stored value of an identity: the base, with everything, or a
// slot, with what one transaction added. docs/FORMAT.md has the bytes.
type storedState struct {
	epoch, gen uint64
	used       int64 // Unix milliseconds
	done       uint64
	stored     []numbered
}

const (
	// StateVersion is the version of a stored value.
	StateVersion = 1
	stateHeader  = 8 + 1 + 4*8
)

// encode returns the bytes of s.
func (s *storedState) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, 8, stateHeader+16+6*len(s.stored))
	b = append(b, StateVersion)
	b = le.AppendUint64(b, s.epoch)
	b = le.AppendUint64(b, s.gen)
	b = le.AppendUint64(b, uint64(s.used))
	b = le.AppendUint64(b, s.done)
	var table placeTable
	places := make([]int, len(s.stored)) // in table
	for i := range s.stored {
		places[i] = table.of(&s.stored[i].seq)
	}
	b = binary.AppendUvarint(b, uint64(len(table.list)))
	for _, p := range table.list {
		b = binary.AppendUvarint(b, uint64(p.shard))
		b = binary.AppendVarint(b, p.created)
	}
	b = binary.AppendUvarint(b, uint64(len(s.stored)))
	counters, number, arrival := make([]uint64, len(table.list)), s.done, int64(0)
	for i := range s.stored {
		e, t := &s.stored[i], places[i]
		counter, arrived := counterOf(e.seq), arrivalOf(e.seq)
		b = binary.AppendUvarint(b, e.number-number)
		b = binary.AppendUvarint(b, uint64(t))
		b = binary.AppendVarint(b, int64(counter-counters[t]))
		b = binary.AppendVarint(b, arrived-arrival)
		number, counters[t], arrival = e.number, counter, arrived
	}
	le.PutUint64(b, xxhash.Sum64(b[8:]))
	return b
}

// The parts of a number that this log gave to a record, and which are therefore
// known. Times are in seconds.

func counterOf(n shardlog.SequenceNumber) uint64 {
	c, _ := n.Counter()
	return c
}

func shardOf(n shardlog.SequenceNumber) uint32 {
	index, _ := n.Shard()
	return index
}

func createdOf(n shardlog.SequenceNumber) int64 {
	t, _ := n.Created()
	return t.Unix()
}

func arrivalOf(n shardlog.SequenceNumber) int64 {
	t, _ := n.Arrival()
	return t.Unix()
}

// numberPlace is a shard, as a sequence number names it.
type numberPlace struct {
	shard   uint32
	created int64
}

// placeTable numbers the shards of sequence numbers. There are few as a rule.
type placeTable struct {
	list  []numberPlace
	index map[numberPlace]int // nil while the list is short
}

func (t *placeTable) of(seq *shardlog.SequenceNumber) int {
	p := numberPlace{shardOf(*seq), createdOf(*seq)}
	if t.index == nil {
		for i := range t.list {
			if t.list[i] == p {
				return i
			}
		}
	} else if i, ok := t.index[p]; ok {
		return i
	}
	t.list = append(t.list, p)
	n := len(t.list) - 1
	if t.index == nil && n >= 16 {
		t.index = make(map[numberPlace]int, 2*n)
		for i := range t.list {
			t.index[t.list[i]] = i
		}
	}
	if t.index != nil {
		t.index[p] = n
	}
	return n
}

// decodeState is the reverse of encode; with headOnly it leaves out the
// numbers. The error matches shardlog.ErrCorrupt or ErrVersion.
func decodeState(b []byte, headOnly bool) (s storedState, err error) {
	le := binary.LittleEndian
	if len(b) < stateHeader {
		return s, fmt.Errorf("%w: a producer's state of %d bytes", shardlog.ErrCorrupt, len(b))
	}
	if b[8] > StateVersion {
		return s, fmt.Errorf("%w: a producer's state of version %d", shardlog.ErrVersion, b[8])
	}
	if b[8] != StateVersion || le.Uint64(b) != xxhash.Sum64(b[8:]) {
		return s, fmt.Errorf("%w: a producer's state fails its checksum", shardlog.ErrCorrupt)
	}
	s = storedState{epoch: le.Uint64(b[9:]), gen: le.Uint64(b[17:]), used: int64(le.Uint64(b[25:])), done: le.Uint64(b[33:])}
	if headOnly {
		return s, nil
	}
	if s.stored, err = decodeNumbers(b[stateHeader:], s.done); err != nil {
		return s, fmt.Errorf("%w: numbers of a producer: %v", shardlog.ErrCorrupt, err)
	}
	return s, nil
}

// varints reads numbers of variable length; after an error they are 0.
type varints struct {
	b   []byte
	err error
}

func (v *varints) uint() uint64 {
	x, n := binary.Uvarint(v.b)
	if n <= 0 {
		v.b, v.err = nil, errors.New("cut short")
		return 0
	}
	v.b = v.b[n:]
	return x
}

func (v *varints) int() int64 {
	x := v.uint()
	return int64(x>>1) ^ -int64(x&1)
}

func decodeNumbers(b []byte, done uint64) ([]numbered, error) {
	v := varints{b: b}
	n := v.uint()
	if n > uint64(len(v.b)) {
		return nil, fmt.Errorf("%d shards", n)
	}
	shards, created, counters := make([]uint32, n), make([]int64, n), make([]uint64, n)
	for i := range shards {
		shards[i], created[i] = uint32(v.uint()), v.int()
	}
	n = v.uint()
	if n > uint64(len(v.b)) || n > MaxNumbers {
		return nil, fmt.Errorf("%d numbers", n)
	}
	out := make([]numbered, 0, n)
	number, arrival := done, int64(0)
	for i := range n {
		step, t := v.uint(), v.uint()
		counter := v.int()
		arrival += v.int()
		if v.err != nil || t >= uint64(len(shards)) || i > 0 && step == 0 || number+step < number {
			return nil, errors.Join(v.err, fmt.Errorf("number %d of %d makes no sense", i, n))
		}
		number += step
		counters[t] += uint64(counter)
		out = append(out, numbered{number, shardlog.NewSequenceNumber(created[t], shards[t], counters[t], arrival)})
	}
	if v.err != nil || len(v.b) > 0 {
		return nil, errors.Join(v.err, fmt.Errorf("%d bytes follow", len(v.b)))
	}
	return out, nil
}
