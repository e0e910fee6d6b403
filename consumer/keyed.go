package consumer

import (
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
)

// window is how many batches of records may be under way, or wait for another
// record of their key, above the first one that is not done (Options.PerKey).
const window = 4

// item is a record that is under way.
type item struct {
	rec  shardlog.Record
	end  shardlog.Position // after it, and after what was filtered out behind it
	size int
	done bool
}

// keyQueue has the records of one partition key that are not done, in order.
type keyQueue struct {
	key      string
	items    []*item
	attempt  int
	limit    int // of the next batch, after a division; 0 is none
	notUntil time.Time
	busy     bool // a call is under way, or it waits for one
}

// keyed delivers the records of one shard with one call of the handler for each
// key, or each lane of keys, at a time, and several at a time for the shard. It
// is used by the goroutine of the task; a call of the handler has a goroutine
// of its own.
type keyed struct {
	t       *task
	calls   int      // how many may be under way
	lanes   []string // their names with Options.Lanes, else none
	items   []*item  // all that are not done, and done ones above them
	bytes   int
	queues  map[string]*keyQueue
	ready   []*keyQueue
	waiting map[*keyQueue]struct{} // for their next attempt
	running int
	results chan keyResult
	last    *chunk // the end of the shard, when that was read
	behind  time.Duration
	records int64
	err     error
}

// keyResult is the end of a call.
type keyResult struct {
	q     *keyQueue
	n     int // records that are done
	size  int // of the batch
	pause time.Duration
	halve bool
	err   error // ends the task
}

// workKeyed is work with Options.PerKey.
func (t *task) workKeyed() (end *chunk, err error) {
	k := &keyed{t: t, calls: max(t.r.o.PerKey, t.r.o.Lanes), queues: map[string]*keyQueue{}, waiting: map[*keyQueue]struct{}{}, results: make(chan keyResult)}
	for i := range t.r.o.Lanes {
		if t.r.o.Lanes > 1 {
			k.lanes = append(k.lanes, fmt.Sprintf("lane %d", i))
		}
	}
	defer func() {
		if err != nil {
			// What the calls wait for, such as dead letters that fail, must not
			// keep the error from being reported.
			t.stopReading(err)
		}
		k.finish()
	}()
	for t.reading.Err() == nil && k.err == nil {
		t.change = t.r.pauses.changed()
		if k.running == 0 && (len(k.items) == 0 || t.r.pauses.seeking(t.duty)) {
			before := t.seeks
			if again, err := t.answerRequests(); err != nil || !again {
				return nil, err
			}
			if t.seeks != before {
				k.forget()
			}
		}
		k.dispatch()
		if err := k.wait(); err != nil {
			return nil, err
		}
		if len(k.items) == 0 && k.last != nil {
			return k.last, nil
		}
		if t.due() <= 0 {
			if err := t.save(); err != nil {
				return nil, err
			}
		}
	}
	return nil, k.err
}

// finish waits for the calls that are under way, which the contexts of the task
// may end, and counts what they did.
func (k *keyed) finish() {
	for k.running > 0 {
		k.recordResult(<-k.results)
	}
}

// forget drops what waits for a call, after a Seek.
func (k *keyed) forget() {
	k.items, k.bytes, k.ready, k.last = nil, 0, nil, nil
	clear(k.queues)
	clear(k.waiting)
}

// full reports whether no more is to be read now. Neither is it while the shard
// is paused, or when a Seek waits for everything to be done.
func (k *keyed) full() bool {
	o := k.t.r.o
	return k.last != nil || len(k.items) >= window*o.MaxBatchRecords || k.bytes >= window*o.MaxBatchBytes || k.t.r.pauses.wants(k.t.duty)
}

// wait waits for anything to happen.
func (k *keyed) wait() error {
	t := k.t
	chunks := t.fetch.chunks
	if k.full() {
		chunks = nil
	}
	var alarm <-chan time.Time
	if d, ok := k.nextTime(); ok {
		timer := time.NewTimer(max(d, 0))
		defer timer.Stop()
		alarm = timer.C
	}
	select {
	case c := <-chunks:
		t.fetch.noteTaken(c)
		if c.err != nil {
			return c.err
		}
		k.add(c)
	case r := <-k.results:
		k.recordResult(r)
	case <-alarm:
	case <-t.change:
	case <-t.reading.Done():
	}
	return nil
}

// nextTime is how long until the next attempt of a key, or until the
// checkpoint is due.
func (k *keyed) nextTime() (d time.Duration, ok bool) {
	for q := range k.waiting {
		if left := time.Until(q.notUntil); !ok || left < d {
			d, ok = left, true
		}
	}
	if k.t.dirty() && (!ok || k.t.due() < d) {
		d, ok = k.t.due(), true
	}
	return d, ok
}

// add takes a chunk over.
func (k *keyed) add(c *chunk) {
	k.behind, k.records = c.behind, c.behindRecords
	p := piece{records: c.records, end: c.next}
	for i := range c.records {
		it := &item{rec: c.records[i], end: p.after(i), size: c.records[i].Size()}
		k.items = append(k.items, it)
		k.bytes += it.size
		name := k.queueOf(&it.rec)
		q := k.queues[name]
		if q == nil {
			q = &keyQueue{key: name, attempt: 1}
			k.queues[q.key] = q
		}
		q.items = append(q.items, it)
		if !q.busy {
			q.busy = true
			k.ready = append(k.ready, q)
		}
	}
	if len(c.records) == 0 && !c.none {
		k.items = append(k.items, &item{end: c.next, done: true})
		k.advanceDone()
	}
	if c.end {
		k.last = c
	}
}

