package block

import (
	"encoding/binary"
	"sort"
)

func (b *Block) restarts() int { return len(b.table) / restartSize }

func (b *Block) restart(i int) (index uint32, offset int, ms int64) {
	p := b.table[i*restartSize:]
	return binary.LittleEndian.Uint32(p), int(binary.LittleEndian.Uint32(p[4:])), int64(binary.LittleEndian.Uint64(p[8:]))
}

// Seek returns an iterator that stands before the record with the counter, or
// before the first record if the counter is lower, or at the end.
func (b *Block) Seek(counter uint64) (Iter, error) {
	it := b.start(func(index uint32, _ int64) bool { return b.First+uint64(index) <= counter })
	var item Item
	for it.next < b.End() && it.next < counter {
		if ok, err := it.Next(&item); !ok || err != nil {
			return it, err
		}
	}
	return it, nil
}

// SeekTime returns an iterator that stands before the first record that
// arrived at ms or later, or at the end.
func (b *Block) SeekTime(ms int64) (Iter, error) {
	it := b.start(func(_ uint32, at int64) bool { return at < ms })
	var item Item
	for {
		prev := it
		ok, err := it.Next(&item)
		if err != nil || !ok {
			return it, err
		}
		if item.Ms >= ms {
			return prev, nil
		}
	}
}

// start returns an iterator at the last restart point that satisfies before,
// which must hold for a prefix of the points; or at the beginning.
func (b *Block) start(before func(index uint32, ms int64) bool) Iter {
	it := Iter{data: b.items(), next: b.First, end: b.End(), ms: b.FirstMs, known: knownFlags(b.version)}
	n := sort.Search(b.restarts(), func(i int) bool {
		index, _, ms := b.restart(i)
		return !before(index, ms)
	})
	if n > 0 {
		index, offset, ms := b.restart(n - 1)
		if offset <= len(it.data) && index < b.Count {
			it.off, it.next, it.ms = offset, b.First+uint64(index), ms
		}
	}
	return it
}
