package producer

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// coreTest drives a core as a Producer does, step by step: it is the sink, the
// clock and the callers, and there is no goroutine.
type coreTest struct {
	*core
	t   *testing.T
	now int64
	seq uint64 // of stored records
}

// seconds and milliseconds in the unit of the core.
const (
	second = int64(time.Second)
	millis = int64(time.Millisecond)
)

func newCoreTest(t *testing.T, opts Options) *coreTest {
	t.Helper()
	o, err := resolve(anySink{}, &opts)
	require.NoError(t, err)
	conf := newConfig(anySink{}, o)
	c := newCore(&conf, time.Unix(1_000_000_000, 0))
	return &coreTest{core: &c, t: t, now: 1}
}

// anySink has every capability, and is never called.
type anySink struct{ shardlog.RequestSink }

func (anySink) Capabilities() shardlog.Capabilities {
	return shardlog.Capabilities{RefusesMisrouted: true, Idempotent: true, DedupID: true, KeyRanges: true, OrderedRequest: true, Headers: true}
}

// put enters a record whose result is kept in the entry's outcome.
func (c *coreTest) put(key, name string) *entry {
	c.t.Helper()
	in := prepared{size: len(key) + len(name), hash: uint64(len(key))<<32 | uint64(key[0])}
	r := shardlog.Record{PartitionKey: key, Data: []byte(name)}
	e, err := c.enter(&r, &in, c.mustWait(in.size, true, c.now), true, c.now)
	require.NoError(c.t, err)
	e.callback = func(Result, error) {}
	if e.state != awaitsRoom {
		c.onArrival(e.size, c.now)
	}
	return e
}

// send starts the senders that the core asks for, and returns the next request.
func (c *coreTest) send() *request {
	c.t.Helper()
	fresh := c.effects.senders > 0
	c.flight.starting -= c.effects.senders
	c.effects.senders = 0
	return c.nextRequest(fresh, c.now)
}

// answer completes a request: all its records are stored, except those at the
// indexes of errs.
func (c *coreTest) answer(b *request, errs map[int]error) failures {
	b.results = make([]shardlog.PutResult, b.size())
	for i := range b.results {
		c.seq++
		b.results[i] = shardlog.PutResult{ShardID: "s", Sequence: shardlog.NewSequenceNumber(1, 0, c.seq, 1), Err: errs[i]}
	}
	return c.complete(b, c.now)
}

// fail completes a request whose call returned err.
func (c *coreTest) fail(b *request, err error) failures {
	b.results, b.err = nil, err
	return c.complete(b, c.now)
}

func names(b *request) (names []string) {
	for i := range b.slots {
		for e := b.slots[i].first; e != nil; e = e.nextInSlot {
			names = append(names, string(e.data))
		}
	}
	return names
}

var errBusy = &shardlog.Error{Op: "put", Err: shardlog.ErrThroughputExceeded}

func TestCoreFromEntryToResult(t *testing.T) {
	c := newCoreTest(t, Options{})
	w := &waiter{ch: make(chan struct{}, 1), left: 1}
	w.out = w.one[:]
	e := c.put("k", "a")
	e.waiter, e.callback = w, nil
	assert.Equal(t, 1, c.effects.senders, "a sender is asked for, not started")
	assert.True(t, c.effects.timer, "for the TTL")
	assert.Equal(t, 1+30*second, c.sched.wakeAt)

	b := c.send()
	assert.Equal(t, []string{"a"}, names(b))
	assert.Equal(t, inRequest, e.state)
	assert.Zero(t, c.answer(b, nil))
	require.Same(t, w, c.effects.notify)
	require.NoError(t, w.one[0].err)
	assert.Equal(t, "s", w.one[0].res.ShardID)
	assert.Zero(t, c.buffer.records)
	assert.Zero(t, c.buffer.bytes)
	assert.Empty(t, c.keys.byHash)
	assert.Nil(t, c.send(), "nothing is left")
}

