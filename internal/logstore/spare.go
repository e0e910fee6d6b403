package logstore

import "github.com/shardlog/shardlog/internal/block"

// Bounds of what is kept to be used again.
const (
	spareMemory = 16 << 10 // bytes of one part
	spareTotal  = 1 << 20  // bytes of all
)

// spareParts are parts that no group has, to be used again, because a group of
// many shards has as many. It is guarded by Log.mu.
type spareParts struct {
	parts []*part
	bytes int // of their memory
	lists [][]*part
	// most is how many parts may be kept: twice those of the largest of the
	// last groups.
	most int
}

// take returns a part for records of s from a counter on, of about size bytes.
func (sp *spareParts) take(s *Shard, counter uint64, size int) *part {
	var p *part
	if n := len(sp.parts); n > 0 {
		p = sp.parts[n-1]
		sp.parts[n-1] = nil
		sp.parts = sp.parts[:n-1]
		sp.bytes -= cap(p.memory)
	} else {
		p = new(part)
	}
	p.shard = s
	if p.memory == nil || size >= directBytes && cap(p.memory) < block.HeaderSize+size+size/16 {
		// A block of that size is stored as it is, with its memory.
		p.b.Init(counter, size)
	} else {
		p.b.InitIn(p.memory, counter)
	}
	return p
}

// list returns an empty list of parts.
func (sp *spareParts) list() []*part {
	n := len(sp.lists)
	if n == 0 {
		return nil
	}
	parts := sp.lists[n-1]
	sp.lists = sp.lists[:n-1]
	return parts
}

// give takes back the parts of a group that is over.
func (sp *spareParts) give(parts []*part) {
	sp.expect(len(parts))
	for i, p := range parts {
		parts[i] = nil
		sp.giveOne(p)
	}
	if len(sp.lists) < 2 && cap(parts) <= sp.most {
		sp.lists = append(sp.lists, parts[:0])
	}
}

// expect notes how many parts a group or a call had.
func (sp *spareParts) expect(n int) {
	sp.most = max(2*n, sp.most-sp.most/16)
	for n := len(sp.parts); n > sp.most; n-- {
		sp.bytes -= cap(sp.parts[n-1].memory)
		sp.parts[n-1] = nil
		sp.parts = sp.parts[:n-1]
	}
}

// giveOne takes back a part.
func (sp *spareParts) giveOne(p *part) {
	if len(sp.parts) >= sp.most {
		return
	}
	memory := p.b.Memory()
	if p.kept || cap(memory) > spareMemory || sp.bytes+cap(memory) > spareTotal {
		memory = nil
		p.b.Drop()
	}
	p.shard, p.bytes, p.block, p.memory, p.kept = nil, 0, block.Block{}, memory, false
	sp.parts = append(sp.parts, p)
	sp.bytes += cap(memory)
}
