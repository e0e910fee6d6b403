package consumer

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
)

// window is how many batches of records may be under way, or wait for another
// record of their key, above the first one that is not done (Options.PerKey).
const window = 4

// keyed delivers the records of one shard with one call of the handler for each
// key, or each lane of keys, at a time, and several at a time for the shard. It
// is used by the goroutine of the task; the calls of the handler are made by
// goroutines that take them from jobs.
type keyed struct {
	t       *task
	queues  keyQueues
	ready   []*keyQueue
	waiting map[*keyQueue]struct{} // for their next attempt
	calls   int                    // how many may be under way
	running int                    // how many are
	jobs    chan keyJob
	results chan keyResult
	workers int // goroutines that take from jobs
	pool    sync.WaitGroup
	last    *chunk // the end of the shard, when that was read
	behind  time.Duration
	records int64
	err     error
}

// keyJob is a call that is to be made.
type keyJob struct {
	q *keyQueue
	b *Batch
}

// keyResult is the end of a call.
type keyResult struct {
	q     *keyQueue
	n     int // records that are done
	size  int // of the batch
	pause time.Duration
	halve bool
	err   error // ends the task
	gone  bool  // the handler has ended the goroutine
}

// workKeyed is work with Options.PerKey.
func (t *task) workKeyed() (end *chunk, err error) {
	calls, lanes := max(t.r.o.PerKey, t.r.o.Lanes), t.r.o.Lanes
	if lanes == 1 {
		lanes = 0 // PerKey decides
	}
	k := &keyed{
		t: t, queues: newKeyQueues(lanes), waiting: map[*keyQueue]struct{}{},
		calls: calls, jobs: make(chan keyJob, calls), results: make(chan keyResult, calls),
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
		if k.running == 0 && (k.queues.empty() || t.r.pauses.seeking(t.duty)) {
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
		if k.queues.empty() && k.last != nil {
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
	close(k.jobs)
	k.pool.Wait()
}

// forget drops what waits for a call, after a Seek.
func (k *keyed) forget() {
	k.queues.clear()
	k.ready, k.last = nil, nil
	clear(k.waiting)
}

// full reports whether no more is to be read now. Neither is it while the shard
// is paused, or when a Seek waits for everything to be done.
func (k *keyed) full() bool {
	o := k.t.r.o
	return k.last != nil || k.queues.count >= window*o.MaxBatchRecords || k.queues.bytes >= window*o.MaxBatchBytes || k.t.r.pauses.wants(k.t.duty)
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
		k.recordOthers()
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
	if len(c.records) > 0 || !c.none {
		k.queues.add(c, func(q *keyQueue) { k.ready = append(k.ready, q) })
		k.advanceDone() // if all of it was filtered out
	}
	if c.end {
		k.last = c
	}
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
		most := k.t.r.o.MaxBatchRecords
		if q.limit > 0 {
			most = min(most, q.limit)
		}
		p := q.piece(most, k.t.r.o.MaxBatchBytes)
		p.behind, p.behindRecords = k.behind, k.records
		b := k.t.newBatch(p, q.attempt)
		b.keyed = true
		k.running++
		if k.running > k.workers {
			k.workers++
			k.pool.Go(k.work)
		}
		k.jobs <- keyJob{q, b} // has room for as many as there may be
	}
}

// work makes calls until there are no more.
func (k *keyed) work() {
	defer k.t.r.goroutines.Leave(k.t.r.goroutines.Enter())
	for j := range k.jobs {
		k.call(j.q, j.b)
	}
}

// call makes one call of the handler and sends what follows, also when the
// handler or another function of the user ends the goroutine.
func (k *keyed) call(q *keyQueue, b *Batch) {
	res := keyResult{q: q, size: len(b.piece.records), gone: true}
	defer func() {
		if res.gone {
			res.err = errGoexit
		}
		k.results <- res
	}()
	k.handle(q, b, &res)
	res.gone = false
}

// handle makes one call of the handler and decides what follows.
func (k *keyed) handle(q *keyQueue, b *Batch, res *keyResult) {
	t := k.t
	n, err := t.handle(b)
	res.n = n
	t.recordCall(n, sizeOf(b.piece.records[:n]), err, false)
	if err == nil || n == len(b.piece.records) || errors.Is(err, errNotAcknowledged) {
		return
	}
	cur := &piece{records: b.piece.records[n:], end: b.piece.end}
	var partial *PartialError
	single := errors.As(err, &partial) && partial.Index >= 0 && partial.Index < len(b.piece.records) || len(cur.records) == 1
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

// recordOthers counts the calls that have ended meanwhile: one checkpoint does
// for all of them.
func (k *keyed) recordOthers() {
	for k.err == nil {
		select {
		case r := <-k.results:
			k.recordResult(r)
		default:
			return
		}
	}
}

// recordResult counts the end of a call.
func (k *keyed) recordResult(r keyResult) {
	k.running--
	if r.gone {
		k.workers--
	}
	q := r.q
	q.finish(r.n)
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
	case q.length == 0:
		k.queues.release(q)
	case r.pause > 0:
		q.notUntil = time.Now().Add(r.pause)
		k.waiting[q] = struct{}{}
	default:
		k.ready = append(k.ready, q)
	}
}

// advanceDone moves the checkpoint up to the first record that is not done.
func (k *keyed) advanceDone() {
	if end, ok := k.queues.takeDone(); ok {
		k.t.advance(end) // once, because it takes a lock
	}
}
