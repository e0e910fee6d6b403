package patterns

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/shardlog/shardlog"
)

// stamp is the header of each record's data. It identifies the record, so that
// consumers can check for loss, copies and order.
type stamp struct {
	producer uint16
	index    uint64 // of the producer's records, below 2^48
	key      uint32
	at       int64 // when it was put, or in an open loop due, in nanoseconds since the start
}

// sum returns a checksum over the stamp and the run, which distinguishes stamps
// from other data and from those of other runs.
func (s *stamp) sum(run uint64) uint16 {
	h := run ^ uint64(s.producer)<<48 ^ s.index
	h = (h ^ h>>32) * 0x9e3779b97f4a7c15
	h = (h ^ uint64(s.key)<<20 ^ uint64(s.at)) * 0xbf58476d1ce4e5b9
	return uint16(h >> 48)
}

// write puts s over the first MinSize bytes.
func (s *stamp) write(b []byte, run uint64) {
	binary.BigEndian.PutUint64(b, uint64(s.producer)<<48|s.index)
	binary.BigEndian.PutUint32(b[8:], s.key)
	binary.BigEndian.PutUint64(b[12:], uint64(s.sum(run))<<48|uint64(s.at))
}

// readStamp is the reverse of write.
func readStamp(b []byte, run uint64) (s stamp, ok bool) {
	if len(b) < MinSize {
		return s, false
	}
	u := binary.BigEndian.Uint64(b)
	s.producer, s.index = uint16(u>>48), u&(1<<48-1)
	s.key = binary.BigEndian.Uint32(b[8:])
	u = binary.BigEndian.Uint64(b[12:])
	s.at = int64(u & (1<<48 - 1))
	return s, uint16(u>>48) == s.sum(run)
}

// generator generates the records of one producer.
type generator struct {
	m    *material
	rng  *rand.Rand
	run  uint64
	line int
	at   int // in the text
	next stamp
}

func newGenerator(m *material, run uint64, producer int) *generator {
	g := &generator{m: m, run: run, rng: rand.New(rand.NewPCG(m.w.Seed, uint64(producer)+2))}
	g.next.producer = uint16(producer)
	g.at = g.rng.IntN(textBytes)
	if n := len(m.lines); n > 0 {
		g.line = producer * (n / m.w.Producers)
	}
	return g
}

// make returns a record that was due at a time. Its data are in buf if that is
// large enough.
func (g *generator) make(buf []byte, at int64) (shardlog.Record, stamp) {
	var line []byte
	n := 0
	if len(g.m.lines) > 0 {
		n = g.line
		if g.line++; g.line == len(g.m.lines) {
			g.line = 0
		}
		line = g.m.lines[n]
	}
	key := g.key(n)
	var data []byte
	if g.m.w.Sizes.Kind == SizeLines {
		data = append(buf[:0], line...)
		for len(data) < MinSize {
			data = append(data, ' ')
		}
	} else {
		data = g.cut(buf[:0], g.size())
	}
	s := g.next
	s.key, s.at = key, at
	g.next.index++
	s.write(data, g.run)
	return shardlog.Record{PartitionKey: g.m.names[key], Data: data}, s
}

// key draws the number of a key. Line is the number of the record's line, for
// workloads whose keys are in the lines.
func (g *generator) key(line int) uint32 {
	k := &g.m.w.Keys
	switch k.Kind {
	case KeyLines:
		return g.m.keyOf[line]
	case KeyZipf:
		return g.m.alias.draw(g.rng)
	case KeyHot:
		if k.Count == 1 || g.rng.Float64() < k.HotShare {
			return 0
		}
		return 1 + g.rng.Uint32N(uint32(k.Count-1))
	}
	return g.rng.Uint32N(uint32(k.Count))
}

func (g *generator) size() int {
	s := &g.m.w.Sizes
	if s.Kind == SizeFixed {
		return s.Bytes
	}
	v := float64(s.Bytes) * math.Exp(s.Sigma*g.rng.NormFloat64())
	return int(min(max(math.Round(v), MinSize), float64(s.Max)))
}

// cut appends the next n bytes of the text, which it cycles through: consecutive
// records differ, and the processor can prefetch the sequential reads.
func (g *generator) cut(dst []byte, n int) []byte {
	for n > 0 {
		piece := g.m.text[g.at:]
		if len(piece) > n {
			piece = piece[:n]
		}
		dst = append(dst, piece...)
		n -= len(piece)
		g.at = (g.at + len(piece)) % textBytes
	}
	return dst
}
