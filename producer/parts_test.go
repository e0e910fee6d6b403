package producer

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

func TestNumbersWindow(t *testing.T) {
	var n numbers
	for i := range uint64(numberWindow) {
		require.False(t, n.exhausted())
		require.Equal(t, i, n.assign())
	}
	require.True(t, n.exhausted())
	n.retire(1)
	require.EqualValues(t, 0, n.doneBelow, "0 may be sent again")
	require.True(t, n.exhausted())
	n.retire(0)
	require.EqualValues(t, 2, n.doneBelow)
	for range 2 {
		n.assign()
	}
	require.True(t, n.exhausted())
	for i := uint64(2); i < numberWindow+2; i++ {
		n.retire(numberWindow + 3 - i) // backwards
	}
	require.EqualValues(t, numberWindow+2, n.doneBelow)
	require.Zero(t, n.retired)
}

func TestKeyQueuesReleaseInOrder(t *testing.T) {
	k := keyQueues{byHash: map[uint64]*keyQueue{}}
	late, soon, plain, empty := k.create(1), k.create(2), k.create(3), k.create(4)
	for _, q := range []*keyQueue{late, soon, plain} {
		q.entries.push(&entry{key: "waited"})
	}
	late.retries.push(&entry{key: "retry"})
	late.retryAt, soon.retryAt = 200, 100
	for _, q := range []*keyQueue{late, soon, plain, empty} {
		q.carrier = &request{}
		k.release(q)
		require.Nil(t, q.carrier)
	}
	require.Nil(t, k.find(4), "a key with nothing has no queue")
	require.Equal(t, "retry", late.entries.head.key)
	require.Same(t, plain, k.runnable.pop())
	require.Nil(t, k.runnable.head)
	k.promoteRetries(99)
	require.Nil(t, k.runnable.head)
	k.promoteRetries(200)
	require.Same(t, soon, k.runnable.pop())
	require.Same(t, late, k.runnable.pop())
	require.Zero(t, late.retryAt)

	soon.entries = list{}
	soon.retryAt = 300
	k.release(soon)
	require.Nil(t, k.find(2))
	require.Same(t, soon, k.create(5), "its memory is used again")
}

func TestMemoryIsUsedAgain(t *testing.T) {
	var m memory
	e := m.newEntry()
	e.data, e.chunk = m.copyData(bytes.Repeat([]byte("a"), 200))
	first := e.chunk
	other := m.newEntry()
	other.data, other.chunk = m.copyData([]byte("b"))
	require.Same(t, first, other.chunk)
	require.Equal(t, 200, cap(e.data), "an append does not reach the next one's data")
	m.recycle(e)
	require.Equal(t, 201, first.used, "b is still there")
	m.recycle(other)
	require.Zero(t, first.used)
	require.Equal(t, 2, m.count)
	require.Same(t, other, m.newEntry())
	require.Nil(t, other.data)

	carried := &entry{carrier: &request{}}
	m.recycle(carried)
	require.Equal(t, 1, m.count, "a request refers to it")

	for i := range 6 { // the fifth does not fit into the first chunk
		e := m.newEntry()
		e.data, e.chunk = m.copyData(bytes.Repeat([]byte{byte(i)}, 250))
		require.Equal(t, i >= 4, e.chunk != first, i)
	}
	m.drop()
	require.Zero(t, m.count)
	require.Nil(t, m.entries)
}

func TestOutboxCountsForFlushes(t *testing.T) {
	c := newCoreTest(t, Options{})
	e := c.put("k", "1")
	results, callbacks := c.addFlush(true), c.addFlush(false)
	c.put("k", "2") // comes later
	c.decide(e, &Result{}, nil)
	assert.True(t, isClosed(results.ch))
	assert.False(t, isClosed(callbacks.ch))
	require.True(t, c.outbox.startCallbacks())
	require.False(t, c.outbox.startCallbacks(), "one goroutine calls them")
	c.freeUntil(c.outbox.pending.cut(10), nil)
	assert.True(t, isClosed(callbacks.ch))
	assert.Empty(t, c.outbox.flushes)
	assert.False(t, isClosed(c.addFlush(true).ch))
	require.Len(t, c.outbox.flushes, 1)
	c.outbox.removeFlush(c.outbox.flushes[0])
	assert.Empty(t, c.outbox.flushes)
}

func isClosed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// infosOf makes shards that begin at eighths of the hash keys.
func infosOf(eighths ...uint64) (infos []shardlog.ShardInfo) {
	for i, n := range eighths {
		info := shardlog.ShardInfo{ID: fmt.Sprint("s", n), HashStart: shardlog.NewHashKey(n<<61, 0), HashEnd: shardlog.MaxHashKey}
		if i+1 < len(eighths) {
			info.HashEnd = shardlog.NewHashKey(eighths[i+1]<<61-1, 1<<64-1)
		}
		infos = append(infos, info)
	}
	return infos
}

func TestShardMapRefusesGaps(t *testing.T) {
	var m shardMap
	var runnable keyQueueList
	require.NoError(t, m.replace(infosOf(0, 4), ShardRate{}, &runnable))
	require.EqualValues(t, 1, m.version)
	require.Equal(t, "s4", m.find(shardlog.NewHashKey(5<<61, 0)).id)
	gap := infosOf(0, 2, 4)
	for name, bad := range map[string][]shardlog.ShardInfo{
		"none": nil, "gap": append(gap[:1:1], gap[2]), "begins late": infosOf(2, 4), "ends early": infosOf(0, 4)[:1],
		"twice": append(infosOf(0, 4), infosOf(0)...),
	} {
		require.ErrorIs(t, m.replace(bad, ShardRate{}, &runnable), errNoShards, name)
		require.EqualValues(t, 1, m.version, name)
		require.Len(t, m.open, 2, name)
	}
	kept := m.open[0]
	q := &keyQueue{}
	m.open[1].limited.push(q)
	split := append(infosOf(0, 4), infosOf(0, 4, 6)[1:]...)
	split[1].Closed = true
	split[2].ID = "child"
	require.NoError(t, m.replace(split, ShardRate{}, &runnable))
	require.Len(t, m.open, 3)
	require.Same(t, kept, m.open[0], "a shard that stays keeps its limiter")
	require.NotNil(t, m.byID["s4"], "closed")
	require.Same(t, q, runnable.pop(), "its records may go elsewhere now")
	require.True(t, m.open[1].holds(shardlog.HashRange{First: split[2].HashStart, Last: split[2].HashEnd}))
	require.False(t, m.open[1].holds(shardlog.HashRange{First: split[2].HashStart, Last: shardlog.MaxHashKey}))
}

func TestStickyPlaceChanges(t *testing.T) {
	var m shardMap
	var p stickyPlace
	e := &entry{size: 100}
	p.assign(e, &m)
	require.Len(t, e.key, madeUpKeyLength)
	require.Equal(t, shardlog.KeyHash(e.key), e.hashKey)
	key := e.key
	p.assign(e, &m)
	require.Equal(t, key, e.key)

	var runnable keyQueueList
	require.NoError(t, m.replace(infosOf(0, 4), ShardRate{}, &runnable))
	p.assign(e, &m)
	require.NotEqual(t, key, e.key, "the shards are known now")
	on := m.find(e.hashKey)
	p.left = 0
	p.assign(e, &m)
	require.NotSame(t, on, m.find(e.hashKey), "the other shard's turn")
}