func TestCoreKeepsTheOrderOfAKey(t *testing.T) {
	c := newCoreTest(t, Options{})
	c.put("k", "1")
	b := c.send()
	c.put("k", "2")
	c.put("l", "3")
	c.now += int64(patience)
	c.startSender(c.now)
	require.Equal(t, 1, c.effects.senders)
	other := c.send()
	assert.Equal(t, []string{"3"}, names(other), "the key of 2 is in a request")
	c.put("k", "4")

	f := c.answer(b, map[int]error{0: errBusy})
	assert.Equal(t, 1, f.retried)
	assert.Nil(t, c.send(), "1 has a pause, and 2 and 4 wait for it")
	c.answer(other, nil)
	c.now += second
	next := c.send()
	assert.Equal(t, []string{"1", "2", "4"}, names(next))
	c.answer(next, nil)
	assert.Empty(t, c.keys.byHash)
	assert.Equal(t, 4, c.outbox.pending.n)
	var got []string
	for e := c.outbox.pending.head; e != nil; e = e.next {
		got = append(got, string(e.data))
	}
	assert.Equal(t, []string{"3", "1", "2", "4"}, got)
}

func TestCoreHoldsBackTheCallbackOfALaterRecord(t *testing.T) {
	c := newCoreTest(t, Options{})
	first, second := c.put("k", "1"), c.put("k", "2")
	b := c.send()
	require.Equal(t, []string{"1", "2"}, names(b))
	broken := &shardlog.InvalidError{Field: "Data"}
	c.answer(b, map[int]error{0: errBusy, 1: broken})
	assert.Equal(t, resultHeld, second.state)
	assert.Zero(t, c.outbox.pending.n)
	c.now += int64(3 * time.Second)
	c.answer(c.send(), nil)
	require.Equal(t, 1, c.outbox.pending.n)
	assert.Same(t, first, c.outbox.pending.head)
	assert.Nil(t, c.send(), "nothing is sent for it")
	require.Equal(t, 2, c.outbox.pending.n)
	require.ErrorIs(t, second.outcome.err, broken)
}

func TestCoreSchedule(t *testing.T) {
	c := newCoreTest(t, Options{Linger: time.Second, MaxBatchRecords: 3, TTL: -1})
	e := c.put("k", "1")
	assert.Zero(t, c.effects.senders)
	assert.Equal(t, e.born+second, c.sched.wakeAt, "the timer fires when the record has lingered")
	c.now = c.sched.wakeAt - 1
	c.onTimer(c.now)
	assert.Zero(t, c.effects.senders)
	assert.Equal(t, e.born+second, c.sched.wakeAt, "the timer that fired early is set again")
	c.put("l", "2")
	assert.Zero(t, c.effects.senders)
	c.put("m", "3")
	assert.Equal(t, 1, c.effects.senders, "a request is full")
	b := c.send()
	assert.Len(t, b.slots, 3)

	e = c.put("k", "4")
	c.flushThrough(e.seq)
	c.startSender(c.now)
	assert.Zero(t, c.effects.senders, "one is in flight")
	c.answer(b, nil)
	assert.Equal(t, []string{"4"}, names(c.send()), "does not linger")
}

func TestCoreExpires(t *testing.T) {
	c := newCoreTest(t, Options{TTL: 10 * time.Second})
	sent := c.put("k", "sent")
	b := c.send()
	c.now += second
	queued := c.put("k", "queued")
	c.now = sent.born + 10*second
	c.onTimer(c.now)
	require.ErrorIs(t, sent.outcome.err, shardlog.ErrUnknownOutcome)
	assert.Equal(t, decided, sent.state)
	assert.NotEqual(t, decided, queued.state)
	c.now = queued.born + 10*second
	c.onTimer(c.now)
	require.ErrorIs(t, queued.outcome.err, ErrTTLExpired)
	require.NotErrorIs(t, queued.outcome.err, shardlog.ErrUnknownOutcome)
	c.answer(b, nil)
	assert.EqualValues(t, 2, c.stats.expired)
	assert.Nil(t, c.send(), "an expired record is not sent")
}

