package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"sort"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// The model tests run random operations on a database and on a plain model of
// it, and compare the two. What retention removes, and when, is the database's
// own business: the model checks that it is the oldest records of a shard, and
// only where retention allows.

// modelRecord is a record as the model knows it; its data follow from n.
type modelRecord struct {
	n    uint64
	size int
	key  string
	seq  shardlog.SequenceNumber
}

func (r *modelRecord) record() shardlog.Record {
	data := make([]byte, 8+r.size)
	binary.BigEndian.PutUint64(data, r.n)
	for i := range r.size {
		data[8+i] = byte(r.n + uint64(i)*7)
	}
	rec := shardlog.Record{PartitionKey: r.key, Data: data}
	if r.n%5 == 0 {
		rec.Headers = []shardlog.Header{{Key: "n", Value: fmt.Sprint(r.n)}, {Key: "n", Value: ""}}
	}
	if r.n%7 == 0 {
		// A key of its own, so that the order of keys stays that of shards.
		rec.ExplicitHashKey = shardlog.KeyHash("explicit" + r.key)
		rec.PartitionKey += " explicit"
	}
	return rec
}

type modelShard struct {
	records []modelRecord // that were acknowledged and not seen trimmed
	maybe   []modelRecord // of a call that was cut off by a kill: all or none
	horizon uint64        // counter of the first record that may be there
	closed  bool
}

type modelStream struct {
	shards map[string]*modelShard
	trims  bool // a bound by bytes was set at some time
	drops  bool // a bound by age was set at some time
}

type model struct {
	t       testing.TB
	r       *rand.Rand
	db      *DB
	reopen  func(kill bool) *DB // nil where it cannot
	clock   bool                // time can be moved
	store   *surviving          // may die in the middle of an operation
	n       uint64
	streams map[string]*modelStream
	unsure  string // stream that was being created or deleted at a kill
	rows    map[checkpoint.Key]checkpoint.Lease
	used    map[checkpoint.Key]uint64 // highest version seen
}

func newModel(t testing.TB, r *rand.Rand, db *DB) *model {
	return &model{t: t, r: r, db: db, streams: map[string]*modelStream{},
		rows: map[checkpoint.Key]checkpoint.Lease{}, used: map[checkpoint.Key]uint64{}}
}

func TestModelInMemoryWithFakeTime(t *testing.T) {
	r, _ := newRand(t)
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, r, openMem(t))
		m.clock = true
		m.run(envInt(envSteps, 400))
	})
}

// The kill is exact here: the store takes no commit after one that is chosen
// at random, also in the middle of an operation.
func TestModelWithKillsAtAnyCommitAndFakeTime(t *testing.T) {
	r, _ := newRand(t)
	synctest.Test(t, func(t *testing.T) {
		store := newSurviving()
		opts := func() *Options { return &Options{Durability: Durability(r.Intn(3)), TailBytes: 64 << 10} }
		m := newModel(t, r, store.open(t, opts()))
		m.clock, m.store = true, store
		m.reopen = func(kill bool) *DB {
			if kill {
				store.dieAfter(0, false)
			}
			_ = m.db.Close()
			store.revive()
			return store.open(t, opts())
		}
		m.run(envInt(envSteps, 400))
	})
}

func TestModelOnDiskWithReopening(t *testing.T) {
	r, _ := newRand(t)
	dir := t.TempDir()
	opts := func() *Options {
		o := smallOptions()
		o.Durability, o.TailBytes, o.CacheBytes = Durability(r.Intn(3)), 64<<10, 64<<10
		return o
	}
	m := newModel(t, r, openDB(t, dir, opts()))
	m.reopen = func(kill bool) *DB {
		// A copy of the files of a database that is idle is what a kill
		// would leave; TestKill has the real one.
		if kill {
			next := kvtest.Killed(t, dir)
			require.NoError(t, m.db.Close())
			dir = next
		} else {
			require.NoError(t, m.db.Close())
		}
		return openDB(t, dir, opts())
	}
	m.run(envInt(envSteps, 400) / 2)
}

func (m *model) run(steps int) {
	m.t.Log("steps:", steps)
	ops := []struct {
		weight int
		do     func()
	}{
		{2, m.createStream}, {1, m.deleteStream}, {40, m.put}, {10, m.putIf}, {4, m.split}, {3, m.merge}, {1, m.reshard},
		{3, m.setRetention}, {10, m.readPage}, {8, m.checkpoint}, {3, m.verify}, {2, m.restart}, {3, m.passTime},
	}
	total := 0
	for _, op := range ops {
		total += op.weight
	}
	m.createStream()
	for range steps {
		if m.store != nil && m.r.Intn(12) == 0 {
			m.store.dieAfter(1+m.r.Intn(6), m.r.Intn(2) == 0)
		}
		pick := m.r.Intn(total)
		for _, op := range ops {
			if pick -= op.weight; pick < 0 {
				op.do()
				break
			}
		}
		if m.store != nil && m.store.died() {
			m.db = m.reopen(true)
			m.verify()
		}
	}
	m.verify()
}

