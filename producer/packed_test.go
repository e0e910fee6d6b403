package producer

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// arrive takes in a record that may be in a page, as Producer.enterLocked does.
func (c *coreTest) arrive(key, name string, to recipient) {
	c.t.Helper()
	require.True(c.t, c.packs())
	c.pack(key, []byte(name), copied, shardlog.HashKey{}, to, c.now)
	c.onArrival(len(key)+len(name), c.now)
}

// sent returns the data of what a request gives the sink.
func (c *coreTest) sent(b *request) (data []string) {
	b.encode(c.conf)
	for i := range b.records {
		data = append(data, string(b.records[i].Data))
	}
	return data
}

// deliverAll calls the callbacks that wait, one at a time.
func (c *coreTest) deliverAll() {
	for d := c.outbox.cut(1); !d.isEmpty(); d = c.outbox.cut(1) {
		for callback, res, err := d.take(); callback != nil; callback, res, err = d.take() {
			callback(res, err)
		}
		c.freeDelivered(&d)
	}
}

// inOrder returns a function that makes callbacks, which collect names.
func inOrder(order *[]string) func(name string) recipient {
	return func(name string) recipient {
		return recipient{callback: func(_ Result, err error) {
			if err != nil {
				name += ": " + err.Error()
			}
			*order = append(*order, name)
		}}
	}
}

func newTestWaiter(n int) *waiter {
	return &waiter{ch: make(chan struct{}, 1), left: n, out: make([]outcome, n), entries: make([]*entry, n)}
}

func TestPageFromArrivalToResult(t *testing.T) {
	c := newCoreTest(t, Options{})
	var order []string
	to, w := inOrder(&order), newTestWaiter(1)
	c.arrive("k", "1", to("1"))
	c.arrive("l", "2", recipient{waiter: w})
	c.arrive("k", "3", recipient{})
	c.arrive("m", "4", to("4"))
	f := c.addFlush(false)
	assert.Equal(t, 4, c.buffer.records)
	assert.EqualValues(t, 8, c.buffer.bytes)
	assert.Nil(t, c.buffer.age.oldest, "there is no entry")
	assert.EqualValues(t, 1, c.oldestBorn())

	c.now = 5
	b := c.send()
	pg := b.page
	assert.Equal(t, []string{"1", "2", "3", "4"}, c.sent(b))
	assert.EqualValues(t, 16, c.stats.buffering.Sum)
	c.answer(b, nil)
	assert.Empty(t, c.keys.byHash)
	assert.Nil(t, c.buffer.age.oldest)
	assert.Zero(t, c.buffer.undecided)
	require.Same(t, w, c.effects.notify)
	assert.EqualValues(t, 2, counterIn(w.out[0].res))
	assert.Equal(t, 1, w.out[0].res.Sends)
	assert.Len(t, w.out[0].res.Attempts, 1)
	assert.Equal(t, 2, c.buffer.records, "those with a callback")
	assert.Equal(t, 4, c.outbox.waiting())
	assert.Nil(t, c.buffer.freePages)
	assert.EqualValues(t, 4, c.stats.put)
	assert.EqualValues(t, 4, c.stats.stored)
	assert.EqualValues(t, 4, c.stats.recordsPerSlot.Sum)
	assert.False(t, isClosed(f.ch))
	c.deliverAll()
	assert.Equal(t, []string{"1", "4"}, order)
	assert.Zero(t, c.buffer.records)
	assert.Zero(t, c.buffer.bytes)
	assert.True(t, isClosed(f.ch))
	assert.Same(t, pg, c.buffer.freePages, "it is used again")
	assert.Nil(t, pg.items[:1][0].callback, "and refers to nothing meanwhile")
	assert.Nil(t, c.send())
}

func counterIn(r Result) uint64 {
	n, _ := r.Sequence.Counter()
	return n
}

func TestPagesAreRequests(t *testing.T) {
	c := newCoreTest(t, Options{MaxBatchRecords: 3, MaxBatchBytes: 100, MaxRecordSize: 100})
	for _, name := range []string{"1", "2", "3", "4", fmt.Sprintf("%98d", 5), fmt.Sprintf("%99d", 6)} {
		c.arrive("k", name, recipient{})
	}
	var sizes []int
	for b := c.send(); b != nil; b = c.send() {
		sizes = append(sizes, b.size())
		require.Len(t, c.sent(b), b.size())
		c.answer(b, nil)
		c.flushThrough(1 << 40)
	}
	assert.Equal(t, []int{3, 1, 1, 1}, sizes)
	assert.Zero(t, c.buffer.records)
	assert.Zero(t, c.buffer.pages)
}

