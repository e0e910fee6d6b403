package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog"
)

// numbered is a number of a producer that is stored, and where.
type numbered struct {
	number uint64
	seq    shardlog.SequenceNumber
}

// findNumber returns the place of a number in a list that ascends.
func findNumber(list []numbered, number uint64) (shardlog.SequenceNumber, bool) {
	if n := len(list); n == 0 || list[n-1].number < number {
		return shardlog.SequenceNumber{}, false
	}
	i := sort.Search(len(list), func(i int) bool { return list[i].number >= number })
	if list[i].number != number {
		return shardlog.SequenceNumber{}, false
	}
	return list[i].seq, true
}

// mergeNumbers returns what is in list from done on, and more, which ascend
// too. It may use the memory behind list, but changes nothing in it.
func mergeNumbers(list, more []numbered, done uint64) []numbered {
	list = list[sort.Search(len(list), func(i int) bool { return list[i].number >= done }):]
	more = more[sort.Search(len(more), func(i int) bool { return more[i].number >= done }):]
	if len(list) == 0 || len(more) == 0 || list[len(list)-1].number < more[0].number {
		return append(list, more...)
	}
	out := make([]numbered, 0, len(list)+len(more))
	for len(list) > 0 && len(more) > 0 {
		switch {
		case list[0].number < more[0].number:
			out, list = append(out, list[0]), list[1:]
		case list[0].number > more[0].number:
			out, more = append(out, more[0]), more[1:]
		default:
			list = list[1:] // the later one counts
		}
	}
	return append(append(out, list...), more...)
}

// identityState is what is stored of an identity: all of it, or what was added
// to it by one transaction. docs/FORMAT.md has the bytes.
type identityState struct {
	epoch, gen uint64
	used       int64 // Unix milliseconds
	done       uint64
	stored     []numbered
}

const (
	identityVersion = 1
	identityHeader  = 8 + 1 + 4*8
)

// maxNumbers is how far above Done a number may be, and so how many numbers
// are kept for a producer.
const maxNumbers = 1 << 20

// mostNumbers is maxNumbers, or less where they have to fit into a small file.
func (db *DB) mostNumbers() uint64 {
	if db.opts.InMemory {
		return maxNumbers
	}
	const numberSize = 24 // at the most, with its shard
	return uint64(min(maxNumbers, (db.opts.ValueLogFileBytes-64<<10)/numberSize))
}

func (s *identityState) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, 8, identityHeader+16+6*len(s.stored))
	b = append(b, identityVersion)
	b = le.AppendUint64(b, s.epoch)
	b = le.AppendUint64(b, s.gen)
	b = le.AppendUint64(b, uint64(s.used))
	b = le.AppendUint64(b, s.done)
	var table placeTable
	for i := range s.stored {
		table.of(&s.stored[i].seq)
	}
	b = binary.AppendUvarint(b, uint64(len(table.list)))
	for _, p := range table.list {
		b = binary.AppendUvarint(b, uint64(p.shard))
		b = binary.AppendVarint(b, p.created)
	}
	b = binary.AppendUvarint(b, uint64(len(s.stored)))
	counters, number, arrival := make([]uint64, len(table.list)), s.done, int64(0)
	for i := range s.stored {
		e := &s.stored[i]
		t := table.of(&e.seq)
		b = binary.AppendUvarint(b, e.number-number)
		b = binary.AppendUvarint(b, uint64(t))
		b = binary.AppendVarint(b, int64(counterOf(e.seq)-counters[t]))
		b = binary.AppendVarint(b, arrivalOf(e.seq)-arrival)
		number, counters[t], arrival = e.number, counterOf(e.seq), arrivalOf(e.seq)
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

// decodeIdentity is the reverse of encode; with headOnly it leaves out the
// numbers. The error matches shardlog.ErrCorrupt or ErrVersion.
func decodeIdentity(b []byte, headOnly bool) (s identityState, err error) {
	le := binary.LittleEndian
	if len(b) < identityHeader {
		return s, fmt.Errorf("%w: a producer's state of %d bytes", shardlog.ErrCorrupt, len(b))
	}
	if b[8] > identityVersion {
		return s, fmt.Errorf("%w: a producer's state of version %d", shardlog.ErrVersion, b[8])
	}
	if b[8] != identityVersion || le.Uint64(b) != xxhash.Sum64(b[8:]) {
		return s, fmt.Errorf("%w: a producer's state fails its checksum", shardlog.ErrCorrupt)
	}
	s = identityState{epoch: le.Uint64(b[9:]), gen: le.Uint64(b[17:]), used: int64(le.Uint64(b[25:])), done: le.Uint64(b[33:])}
	if headOnly {
		return s, nil
	}
	if s.stored, err = decodeNumbers(b[identityHeader:], s.done); err != nil {
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
	if n > uint64(len(v.b)) || n > maxNumbers {
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

// sortNumbers sorts what several calls added; no number is twice in it.
func sortNumbers(list []numbered) {
	ascends := slices.IsSortedFunc(list, compareNumbers)
	if !ascends {
		slices.SortFunc(list, compareNumbers)
	}
}

func compareNumbers(a, b numbered) int {
	switch {
	case a.number < b.number:
		return -1
	case a.number > b.number:
		return 1
	}
	return 0
}
