package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// onceModel is a model of what exactly-once storage promises: it sends numbered
// records, records with dedup IDs and transactions, again and again and in any
// order, to a database that may die at any commit, and knows of each whether it
// must be stored, must not be, or may be.
type onceModel struct {
	t     testing.TB
	r     *rand.Rand
	store *surviving
	db    *DB
	st    *Stream

	window    time.Duration
	data      map[string]bool // what was sent; true if it is certain to be stored
	producers map[string]*onceProducer
	ids       map[string]onceID
	sent      int
	row       uint64 // transactions that are certain
}

type onceProducer struct {
	epoch, next, done uint64
	numbers           map[uint64]onceNumber // sent, from done on
}

// onceNumber is a number that was sent; res is unset if its outcome is unknown.
type onceNumber struct {
	data string
	res  shardlog.PutResult
}

// onceID is a dedup ID that was sent; certain says that its last outcome is known.
type onceID struct {
	res     shardlog.PutResult
	arrival time.Time
	certain bool
}

func TestModelOfExactlyOnce(t *testing.T) {
	r, _ := newRand(t)
	synctest.Test(t, func(t *testing.T) {
		m := &onceModel{t: t, r: r, store: newSurviving(), window: time.Minute,
			data: map[string]bool{}, producers: map[string]*onceProducer{}, ids: map[string]onceID{}}
		m.db = m.store.open(t, nil)
		m.st = create(t, m.db, "s", Config{Shards: 2, Retention: Forever, DedupWindow: m.window})
		create(t, m.db, "other", Config{Retention: Forever})
		_, err := m.db.Checkpoints().Create(t.Context(), checkpoint.Lease{Key: txKey})
		require.NoError(t, err)
		ops := []func(){m.request, m.request, m.request, m.withIDs, m.withIDs, m.open, m.transaction, m.reshard, m.restart, m.passTime}
		for range envInt(envSteps, 400) {
			if r.Intn(10) == 0 {
				m.store.dieAfter(1+r.Intn(3), r.Intn(2) == 0)
			}
			ops[r.Intn(len(ops))]()
			if m.store.died() {
				m.reopen()
			}
			if r.Intn(20) == 0 {
				m.verify()
			}
		}
		m.verify()
		require.NoError(t, m.db.Close())
	})
}

func (m *onceModel) reopen() {
	m.store.dieAfter(0, false)
	_ = m.db.Close()
	m.store.revive()
	m.db = m.store.open(m.t, nil)
	m.st = theStream(m.t, m.db)
}

func (m *onceModel) restart() {
	if m.store.spare() {
		require.NoError(m.t, m.db.Close())
		m.store.revive()
		m.db = m.store.open(m.t, nil)
		m.st = theStream(m.t, m.db)
	}
}

// failed reports whether a call was cut off; nothing else may fail.
func (m *onceModel) failed(err error) bool {
	if m.store.died() && errors.Is(err, shardlog.ErrStorage) {
		return true
	}
	require.NoError(m.t, err)
	return false
}

func (m *onceModel) payload() string {
	m.sent++
	data := fmt.Sprint("n", m.sent)
	m.data[data] = false
	return data
}

func (m *onceModel) pick() *onceProducer {
	id := fmt.Sprint("p", m.r.Intn(3))
	p := m.producers[id]
	if p == nil {
		p = &onceProducer{numbers: map[uint64]onceNumber{}}
		m.producers[id] = p
	}
	return p
}

func (m *onceModel) name(p *onceProducer) string {
	for id, q := range m.producers {
		if p == q {
			return id
		}
	}
	return ""
}

func (m *onceModel) open() {
	p := m.pick()
	id, before := m.name(p), p.epoch
	epoch, err := m.st.OpenProducer(context.Background(), id)
	if m.failed(err) {
		m.reopen()
		if epoch, err = m.st.OpenProducer(context.Background(), id); m.failed(err) {
			return
		}
	}
	for _, q := range m.producers {
		require.Greater(m.t, epoch, q.epoch)
	}
	if before > 0 {
		_, err := m.st.PutRequest(context.Background(), numberedRequest(id, before, p.done, p.next))
		require.ErrorIs(m.t, err, shardlog.ErrFenced)
	}
	*p = onceProducer{epoch: epoch, numbers: map[uint64]onceNumber{}}
}