func TestRefusedRecordOfAPage(t *testing.T) {
	c := newCoreTest(t, Options{})
	var order []string
	to := inOrder(&order)
	c.arrive("k", "1", to("1"))
	c.arrive("l", "2", to("2"))
	b := c.send()
	pg := b.page
	assert.Equal(t, []string{"1", "2"}, c.sent(b))
	c.arrive("k", "3", to("3"))
	c.arrive("m", "4", to("4"))
	f := c.answer(b, map[int]error{0: errBusy})
	assert.Equal(t, 1, f.retried)
	other := c.send()
	assert.Equal(t, []string{"4"}, c.sent(other), "3 waits for 1")
	c.answer(other, nil)
	assert.False(t, c.packs(), "a key waits")
	c.now += second
	again := c.send()
	assert.Equal(t, []string{"1", "3"}, c.sent(again))
	c.answer(again, nil)
	assert.Equal(t, 4, c.buffer.records)
	c.deliverAll()
	assert.Equal(t, []string{"2", "4", "1", "3"}, order)
	assert.Zero(t, c.buffer.records)
	assert.NotSame(t, pg, c.buffer.freePages, "entries had their data in it")
	assert.True(t, c.packs())
}

// What the sink may still read is not used again.
func TestPageThatTheSinkKeeps(t *testing.T) {
	c := newCoreTest(t, Options{})
	c.arrive("k", "1", recipient{callback: func(Result, error) {}})
	b := c.send()
	b.encode(c.conf)
	b.leaveToSink()
	c.answer(b, nil)
	c.deliverAll()
	assert.Zero(t, c.buffer.records)
	assert.Nil(t, c.buffer.freePages)
}

// A second request in flight needs to know the keys of the first.
func TestSecondRequestUnpacksTheFirst(t *testing.T) {
	c := newCoreTest(t, Options{})
	c.arrive("k", "1", recipient{})
	b := c.send()
	c.arrive("k", "2", recipient{})
	c.arrive("l", "3", recipient{})
	c.now += int64(patience)
	c.startSender(c.now)
	other := c.send()
	assert.Equal(t, []string{"3"}, c.sent(other))
	assert.Equal(t, []string{"1"}, c.sent(b), "its sender sees no difference")
	assert.Equal(t, 1, b.userRecords())
	c.answer(b, nil)
	c.answer(other, nil)
	c.now += int64(stagger)
	b = c.send()
	assert.Equal(t, []string{"2"}, c.sent(b))
	c.answer(b, nil)
	assert.Zero(t, c.buffer.records)
}

// A record that cannot be in a page follows those that are.
func TestEntryBehindPages(t *testing.T) {
	c := newCoreTest(t, Options{MaxBatchRecords: 2})
	for _, name := range []string{"1", "2", "3"} {
		c.arrive("k", name, recipient{})
	}
	b := c.send()
	c.put("k", "4")
	assert.Zero(t, c.buffer.pages.n)
	var age []uint64
	for e := c.buffer.age.oldest; e != nil; e = e.younger {
		age = append(age, e.seq)
	}
	assert.Equal(t, []uint64{1, 2, 3, 4}, age)
	c.arrive("k", "5", recipient{})
	assert.Equal(t, 2, c.buffer.ready.n)
	assert.Equal(t, 1, c.buffer.pages.n)
	c.answer(b, nil)
	b = c.send()
	assert.Equal(t, []string{"3", "4"}, c.sent(b))
	assert.Equal(t, 1, c.buffer.pages.n, "waits for those before")
	c.answer(b, nil)
	b = c.send()
	assert.True(t, b.isPacked())
	assert.Equal(t, []string{"5"}, c.sent(b))
	c.answer(b, nil)
	c.deliverAll()
	assert.Zero(t, c.buffer.records)
}

func TestCallbacksOfPagesAndEntriesAreInOrder(t *testing.T) {
	c := newCoreTest(t, Options{})
	var order []string
	to := inOrder(&order)
	c.arrive("k", "1", to("1"))
	c.answer(c.send(), nil)
	require.Equal(t, 1, c.outbox.pages.n)
	e := c.put("k", "2")
	e.recipient = to("2")
	c.answer(c.send(), nil)
	require.Equal(t, 1, c.outbox.pending.n)
	c.arrive("k", "3", to("3"))
	c.arrive("k", "none", recipient{})
	c.answer(c.send(), nil)
	assert.Equal(t, 1, c.outbox.pages.n)
	assert.Equal(t, 2, c.outbox.pending.n, "behind an entry")
	c.deliverAll()
	assert.Equal(t, []string{"1", "2", "3"}, order)
	assert.Zero(t, c.buffer.records)
}

