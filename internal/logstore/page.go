package logstore

import (
	"slices"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// pager fills one page from a view. The page's records and their bytes belong
// to the reader: a block that the page has whole is copied once, from the store
// into memory that the records keep; of any other, just the records are copied.
type pager struct {
	v *view
	p shardlog.Page

	at   uint64 // counter of the next record
	room int    // records that the page still takes
	left int    // bytes that it still takes; 0 when it is full

	decoder
	fetched *fetch // from fetches while the page is filled
}

// fetches are those that no pager uses. Their arenas are not kept: records
// are over them.
var fetches = sync.Pool{New: func() any { return new(fetch) }}

// page reads from a view. What is damaged ends the page if it has records, and
// is the error if it has none.
func (s *Shard) page(v *view, at uint64, maxRecords, maxBytes int) (shardlog.Page, error) {
	if err := s.log.closing(); err != nil {
		return shardlog.Page{}, err
	}
	g := pager{v: v, at: at, room: maxRecords, left: maxBytes, decoder: decoder{s: s}}
	err := g.fill()
	if f := g.fetched; f != nil {
		f.forget()
		fetches.Put(f)
	}
	if err != nil && len(g.p.Records) == 0 {
		return shardlog.Page{}, err
	}
	g.complete()
	return g.p, nil
}

// fill adds records until the page is full or nothing is left.
func (g *pager) fill() error {
	for g.room > 0 && g.left > 0 {
		e, m, ok := g.v.find(g.at)
		if !ok {
			return g.s.lostEnd(g.v, g.at)
		}
		if m == nil && g.at <= e.first {
			if refs := g.whole(&e); len(refs) > 0 {
				if err := g.addWhole(refs); err != nil {
					return err
				}
				continue
			}
		}
		if m != nil {
			if err := g.add(&m.b, true); isDamage(err) {
				return g.s.corruptIn(m.b.First, m.b.End(), err)
			} else if err != nil {
				return err
			}
			continue
		}
		b, trusted, err := g.s.load(e, nil, true)
		if err == nil {
			err = g.addStored(&e, &b, trusted, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// whole returns the blocks from the one that e is on that the page will have
// whole, as far as their sizes as stored show it.
func (g *pager) whole(e *blockRef) []blockRef {
	refs := g.v.stored(e, fetchBlocks, int64(min(g.left, fetchBytes)))
	room, left := g.room, g.left
	for i := range refs {
		if room, left = room-int(refs[i].count), left-int(refs[i].size); room < 0 || left < 0 {
			return refs[:i]
		}
	}
	return refs
}

// addWhole adds the records of blocks over the memory that they are fetched
// into. They are not kept for other readers.
func (g *pager) addWhole(refs []blockRef) error {
	if g.fetched == nil {
		g.fetched = fetches.Get().(*fetch)
	}
	f := g.fetched
	if f.run(g.s, refs, false); f.err != nil {
		return f.err
	}
	for i := range refs {
		b, trusted, err := f.block(i)
		if err == nil {
			err = g.addStored(&refs[i], &b, trusted, false)
		}
		if err != nil || g.left <= 0 {
			return err
		}
	}
	return nil
}

// addStored is add for a stored block.
func (g *pager) addStored(e *blockRef, b *block.Block, trusted, shared bool) error {
	err := g.add(b, shared)
	if trusted && isDamage(err) {
		var whole block.Block
		if whole, err = g.s.reread(e, g.at, err); err == nil {
			err = g.add(&whole, false)
		}
	}
	if isDamage(err) {
		err = g.s.damaged(e, err)
	}
	return err
}

// add adds the records of a block that the page has room for, over a copy of
// their bytes if other readers share the block. After an error it has those
// before the damage, and is a *block.DamageError unless blocks are missing.
func (g *pager) add(b *block.Block, shared bool) error {
	if err := g.s.checkGap(g.v, g.at, b); err != nil {
		return err
	}
	it, err := b.Seek(g.at)
	var stop block.Iter
	full := false
	if err == nil {
		stop, full, err = g.reach(b, it)
	}
	if err != nil {
		return err
	}
	n := int(stop.Counter() - it.Counter())
	if shared && n > 0 {
		it.Own(stop)
	}
	if g.p.Records == nil {
		g.p.Records = make([]shardlog.Record, 0, g.estimate(b, n))
	}
	g.p.Records = slices.Grow(g.p.Records, n)
	have := len(g.p.Records)
	records := g.p.Records[have : have+n] // zero, as whatever was never used
	done, size, next := 0, 0, it.Counter()
	for ; done < n && err == nil; done++ {
		r := &records[done]
		if _, err = g.next(&it, r); err != nil {
			*r = shardlog.Record{}
			break
		}
		size += r.Size()
	}
	if err == nil {
		err = g.end(&it)
	}
	g.p.Records = g.p.Records[:have+done]
	g.at = next + uint64(done)
	g.room -= done
	if g.left -= size; full {
		g.left = 0
	}
	return err
}

// reach returns how far the page's room goes in a block, and whether its next
// record is one that does not fit. The first record of a page always does.
func (g *pager) reach(b *block.Block, it block.Iter) (stop block.Iter, full bool, err error) {
	end := min(b.End(), it.Counter()+uint64(g.room))
	if b.Size() <= g.left {
		stop, err = b.Seek(end)
		return stop, false, err
	}
	stop = it
	var item block.Item
	for left := g.left; stop.Counter() < end; {
		prev := stop
		if _, err := stop.Next(&item); err != nil {
			return stop, false, err
		}
		size := item.Size()
		if size > left && (len(g.p.Records) > 0 || prev.Counter() > it.Counter()) {
			return prev, true, nil
		}
		left -= size
	}
	return stop, false, nil
}

// estimate returns how many records the page will have, as far as n of its
// first block show it: growing a page of many records costs more than filling it.
func (g *pager) estimate(b *block.Block, n int) int {
	most := uint64(g.room)
	if g.v.last >= g.at {
		most = min(most, g.v.last-g.at+1)
	}
	if b.Count > 0 {
		// A stored record takes a little more than what counts of it.
		each := max(1, b.Size()/int(b.Count)*15/16)
		most = min(most, uint64(g.left/each)+1)
	}
	return max(n, int(most))
}

// complete fills in what the page says about its place.
func (g *pager) complete() {
	p, v, s := &g.p, g.v, g.s
	var size int64
	for i := range p.Records {
		size += int64(p.Records[i].Size())
	}
	s.stats.recordsOut.Add(int64(len(p.Records)))
	s.stats.bytesOut.Add(size)
	if n := len(p.Records); n > 0 && g.at == counterOf(p.Records[n-1].Sequence)+1 {
		p.Next = shardlog.After(p.Records[n-1].Sequence)
	} else {
		p.Next = shardlog.At(s.sequence(g.at, v.lastMs))
	}
	p.BehindRecords = v.after(g.at)
	p.End = v.closed && g.at > v.last
	if p.BehindRecords > 0 {
		var since int64
		if n := len(p.Records); n > 0 {
			since = p.Records[n-1].Arrival.UnixMilli()
		} else if len(v.blocks) > 0 {
			since = v.blocks[0].firstMs
		}
		p.Behind = max(0, time.Duration(v.lastMs-since)*time.Millisecond) // the clock may have stepped back
	}
}