// failed reports whether an operation was cut off by the kill, which is the only
// reason to fail.
func (m *model) failed(err error) bool {
	if err != nil && m.store != nil && m.store.died() {
		require.ErrorIs(m.t, err, shardlog.ErrStorage)
		return true
	}
	require.NoError(m.t, err)
	return false
}

func (m *model) pick() (string, *modelStream, *Stream) {
	if len(m.streams) == 0 {
		return "", nil, nil
	}
	names := make([]string, 0, len(m.streams))
	for n := range m.streams {
		names = append(names, n)
	}
	sort.Strings(names)
	name := names[m.r.Intn(len(names))]
	st, err := m.db.Stream(context.Background(), name)
	require.NoError(m.t, err)
	return name, m.streams[name], st
}

func (m *model) createStream() {
	name := fmt.Sprintf("s%d", m.r.Intn(3))
	_, exists := m.streams[name]
	cfg := Config{Shards: 1 + m.r.Intn(4), Retention: Forever, Compression: Compression(m.r.Intn(3)), Hash: Hash(m.r.Intn(2))}
	if m.clock {
		cfg.Compression %= Zstd // its encoder cannot be shared by two bubbles of fake time
	}
	st, err := m.db.Create(context.Background(), name, cfg)
	if exists {
		if !errors.Is(err, shardlog.ErrStorage) {
			require.ErrorIs(m.t, err, shardlog.ErrExists)
		}
		return
	}
	if m.failed(err) {
		m.unsure = name
		return
	}
	ms := &modelStream{shards: map[string]*modelShard{}}
	m.streams[name] = ms
	ms.follow(m.t, st)
	require.Len(m.t, ms.shards, cfg.Shards)
}

func (m *model) deleteStream() {
	name, _, _ := m.pick()
	if name == "" || m.r.Intn(2) == 0 {
		return
	}
	if m.failed(m.db.Delete(context.Background(), name)) {
		m.unsure = name
		return
	}
	delete(m.streams, name)
	_, err := m.db.Stream(context.Background(), name)
	require.ErrorIs(m.t, err, shardlog.ErrNotFound)
}

func (m *model) newRecord() modelRecord {
	m.n++
	size := m.r.Intn(300)
	switch m.r.Intn(20) {
	case 0:
		size = m.r.Intn(100 << 10)
	case 1, 2, 3:
		size = m.r.Intn(6 << 10)
	}
	return modelRecord{n: m.n, size: size, key: fmt.Sprintf("key-%d", m.r.Intn(12))}
}

func (m *model) put() {
	name, ms, st := m.pick()
	if name == "" {
		return
	}
	n := 1
	if m.r.Intn(2) == 0 {
		n = m.r.Intn(25)
	}
	mine, recs := make([]modelRecord, n), make([]shardlog.Record, n)
	for i := range mine {
		mine[i] = m.newRecord()
		recs[i] = mine[i].record()
	}
	var res []shardlog.PutResult
	var err error
	if n == 1 && m.r.Intn(2) == 0 {
		var one shardlog.PutResult
		one, err = st.Put(context.Background(), recs[0])
		res = []shardlog.PutResult{one}
	} else {
		res, err = st.PutRecords(context.Background(), recs)
		for i := range res {
			if err == nil {
				err = res[i].Err
			}
		}
	}
	if m.failed(err) {
		// They are smaller than one transaction: all are there or none.
		for i := range mine {
			k := hashOf(st, &recs[i])
			for _, s := range openShards(m.t, st) {
				if s.HashStart.Compare(k) <= 0 && k.Compare(s.HashEnd) <= 0 {
					ms.shards[s.ID].maybe = append(ms.shards[s.ID].maybe, mine[i])
				}
			}
		}
		return
	}
	m.stored(ms, mine, res)
}

func (m *model) stored(ms *modelStream, mine []modelRecord, res []shardlog.PutResult) {
	require.Len(m.t, res, len(mine))
	for i := range mine {
		require.NoError(m.t, res[i].Err)
		s := ms.shards[res[i].ShardID]
		require.NotNil(m.t, s)
		require.False(m.t, s.closed)
		mine[i].seq = res[i].Sequence
		require.GreaterOrEqual(m.t, counterOf(mine[i].seq), s.horizon)
		s.records = append(s.records, mine[i])
	}
}

func (m *model) putIf() {
	name, ms, st := m.pick()
	if name == "" {
		return
	}
	open := openShards(m.t, st)
	info := open[m.r.Intn(len(open))]
	s := ms.shards[info.ID]
	if len(s.records) == 0 {
		return // whether it ever had one the model does not know
	}
	last := s.records[len(s.records)-1].seq
	mine, recs := make([]modelRecord, 1+m.r.Intn(4)), []shardlog.Record(nil)
	for i := range mine {
		mine[i] = m.newRecord()
		rec := mine[i].record()
		if k := hashOf(st, &rec); k.Compare(info.HashStart) < 0 || k.Compare(info.HashEnd) > 0 {
			_, err := st.PutIf(context.Background(), info.ID, last, []shardlog.Record{rec})
			require.ErrorIs(m.t, err, shardlog.ErrWrongShard)
			return
		}
		recs = append(recs, rec)
	}
	if m.r.Intn(3) == 0 {
		_, err := st.PutIf(context.Background(), info.ID, shardlog.SequenceNumber{}, recs)
		if !errors.Is(err, shardlog.ErrStorage) {
			var c *shardlog.ConflictError
			require.ErrorAs(m.t, err, &c)
			require.Equal(m.t, counterOf(last), counterOf(c.Actual))
		}
		return
	}
	res, err := st.PutIf(context.Background(), info.ID, last, recs)
	if m.failed(err) {
		s.maybe = append(s.maybe, mine...)
		return
	}
	m.stored(ms, mine, res)
}