func TestAbandonedRecordOfAPage(t *testing.T) {
	c := newCoreTest(t, Options{})
	atSink, ready := newTestWaiter(2), newTestWaiter(1)
	c.arrive("k", "1", recipient{waiter: atSink})
	c.arrive("l", "2", recipient{waiter: atSink, outIndex: 1})
	b := c.send()
	cut := false
	b.cancel = func() { cut = true }
	c.arrive("k", "3", recipient{waiter: ready})
	c.abandonAll(ready, errStopped)
	require.ErrorIs(t, ready.out[0].err, errStopped)
	require.NotErrorIs(t, ready.out[0].err, shardlog.ErrUnknownOutcome)
	assert.False(t, cut)
	c.abandonAll(atSink, errStopped)
	for _, out := range atSink.out {
		require.ErrorIs(t, out.err, errStopped)
		require.ErrorIs(t, out.err, shardlog.ErrUnknownOutcome)
	}
	assert.True(t, cut, "nobody waits for the request any more")
	c.answer(b, nil)
	assert.Zero(t, c.buffer.records)
	assert.Zero(t, c.buffer.undecided)
	assert.Nil(t, c.send())
}

var errStopped = fmt.Errorf("stopped waiting")

func TestPagesExpireAndEnd(t *testing.T) {
	c := newCoreTest(t, Options{TTL: 10 * 1e9})
	var order []string
	to := inOrder(&order)
	c.arrive("k", "1", to("1"))
	b := c.send()
	c.now += second
	c.arrive("k", "2", to("2"))
	c.now += second
	c.arrive("k", "3", to("3"))
	assert.Equal(t, 2*second, int64(c.snapshot(c.now).OldestAge))
	c.onTimer(1 + 11*second)
	assert.EqualValues(t, 2, c.stats.expired)
	assert.Equal(t, 1, c.buffer.undecided)
	left, inDoubt := c.closeNow(c.now)
	assert.Equal(t, 1, left)
	assert.Zero(t, inDoubt)
	c.answer(b, nil)
	c.deliverAll()
	require.Len(t, order, 3)
	assert.Contains(t, order[0], "1: ")
	assert.Contains(t, order[0], "outcome")
	assert.Contains(t, order[2], "closed")
	assert.Zero(t, c.buffer.records)
}

// An entry that waited for room becomes a part of a page, with the hash key that
// it was given.
func TestWaitingRecordIsPacked(t *testing.T) {
	c := newCoreTest(t, Options{BufferRecords: 1})
	c.arrive("k", "1", recipient{})
	b := c.send()
	in := prepared{size: 2, explicit: true}
	r := shardlog.Record{PartitionKey: "k", Data: []byte("2"), ExplicitHashKey: shardlog.MaxHashKey}
	e, err := c.enter(&r, &in, true, true, c.now)
	require.NoError(t, err)
	admit := make(chan error, 1)
	e.admit = admit
	c.answer(b, nil)
	c.advance(c.now)
	require.NoError(t, <-admit)
	b = c.send()
	require.True(t, b.isPacked())
	assert.Equal(t, []string{"2"}, c.sent(b))
	assert.Equal(t, shardlog.MaxHashKey, b.records[0].ExplicitHashKey)
	c.answer(b, nil)
	assert.Zero(t, c.buffer.bytes)
}

func TestPageMemory(t *testing.T) {
	var m memory
	pg := m.newPage()
	own := []byte("own")
	pg.add("a", own, asItIs, shardlog.HashKey{}, recipient{}, 1)
	assert.Same(t, &own[0], &pg.items[0].data()[0])
	for i := range 2000 { // the slab is replaced meanwhile
		pg.add("b", []byte(fmt.Sprintf("%04d", i)), copied, shardlog.HashKey{}, recipient{}, 1)
	}
	pg.add("c", nil, copied, shardlog.MaxHashKey, recipient{}, 1)
	for i := range 2000 {
		require.Equal(t, fmt.Sprintf("%04d", i), string(pg.items[1+i].data()))
		require.Equal(t, 4, cap(pg.items[1+i].data()), "an append does not reach the next one's data")
	}
	assert.False(t, pg.hashKey(0).IsSet())
	assert.Equal(t, shardlog.MaxHashKey, pg.hashKey(2001))
	assert.Equal(t, 1+3+2000*5+1, pg.bytes)
	m.recyclePage(pg)
	assert.GreaterOrEqual(t, m.items, 2002)
	assert.GreaterOrEqual(t, m.slabs, 4000)
	require.Same(t, pg, m.newPage())
	assert.Zero(t, m.items+m.slabs)
	assert.Empty(t, pg.items)
	assert.False(t, pg.hashKey(0).IsSet())
	m.recyclePage(pg)
	m.drop()
	assert.True(t, m.keepsLittle())
	assert.Nil(t, m.freePages)
}