// queueOf names the queue of a record: its key, or with Options.Lanes the lane
// that the hash of its key selects.
func (k *keyed) queueOf(rec *shardlog.Record) string {
	if len(k.lanes) == 0 {
		return rec.PartitionKey
	}
	h := uint32(2166136261) // FNV-1a
	for _, c := range []byte(rec.PartitionKey) {
		h = (h ^ uint32(c)) * 16777619
	}
	return k.lanes[h%uint32(len(k.lanes))]
}

// fitting is how many of the first items are no larger together than a batch,
// at least one.
func fitting(items []*item, most int) int {
	size := 0
	for i, it := range items {
		if size += it.size; size > most && i > 0 {
			return i
		}
	}
	return len(items)
}

// dispatch starts as many calls as there may be.
func (k *keyed) dispatch() {
	now := time.Now()
	for q := range k.waiting {
		if !now.Before(q.notUntil) {
			delete(k.waiting, q)
			k.ready = append(k.ready, q)
		}
	}
	for k.running < k.calls && len(k.ready) > 0 && !k.t.r.pauses.wants(k.t.duty) && k.t.r.assigner.Valid() {
		q := k.ready[0]
		k.ready = k.ready[1:]
		n := min(len(q.items), k.t.r.o.MaxBatchRecords)
		if q.limit > 0 {
			n = min(n, q.limit)
		}
		n = fitting(q.items[:n], k.t.r.o.MaxBatchBytes)
		p := &piece{behind: k.behind, behindRecords: k.records}
		for _, it := range q.items[:n] {
			p.records = append(p.records, it.rec)
		}
		p.end = q.items[n-1].end
		b := k.t.newBatch(p, q.attempt)
		b.keyed = true
		k.running++
		go k.call(q, b)
	}
}

// call makes one call of the handler and decides what follows.
func (k *keyed) call(q *keyQueue, b *Batch) {
	t := k.t
	defer t.r.goroutines.Leave(t.r.goroutines.Enter())
	res := keyResult{q: q, size: len(b.Records), err: errGoexit}
	defer func() { k.results <- res }()
	n, err := t.handle(b)
	res.n, res.err = n, nil
	t.recordCall(n, sizeOf(b.Records[:n]), err, false)
	if err == nil || n == len(b.Records) || errors.Is(err, errNotAcknowledged) {
		return
	}
	cur := &piece{records: b.Records[n:], end: b.piece.end}
	var partial *PartialError
	single := errors.As(err, &partial) && partial.Index >= 0 && partial.Index < len(b.Records) || len(cur.records) == 1
	kind, poison := EventHandlerFailed, 0
	switch {
	case t.r.o.Bisect && !single:
		kind, res.halve = EventBisected, true
	default:
		if poison = t.countPoison(b, cur, err, single); poison == 0 {
			res.pause = t.r.o.backoff().Pause(b.Attempt, nil)
		}
	}
	t.r.emit(Event{Kind: kind, ShardID: t.id, Epoch: t.epoch, Position: shardlog.At(cur.records[0].Sequence), Attempt: b.Attempt, Wait: res.pause, Err: err})
	if poison > 0 {
		var buried int
		buried, res.err = t.bury(b, cur, poison, err)
		res.n += buried
	} else if !res.halve {
		t.r.block(t.id, t.epoch, fmt.Sprintf("handler, key %q, attempt %d: %v", q.key, b.Attempt, err))
	}
}

// bury gives the first n records to the dead letters and returns how many they
// took before reading was stopped.
func (t *task) bury(b *Batch, cur *piece, n int, cause error) (buried int, err error) {
	for i := range n {
		taken, err := t.toDeadLetters(cur.records[i], b.Attempt, cause)
		if err != nil || !taken {
			return buried, err
		}
		buried++
	}
	return buried, nil
}

// recordResult counts the end of a call.
func (k *keyed) recordResult(r keyResult) {
	k.running--
	q := r.q
	for _, it := range q.items[:r.n] {
		it.done = true
	}
	q.items = q.items[r.n:]
	k.advanceDone()
	switch {
	case r.err != nil:
		k.err = r.err
		return
	case r.halve:
		// Half of the batch, which may be smaller than the queue and the limit.
		q.limit = max(1, r.size/2)
	case r.n == 0:
		q.attempt++
	default:
		q.attempt = 1
		if r.pause == 0 {
			q.limit *= 2
		} else {
			q.attempt = 2 // of the record that failed, which is the first now
		}
	}
	if len(k.waiting) == 0 && r.pause == 0 {
		k.t.r.block(k.t.id, k.t.epoch, "")
	}
	switch {
	case len(q.items) == 0:
		delete(k.queues, q.key)
	case r.pause > 0:
		q.notUntil = time.Now().Add(r.pause)
		k.waiting[q] = struct{}{}
	default:
		k.ready = append(k.ready, q)
	}
}

// advanceDone moves the checkpoint up to the first record that is not done.
func (k *keyed) advanceDone() {
	var end shardlog.Position
	n := 0
	for ; n < len(k.items) && k.items[n].done; n++ {
		k.bytes -= k.items[n].size
		end = k.items[n].end
		k.items[n] = nil
	}
	if n > 0 {
		k.items = k.items[n:]
		k.t.advance(end) // once, because it takes a lock
	}
}