func (m *model) split() {
	name, ms, st := m.pick()
	if name == "" {
		return
	}
	open := openShards(m.t, st)
	s := open[m.r.Intn(len(open))]
	if len(open) > 12 || s.HashStart == s.HashEnd {
		return
	}
	ids, err := st.Split(context.Background(), s.ID, shardlog.HashKey{})
	if !m.failed(err) {
		require.Len(m.t, ids, 2)
		ms.follow(m.t, st)
		requireCovered(m.t, shards(m.t, st))
	}
}

func (m *model) merge() {
	name, ms, st := m.pick()
	if name == "" {
		return
	}
	open := openShards(m.t, st)
	slices.SortFunc(open, func(a, b shardlog.ShardInfo) int { return a.HashStart.Compare(b.HashStart) })
	if len(open) < 2 {
		return
	}
	i := m.r.Intn(len(open) - 1)
	id, err := st.Merge(context.Background(), open[i+1].ID, open[i].ID)
	if !m.failed(err) {
		ms.follow(m.t, st)
		require.NotNil(m.t, ms.shards[id])
		requireCovered(m.t, shards(m.t, st))
	}
}

func (m *model) reshard() {
	name, ms, st := m.pick()
	if name == "" {
		return
	}
	n := 1 + m.r.Intn(6)
	if !m.failed(st.Reshard(context.Background(), n)) {
		require.Equal(m.t, n, st.Info().OpenShards)
		ms.follow(m.t, st)
		requireCovered(m.t, shards(m.t, st))
	}
}

func (m *model) setRetention() {
	name, ms, st := m.pick()
	if name == "" {
		return
	}
	age, bytes := Forever, int64(0)
	if m.r.Intn(2) == 0 {
		bytes = MinRetentionBytes << m.r.Intn(3)
		ms.trims = true
	}
	if m.clock && m.r.Intn(2) == 0 {
		age = time.Duration(1+m.r.Intn(300)) * time.Second
		ms.drops = true
	}
	m.failed(st.SetRetention(context.Background(), age, bytes))
}

func (m *model) passTime() {
	if m.clock {
		time.Sleep(time.Duration(m.r.Intn(120)) * time.Second)
	}
}

func (m *model) restart() {
	if m.reopen != nil {
		m.db = m.reopen(m.r.Intn(2) == 0)
		m.verify()
	}
}

func (m *model) checkpoint() {
	ctx, cps := context.Background(), m.db.Checkpoints()
	k := checkpoint.Key{Group: "g", Stream: "s", Shard: shardID(m.r.Intn(4))}
	row, exists := m.rows[k]
	row.Key = k
	row.Beat, row.PreparedState = m.r.Uint64(), bytes.Repeat([]byte{1}, m.r.Intn(3000))
	var next checkpoint.Lease
	var err error
	switch op := m.r.Intn(8); {
	case op == 0 && exists:
		if err = cps.Delete(ctx, row); err == nil {
			delete(m.rows, k)
			return
		}
	case op == 1:
		row.Version += 1 + uint64(m.r.Intn(3))
		want := shardlog.ErrConflict
		if !exists {
			want = shardlog.ErrNotFound
		}
		if _, err = cps.Update(ctx, row); !errors.Is(err, shardlog.ErrStorage) {
			require.ErrorIs(m.t, err, want)
		}
		return
	case exists:
		next, err = cps.Update(ctx, row)
	default:
		next, err = cps.Create(ctx, row)
	}
	if err != nil && m.failed(err) {
		// The store died: what is there now is read after it is back.
		m.db = m.reopen(true)
		got, err := m.db.Checkpoints().Get(ctx, k)
		delete(m.rows, k)
		if err == nil {
			require.True(m.t, got.Beat == row.Beat || exists)
			m.rows[k] = got
			m.used[k] = max(m.used[k], got.Version)
		} else {
			require.ErrorIs(m.t, err, shardlog.ErrNotFound)
		}
		m.verify()
		return
	}
	require.Greater(m.t, next.Version, m.used[k], "a version is never used again")
	m.rows[k], m.used[k] = next, next.Version
}

// follow takes up new shards.
func (ms *modelStream) follow(t testing.TB, st *Stream) {
	for _, s := range shards(t, st) {
		if ms.shards[s.ID] == nil {
			ms.shards[s.ID] = &modelShard{horizon: counterOf(s.First) + 1}
		}
		ms.shards[s.ID].closed = s.Closed
	}
}
