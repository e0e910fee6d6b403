package consumer

import (
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
)

// pageItems are the records of a chunk that are not all done, in order.
type pageItems struct {
	piece piece
	items []item
	done  int // items up to the first that is not done
}

// item is a record that is under way. Its queue's batch gets a copy of the
// record, so that nothing that a handler does to its own reaches another.
type item struct {
	page  *pageItems
	index int32 // of the record
	size  int32
	done  bool
	next  *item // in its queue
}

func (it *item) record() *shardlog.Record { return &it.page.piece.records[it.index] }

// end is the position after it, and after what was filtered out behind it.
func (it *item) end() shardlog.Position { return it.page.piece.after(int(it.index)) }

// keyQueue has the records of one partition key that are not done, in order.
type keyQueue struct {
	key         string
	first, last *item
	length      int
	attempt     int
	limit       int // of the next batch, after a division; 0 is none
	notUntil    time.Time
	busy        bool // a call is under way, or it waits for one
}

func (q *keyQueue) push(it *item) {
	if q.first == nil {
		q.first = it
	} else {
		q.last.next = it
	}
	q.last = it
	q.length++
}

// finish takes out the first n records, which are done.
func (q *keyQueue) finish(n int) {
	for range n {
		it := q.first
		it.done = true
		q.first, it.next = it.next, nil
	}
	if q.length -= n; q.first == nil {
		q.last = nil // it has the page
	}
}

// piece returns a copy of the first records: at most most of them, and no
// larger together than size, but at least one.
func (q *keyQueue) piece(most, size int) *piece {
	n, last := 0, q.first
	for it := q.first; it != nil && n < most; it = it.next {
		if size -= int(it.size); size < 0 && n > 0 {
			break
		}
		n, last = n+1, it
	}
	p := &piece{records: make([]shardlog.Record, n), end: last.end()}
	for i, it := 0, q.first; i < n; i, it = i+1, it.next {
		p.records[i] = *it.record()
	}
	return p
}

// keyQueues are the records of one shard that are not done, by partition key,
// or by lane of keys. They belong to the goroutine of the task.
type keyQueues struct {
	lanes []*keyQueue          // with Options.Lanes
	keys  map[string]*keyQueue // else; only those that have records
	spare []*keyQueue          // for keys to come
	pages []*pageItems         // all that are not done
	count int                  // records in pages, without those done in front
	bytes int                  // their sizes
}

// newKeyQueues returns queues by lane, or by key if there are no lanes.
func newKeyQueues(lanes int) keyQueues {
	qs := keyQueues{keys: map[string]*keyQueue{}}
	for i := range lanes {
		qs.lanes = append(qs.lanes, &keyQueue{key: fmt.Sprintf("lane %d", i), attempt: 1})
	}
	return qs
}

// clear drops all records.
func (qs *keyQueues) clear() {
	*qs = newKeyQueues(len(qs.lanes))
}

// add takes the records of a chunk over and calls begin with each queue that
// had none, and is not busy.
func (qs *keyQueues) add(c *chunk, begin func(*keyQueue)) {
	page := &pageItems{piece: piece{records: c.records, end: c.next}, items: make([]item, len(c.records))}
	qs.pages = append(qs.pages, page)
	qs.count += len(c.records)
	for i := range c.records {
		rec, it := &c.records[i], &page.items[i]
		it.page, it.index, it.size = page, int32(i), int32(rec.Size())
		qs.bytes += int(it.size)
		q := qs.of(rec)
		q.push(it)
		if !q.busy {
			q.busy = true
			begin(q)
		}
	}
}

// of returns the queue of a record: that of its key, or with Options.Lanes that
// of the lane that the hash of its key selects.
func (qs *keyQueues) of(rec *shardlog.Record) *keyQueue {
	if len(qs.lanes) > 0 {
		h := uint32(2166136261) // FNV-1a
		for i := range len(rec.PartitionKey) {
			h = (h ^ uint32(rec.PartitionKey[i])) * 16777619
		}
		return qs.lanes[h%uint32(len(qs.lanes))]
	}
	q := qs.keys[rec.PartitionKey]
	if q == nil {
		if n := len(qs.spare); n > 0 {
			q, qs.spare = qs.spare[n-1], qs.spare[:n-1]
		} else {
			q = new(keyQueue)
		}
		*q = keyQueue{key: rec.PartitionKey, attempt: 1}
		qs.keys[q.key] = q
	}
	return q
}

// release ends the use of a queue without records.
func (qs *keyQueues) release(q *keyQueue) {
	q.busy, q.attempt, q.limit = false, 1, 0
	if len(qs.lanes) == 0 {
		delete(qs.keys, q.key)
		q.key = "" // it is in the memory of a page
		qs.spare = append(qs.spare, q)
	}
}

// empty reports whether everything is done.
func (qs *keyQueues) empty() bool { return len(qs.pages) == 0 }

// takeDone removes the records up to the first that is not done, and returns
// the position after them; ok is false if there are none.
func (qs *keyQueues) takeDone() (end shardlog.Position, ok bool) {
	for len(qs.pages) > 0 {
		p := qs.pages[0]
		from := p.done
		for p.done < len(p.items) && p.items[p.done].done {
			qs.bytes -= int(p.items[p.done].size)
			p.done++
		}
		if qs.count -= p.done - from; p.done < len(p.items) {
			if p.done > from {
				end, ok = p.piece.after(p.done-1), true
			}
			break
		}
		end, ok = p.piece.end, true
		qs.pages[0] = nil
		qs.pages = qs.pages[1:]
	}
	return end, ok
}