// request sends new numbers and some of those that were sent before.
func (m *onceModel) request() {
	p := m.pick()
	if p.epoch == 0 {
		return
	}
	var numbers []uint64
	for n := range p.numbers {
		if m.r.Intn(3) == 0 {
			numbers = append(numbers, n)
		}
	}
	for range m.r.Intn(6) {
		p.next += uint64(m.r.Intn(3))
		p.numbers[p.next] = onceNumber{data: m.payload()}
		numbers = append(numbers, p.next)
		p.next++
	}
	slices.Sort(numbers)
	if len(numbers) > 0 && m.r.Intn(4) == 0 {
		p.done = max(p.done, numbers[0]-min(numbers[0], uint64(m.r.Intn(3))))
		for n := range p.numbers {
			if n < p.done {
				delete(p.numbers, n) // it will not be sent again
			}
		}
	}
	req := &shardlog.PutRequest{Producer: m.name(p), Epoch: p.epoch, Done: p.done, Numbers: numbers}
	for _, n := range numbers {
		req.Records = append(req.Records, keyed(fmt.Sprint("key", m.r.Intn(9)), p.numbers[n].data))
	}
	res, err := m.st.PutRequest(context.Background(), req)
	if m.failed(firstError(res, err)) {
		return
	}
	for i, n := range numbers {
		sent := p.numbers[n]
		switch certain := m.data[sent.data]; {
		case certain:
			require.True(m.t, res[i].Duplicate)
			res[i].Duplicate = false
			require.Equal(m.t, sent.res, res[i])
		default:
			res[i].Duplicate = false // it may have been stored by the call that was cut off
			p.numbers[n] = onceNumber{sent.data, res[i]}
			m.data[sent.data] = true
		}
	}
}

func (m *onceModel) withIDs() {
	var recs []shardlog.Record
	for range 1 + m.r.Intn(5) {
		id := fmt.Sprint("id", m.r.Intn(30))
		recs = append(recs, shardlog.Record{PartitionKey: fmt.Sprint("key", m.r.Intn(9)), Data: []byte(m.payload()), DedupID: id})
	}
	res, err := m.st.PutRecords(context.Background(), recs)
	now := time.Now()
	if m.failed(firstError(res, err)) {
		for i := range recs {
			if o, ok := m.ids[recs[i].DedupID]; !ok || !o.certain || now.Sub(o.arrival) >= m.window {
				m.ids[recs[i].DedupID] = onceID{arrival: now} // stored now or not at all
			}
		}
		return
	}
	for i := range recs {
		id, data := recs[i].DedupID, string(recs[i].Data)
		o, ok := m.ids[id]
		duplicate := res[i].Duplicate
		res[i].Duplicate = false
		switch {
		case ok && o.certain && now.Sub(o.arrival) < m.window:
			require.True(m.t, duplicate, "%s, %v old", id, now.Sub(o.arrival))
			require.Equal(m.t, o.res, res[i])
		case !duplicate:
			m.ids[id] = onceID{res[i], now, true}
			m.data[data] = true
			continue
		default:
			// Then a call that was cut off has stored it: the last one, or one
			// before it of which the last was a copy. The number knows when, to
			// the second.
			require.True(m.t, ok && (!o.certain && now.Sub(o.arrival) < m.window || o.certain && now.Sub(o.arrival) < m.window+time.Second), id)
			arrival, known := res[i].Sequence.Arrival()
			require.True(m.t, known)
			m.ids[id] = onceID{res[i], arrival, true}
		}
		delete(m.data, data) // a copy is not stored
	}
}

func (m *onceModel) transaction() {
	row, err := m.db.Checkpoints().Get(context.Background(), txKey)
	require.NoError(m.t, err)
	row.Beat++
	data := fmt.Sprint("tx", row.Beat)
	tx := m.db.Begin()
	other, err := m.db.Stream(context.Background(), "other")
	require.NoError(m.t, err)
	tx.Put(other, keyed(data, data))
	tx.Put(m.st, keyed(data, data), keyed("k", data+" too"))
	tx.Checkpoint(row)
	if m.r.Intn(4) == 0 {
		stale := row
		stale.Version += 2
		tx.rows[0] = stale
		_, err := tx.Commit(context.Background())
		require.ErrorIs(m.t, err, shardlog.ErrConflict)
		return
	}
	if _, err = tx.Commit(context.Background()); !m.failed(err) {
		m.row = row.Beat
	}
}

func (m *onceModel) reshard() {
	if err := m.st.Reshard(context.Background(), 1+m.r.Intn(5)); err != nil {
		m.failed(err)
	}
}

func (m *onceModel) passTime() { time.Sleep(time.Duration(m.r.Intn(40)) * time.Second) }

// verify compares what is stored with what must and may be.
func (m *onceModel) verify() {
	if !m.store.spare() {
		m.reopen()
	}
	row, err := m.db.Checkpoints().Get(context.Background(), txKey)
	require.NoError(m.t, err)
	require.GreaterOrEqual(m.t, row.Beat, m.row)
	want := map[string]bool{}
	for data, certain := range m.data {
		want[data] = certain
	}
	var others []string
	for n := uint64(1); n <= row.Beat; n++ {
		want[fmt.Sprint("tx", n)], want[fmt.Sprint("tx", n, " too")] = true, true
		others = append(others, fmt.Sprint("tx", n))
	}
	for _, r := range readStream(m.t, m.st) {
		_, expected := want[string(r.Data)]
		require.True(m.t, expected, "%s is stored, or twice", r.Data)
		delete(want, string(r.Data))
	}
	for data, certain := range want {
		require.False(m.t, certain, "%s is lost", data)
	}
	other, err := m.db.Stream(context.Background(), "other")
	require.NoError(m.t, err)
	requireOnce(m.t, other, others...)
}
