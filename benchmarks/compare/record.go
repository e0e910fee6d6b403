package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/shardlog/shardlog"
)

// shape is what the records of a work are like.
type shape struct {
	// size is the number of bytes of data.
	size int
	// explicit gives each record a hash key of its own, which chooses its shard
	// in place of the partition key.
	explicit bool
}

var (
	small    = shape{size: 100}
	large    = shape{size: 1024}
	explicit = shape{size: 100, explicit: true}
)

func (s shape) String() string {
	switch {
	case s.explicit:
		return ", explicit keys"
	case s.size == large.size:
		return ", 1 KiB"
	}
	return ""
}

// record is one record, in the forms that systems take.
type record struct {
	key string
	// hash is set for shapes with explicit keys.
	hash shardlog.HashKey
	data []byte
	// raw is the key, the hash key if there is one, and the data, for systems
	// whose entries have one value. It ends with data.
	raw []byte
}

const (
	keySize  = 16
	hashSize = 16
	// stamp is the writer's number and that of its record, with which the data
	// begins.
	stamp = 10
	// slab is how many records are made in one piece: a maker must cost less
	// than the fastest system. It is a multiple of the largest batch.
	slab = 1000
)

// keys are partition keys, as many as a busy service has clients.
var keys = func() (k []string) {
	for i := range 1000 {
		k = append(k, fmt.Sprintf("key-%012d", i))
	}
	return k
}()

// noise is where the data of records is from: nothing that compresses.
var noise = func() []byte {
	b := make([]byte, 64<<10)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}()

// maker makes the records of one writer.
type maker struct {
	shape
	writer, next, slab int
	ready              []record
}

func newMaker(writer int, s shape) *maker {
	return &maker{shape: s, writer: writer, slab: slab}
}

// piece is the noise of a writer's record.
func piece(writer, n, size int) []byte {
	return noise[(writer*7919+n*size)%(len(noise)-size):][:size]
}

// rawSize is the size of record.raw.
func (s shape) rawSize() int {
	if s.explicit {
		return keySize + hashSize + s.size
	}
	return keySize + s.size
}

// keyOf is the number of the partition key of a writer's record.
func keyOf(writer, n int) int { return (writer*61 + n) % len(keys) }

// batch returns the next n records, in memory that is not used again, because
// some systems keep it.
func (m *maker) batch(n int) []record {
	if len(m.ready) < n {
		m.fill(max(n, m.slab)) // from m.next on: what is left is dropped
	}
	b := m.ready[:n:n]
	m.ready = m.ready[n:]
	m.next += n
	return b
}

func (m *maker) fill(n int) {
	size := m.rawSize()
	buf := make([]byte, n*size)
	m.ready = make([]record, n)
	for i := range m.ready {
		seq := m.next + i
		raw := buf[i*size : (i+1)*size : (i+1)*size]
		r := record{key: keys[keyOf(m.writer, seq)], raw: raw, data: raw[size-m.size:]}
		copy(raw, r.key)
		if m.explicit {
			hash := raw[keySize:][:hashSize]
			copy(hash, piece(m.writer+1, seq, hashSize))
			r.hash = shardlog.NewHashKey(binary.BigEndian.Uint64(hash), binary.BigEndian.Uint64(hash[8:]))
		}
		copy(r.data, piece(m.writer, seq, m.size))
		binary.BigEndian.PutUint16(r.data, uint16(m.writer))
		binary.BigEndian.PutUint64(r.data[2:], uint64(seq))
		m.ready[i] = r
	}
}

// verify reads everything and checks the count, the contents, and the order by
// key and writer, and that nothing is repeated or missing. Records of an
// explicit key have no order by key, because that does not choose their shard.
func verify(r rival, makers []*maker) (n int) {
	type place struct{ writer, key int }
	last := map[place]int{}
	s := makers[0].shape
	sums := make([]int, len(makers))
	r.scan(func(v []byte) {
		if len(v) != s.size && len(v) != s.rawSize() {
			panic(fmt.Sprintf("a value of %d bytes", len(v)))
		}
		data := v[len(v)-s.size:]
		w, seq := int(binary.BigEndian.Uint16(data)), numberIn(data)
		if w >= len(makers) || !bytes.Equal(data[stamp:], piece(w, seq, s.size)[stamp:]) {
			panic(fmt.Sprintf("writer %d: record %d has other data", w, seq))
		}
		if !s.explicit {
			p := place{w, keyOf(w, seq)}
			if before, ok := last[p]; ok && seq <= before {
				panic(fmt.Sprintf("writer %d: %d follows %d", w, seq, before))
			}
			last[p] = seq
		}
		sums[w] += seq
		n++
	})
	want := 0
	for w, m := range makers {
		want += m.next
		if sums[w] != m.next*(m.next-1)/2 {
			panic(fmt.Sprintf("writer %d: records are missing, or others are there", w))
		}
	}
	if n != want {
		panic(fmt.Sprintf("%d records of %d", n, want))
	}
	return n
}

// numberIn is the number of the record that the data belongs to.
func numberIn(data []byte) int { return int(binary.BigEndian.Uint64(data[2:])) }

// checkSum checks how many records of a maker came, and the sum of their numbers.
func (m *maker) checkSum(n, sum int) {
	if n != m.next || sum != n*(n-1)/2 {
		panic(fmt.Sprintf("%d records of %d, with a sum of %d", n, m.next, sum))
	}
}