func TestCoreBoundsTheBuffer(t *testing.T) {
	c := newCoreTest(t, Options{BufferRecords: 2, BufferBytes: 100, MaxRecordSize: 50})
	a := c.put("k", "a")
	c.put("k", "b")
	b := c.send()
	third := c.put("k", "c")
	assert.Equal(t, awaitsRoom, third.state)
	in := prepared{size: 2}
	_, err := c.enter(&shardlog.Record{PartitionKey: "k"}, &in, c.mustWait(2, false, c.now), false, c.now)
	require.ErrorIs(t, err, ErrBufferFull)
	c.answer(b, nil)
	c.admitWaiting(c.now)
	assert.Equal(t, awaitsRoom, third.state, "the callbacks of the others have not returned")
	c.outbox.pending.cut(1)
	c.freeEntry(a)
	c.admitWaiting(c.now)
	assert.Zero(t, c.buffer.waiting.n)
	assert.Equal(t, 1, c.buffer.pages.n)
	assert.Equal(t, 2, c.buffer.records)
}

func TestCoreResendsWhatIsInDoubt(t *testing.T) {
	c := newCoreTest(t, Options{ID: "p"})
	c.flight.epoch = 1
	c.put("k", "1")
	c.put("l", "2")
	b := c.send()
	numbers := []uint64{b.slots[0].number, b.slots[1].number}
	c.put("k", "3")
	c.fail(b, fmt.Errorf("lost: %w", shardlog.ErrUnknownOutcome))
	assert.Len(t, c.flight.inDoubt, 1)
	assert.EqualValues(t, 0, c.flight.numbers.doneBelow)
	assert.Nil(t, c.send(), "the key of 3 is in doubt")

	c.now += second
	again := c.send()
	require.Same(t, b, again)
	assert.Equal(t, []string{"1", "2"}, names(again))
	assert.Equal(t, numbers, []uint64{b.slots[0].number, b.slots[1].number})
	assert.Equal(t, 2, again.sends)
	c.answer(again, nil)
	assert.EqualValues(t, 2, c.flight.numbers.doneBelow)
	assert.Equal(t, []string{"3"}, names(c.send()))
}

func TestCoreDropsWhatIsInDoubtWhenNobodyWaits(t *testing.T) {
	c := newCoreTest(t, Options{ID: "p", TTL: 5 * time.Second, Retry: Retry{Initial: time.Hour, Max: time.Hour}})
	c.flight.epoch = 1
	e := c.put("k", "1")
	c.fail(c.send(), shardlog.ErrUnknownOutcome)
	c.now += 5 * second
	c.onTimer(c.now)
	require.ErrorIs(t, e.outcome.err, shardlog.ErrUnknownOutcome)
	assert.Empty(t, c.flight.inDoubt)
	assert.Empty(t, c.keys.byHash)
	assert.EqualValues(t, 1, c.flight.numbers.doneBelow)
}

func TestCoreFenced(t *testing.T) {
	c := newCoreTest(t, Options{ID: "p"})
	c.flight.epoch = 1
	c.put("k", "1")
	b := c.send()
	waiting := c.put("k", "2")
	f := c.fail(b, shardlog.ErrFenced)
	assert.True(t, f.fenced)
	require.ErrorIs(t, waiting.outcome.err, shardlog.ErrFenced)
	in := prepared{size: 2}
	_, err := c.enter(&shardlog.Record{PartitionKey: "k"}, &in, false, true, c.now)
	require.ErrorIs(t, err, shardlog.ErrFenced)
	assert.Zero(t, c.buffer.undecided)
}

func TestCoreCloseSaysWhatIsInDoubt(t *testing.T) {
	c := newCoreTest(t, Options{MaxInFlight: 1})
	c.put("a", "refused")
	c.answer(c.send(), map[int]error{0: &shardlog.Error{Err: shardlog.ErrThroughputExceeded, RetryAfter: time.Hour}})
	c.now += second
	sent := c.put("b", "sent")
	b := c.send()
	require.Equal(t, []string{"sent"}, names(b))
	cut := false
	b.cancel = func() { cut = true }
	c.put("b", "queued")
	left, inDoubt := c.closeNow(c.now)
	assert.Equal(t, 3, left)
	assert.Equal(t, 1, inDoubt)
	assert.True(t, cut, "nobody waits for the request any more")
	assert.True(t, c.effects.cancel)
	assert.False(t, c.effects.finished, "the request has not returned, and callbacks wait")
	require.ErrorIs(t, sent.outcome.err, shardlog.ErrUnknownOutcome)
	left, inDoubt = c.closeNow(c.now)
	assert.Zero(t, left+inDoubt)
}

func TestCoreEndsOnce(t *testing.T) {
	c := newCoreTest(t, Options{})
	c.drain()
	c.advance(c.now)
	assert.True(t, c.effects.finished)
	assert.True(t, c.effects.cancel)
	c.effects = effects{}
	c.advance(c.now)
	_, _ = c.closeNow(c.now)
	assert.False(t, c.effects.finished)
}

func TestCoreFindsAnInvalidRecordByHalving(t *testing.T) {
	c := newCoreTest(t, Options{MaxAttempts: 1})
	var entries []*entry
	for i := range 8 {
		entries = append(entries, c.put(string(rune('a'+i)), fmt.Sprint(i)))
	}
	calls := 0
	for b := c.send(); b != nil; b = c.send() {
		calls++
		bad := false
		for _, n := range names(b) {
			bad = bad || n == "5"
		}
		if bad {
			c.fail(b, shardlog.ErrInvalid)
		} else {
			c.answer(b, nil)
		}
	}
	for i, e := range entries {
		if i == 5 {
			require.ErrorIs(t, e.outcome.err, shardlog.ErrInvalid)
		} else {
			require.NoError(t, e.outcome.err, i)
		}
	}
	assert.Less(t, calls, 10)
}

func TestVerdicts(t *testing.T) {
	c := newCoreTest(t, Options{Keyless: true})
	for name, tt := range map[string]struct {
		err      error
		timedOut bool
		want     verdict // without err
	}{
		"busy":        {err: errBusy, want: verdict{retry: true, cause: causeThroughput}},
		"invalid":     {err: shardlog.ErrInvalid, want: verdict{cause: causeInvalid}},
		"lost":        {err: shardlog.ErrUnknownOutcome, want: verdict{retry: true, unknown: true, cause: causeUnknown}},
		"moved":       {err: shardlog.ErrShardClosed, want: verdict{retry: true, cause: causeShardClosed}},
		"panic":       {err: both(shardlog.ErrUnknownOutcome, &PanicError{Value: "x"}), want: verdict{unknown: true, cause: causePanic}},
		"cut off":     {err: context.Canceled, timedOut: true, want: verdict{retry: true, unknown: true, cause: causeTimeout}},
		"other panic": {err: errExited, want: verdict{cause: causePanic}},
	} {
		x := &completion{core: c.core, b: &request{timedOut: tt.timedOut}}
		got := x.classify(tt.err)
		require.ErrorIs(t, got.err, errors.Unwrap(fmt.Errorf("%w", got.err)), name)
		got.err = nil
		assert.Equal(t, tt.want, got, name)
	}
}

// A sink that usually answers fast gets a second request only when one takes
// unusually long.
func TestSecondRequestWaitsForWhatIsUnusual(t *testing.T) {
	c := newCoreTest(t, Options{MaxBatchRecords: 1})
	second := func() (after int64) {
		c.put("k", "1")
		b := c.send()
		c.put("l", "2")
		for c.startSender(c.now); c.effects.senders == 0; c.startSender(c.now) {
			c.now += millis / 4
			after += millis / 4
		}
		other := c.send()
		b.duration, other.duration = time.Duration(after), time.Duration(after)
		c.answer(b, nil)
		c.answer(other, nil)
		c.deliverAll()       // else writers wait for that
		c.flight.senders = 0 // they have ended
		return after
	}
	assert.Equal(t, millis, second())
	for range 10 {
		c.put("k", "fast")
		b := c.send()
		b.duration = 0
		c.answer(b, nil)
		c.deliverAll() // else writers wait for that
		c.flight.senders = 0
	}
	assert.Equal(t, int64(patience), second())
	assert.Equal(t, millis, second(), "it has become slow")
}
