package logstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// The history test runs several writers over a store whose operations fail now and
// then, and kills and opens it again and again. They note the results, and
// readers what they have seen; in the end of each life of the log everything is compared
// with what is there:
//
//   - what was acknowledged is there once, under its number, unless it was trimmed;
//   - what failed is not, also not later; what is of unknown outcome may be;
//   - no number is given out twice, and the records of a writer are in its order;
//   - what a reader has passed stays empty: nothing appears before a record that was seen;
//   - an atomic append is there whole or not at all, and what was appended on a condition
//     follows the record of the condition.
//
// SHARDLOG_STEPS is how many operations the writers do, in hundreds; more of them take
// longer.
type history struct {
	t     *testing.T
	store *kvtest.Faulty
	l     *Log

	mu      sync.Mutex
	r       *rand.Rand
	next    uint32 // of shards
	shards  []*Shard
	shard   map[ID]*shardHistory
	records map[string]*outcome // by data
	atomic  [][]string          // data of atomic appends
	given   int
	known   map[string]int // what came of the calls
	torn    bool           // the store may die: what it has is then not what the log knows
}

type shardHistory struct {
	closing bool // it may be closed
	trimmed uint64
	dropped bool // it may be
	acked   map[uint64]string
	seen    map[uint64]string
	last    uint64 // highest counter of seen
}

// outcome is what is known of a record.
type outcome struct {
	id       ID
	writer   int
	n        int
	counter  uint64 // if it was acknowledged
	maybe    bool
	expected uint64 // counter of the record before it, if that was a condition
}

var cfgKey = []byte{'c', 'f', 'g'}

func (h *history) config(tx *Tx, c Config) {
	k := binary.BigEndian.AppendUint32(slices.Clone(cfgKey), c.ID.Shard)
	tx.Set(k, fmt.Appendf(nil, "%d %d %t %d %d", c.Base, c.Last, c.Closed, c.Floor, c.Codec))
}

func readConfigs(store interface {
	Get([]byte) ([]byte, error)
	Scan([]byte, func([]byte, int64) bool) error
}) (cs []Config, err error) {
	var keys [][]byte
	err = store.Scan(cfgKey, func(k []byte, _ int64) bool { keys = append(keys, slices.Clone(k)); return true })
	for _, k := range keys {
		v, gerr := store.Get(k)
		if err = errors.Join(err, gerr); err != nil {
			return nil, err
		}
		c := Config{ID: ID{1, binary.BigEndian.Uint32(k[len(cfgKey):])}}
		c.Created = 1000 + int64(c.ID.Shard)
		if _, err := fmt.Sscanf(string(v), "%d %d %t %d %d", &c.Base, &c.Last, &c.Closed, &c.Floor, &c.Codec); err != nil {
			return nil, err
		}
		cs = append(cs, c)
	}
	return cs, err
}

func TestHistories(t *testing.T) {
	steps, err := strconv.Atoi(os.Getenv("SHARDLOG_STEPS"))
	if err != nil {
		steps = 20
	}
	for writers := 1; writers <= 4; writers += 3 {
		t.Run(fmt.Sprint(writers, " writers"), func(t *testing.T) {
			rnd := kvtest.Rand(t)
			for lives := 0; lives < steps; {
				h := &history{t: t, r: rnd, store: kvtest.New(kv.NewMemory()), shard: map[ID]*shardHistory{}, records: map[string]*outcome{}, known: map[string]int{}}
				if rnd.Intn(3) > 0 {
					h.store.LimitJournal(int64(64+rnd.Intn(400)) << 10)
				}
				clean := true
				for range 1 + rnd.Intn(6) {
					clean = h.live(writers, clean)
					lives++
				}
				require.NoError(t, h.store.CheckValues())
				require.Zero(t, h.store.Refused())
				t.Log(h.known)
				if t.Failed() {
					return
				}
			}
		})
	}
}

// live opens the log, lets writers and readers work, and closes it, or kills it.
func (h *history) live(writers int, clean bool) bool {
	h.store.Revive()
	h.store.SyncsCommits(h.r.Intn(4) == 0)
	h.open(clean)
	ctx, cancel := context.WithCancel(context.Background())
	var readers, work sync.WaitGroup
	for _, s := range h.shards {
		readers.Go(func() { h.read(ctx, s) })
	}
	stop := make(chan struct{})
	chaos := h.r.Intn(4)
	h.torn = chaos == 1 || chaos == 2
	work.Go(func() { h.fail(chaos, stop) })
	var writing sync.WaitGroup
	for w := range writers {
		r := rand.New(rand.NewSource(h.r.Int63()))
		writing.Go(func() {
			for range 25 + r.Intn(100/writers) {
				h.step(ctx, w, r, func(s *Shard) { readers.Go(func() { h.read(ctx, s) }) })
			}
		})
	}
	writing.Wait()
	close(stop)
	work.Wait()
	dead := h.dead()
	kill := dead || h.r.Intn(2) == 0
	h.check(true)
	cancel()
	readers.Wait()
	if kill {
		h.store.FailAt(1, kvtest.All|kvtest.Append, kvtest.Torn, nil)
		_ = h.l.Close()
	} else {
		h.store.FailAt(0, 0, kvtest.Refuse, nil)
		require.NoError(h.t, h.l.CloseWith(h.floors))
	}
	h.store.Revive()
	h.open(!kill)
	h.check(false)
	h.store.FailAt(1, kvtest.All|kvtest.Append, kvtest.Torn, nil)
	_ = h.l.Close()
	return false
}

// dead reports whether the store takes nothing any more.
func (h *history) dead() bool {
	return errors.Is(h.l.Do(ctx, func(tx *Tx) error { tx.Set([]byte("x"), nil); return nil }), shardlog.ErrStorage)
}

// floors notes the numbers that are not to be used again.
func (h *history) floors(store kv.Store) error {
	var b kv.Batch
	for _, s := range h.shards {
		floor, skipped := s.Floor()
		k := binary.BigEndian.AppendUint32(slices.Clone(cfgKey), s.id.Shard)
		v, err := store.Get(k)
		if !skipped || errors.Is(err, shardlog.ErrNotFound) {
			continue
		}
		var c Config
		if _, err := fmt.Sscanf(string(v), "%d %d %t %d %d", &c.Base, &c.Last, &c.Closed, &c.Floor, &c.Codec); err != nil {
			return err
		}
		b.Set(k, fmt.Appendf(nil, "%d %d %t %d %d", c.Base, c.Last, c.Closed, floor, c.Codec))
	}
	return store.Commit(&b)
}

func (h *history) open(clean bool) {
	cs, err := readConfigs(h.store)
	require.NoError(h.t, err)
	o := Options{TailBytes: 32 << 10}
	h.l, err = Open(h.store, o, cs, Recovery{Unclean: !clean})
	require.NoError(h.t, err)
	for len(cs) < 3 {
		c := h.newConfig()
		created, err := h.l.Change(ctx, Change{Create: []Config{c}, Apply: func(tx *Tx) error { h.config(tx, c); return nil }})
		require.NoError(h.t, err)
		cs = append(cs, c)
		_ = created
	}
	h.shards = nil
	for _, c := range cs {
		if h.shard[c.ID] == nil { // of a change of unknown outcome
			h.shard[c.ID] = &shardHistory{acked: map[uint64]string{}, seen: map[uint64]string{}}
		}
		h.shards = append(h.shards, h.l.Shard(c.ID))
	}
	for id, sh := range h.shard {
		require.True(h.t, h.l.Shard(id) != nil || sh.dropped, "shard %v is lost", id)
	}
}

func (h *history) newConfig() Config {
	c := Config{ID: ID{1, h.next}, Created: 1000 + int64(h.next), Base: base, Codec: Codec(h.next % 2)}
	h.next++
	return c
}

// fail makes operations of the store fail.
func (h *history) fail(chaos int, stop chan struct{}) {
	r := rand.New(rand.NewSource(int64(chaos)))
	kinds := []kvtest.Op{kvtest.Commit, kvtest.Append, kvtest.Commit | kvtest.Append}
	arm := func(mode kvtest.Mode, within int) {
		h.store.FailAt(1+r.Intn(within), kinds[r.Intn(len(kinds))], mode, nil)
	}
	switch chaos {
	case 0:
		return
	case 1:
		arm(kvtest.Torn, 40)
		return
	case 2:
		arm(kvtest.TornApplied, 40)
		return
	}
	for {
		arm(kvtest.Refuse, 8)
		select {
		case <-stop:
			return
		case <-h.store.Struck():
		}
	}
}

// pick returns a shard that was open, if there is one.
func (h *history) pick(r *rand.Rand) *Shard {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shards[r.Intn(len(h.shards))]
}

// data makes records of a writer for a shard, with what is to be noted of them.
func (h *history) data(w int, s *Shard, n, size int, r *rand.Rand) (rs []shardlog.Record, os []*outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range n {
		h.given++
		d := fmt.Sprintf("%d/%d/%s", w, h.given, strings.Repeat("x", r.Intn(size+1)))
		o := &outcome{id: s.id, writer: w, n: h.given, maybe: true}
		h.records[d] = o
		rs, os = append(rs, rec(d)), append(os, o)
	}
	return rs, os
}

// note notes the outcome of a record.
func (h *history) note(r *shardlog.Record, o *outcome, seq shardlog.SequenceNumber, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch d := string(r.Data); {
	case err == nil:
		sh, c := h.shard[o.id], counterOf(seq)
		if before, ok := sh.acked[c]; ok {
			h.t.Errorf("number %d of %v is given to %.20q and to %.20q", c, o.id, before, d)
		}
		sh.acked[c] = d
		o.counter, o.maybe = c, false
		h.known["stored"]++
	case errors.Is(err, shardlog.ErrUnknownOutcome):
		h.known["unknown"]++
	default:
		o.maybe = false
		h.known["failed"]++
		if !errors.Is(err, kvtest.ErrInjected) && !errors.Is(err, shardlog.ErrShardClosed) && !errors.Is(err, shardlog.ErrConflict) &&
			!errors.Is(err, shardlog.ErrStorage) && !errors.Is(err, shardlog.ErrNoSpace) {
			h.t.Errorf("unexpected: %v", err)
		}
	}
}

func (h *history) step(ctx context.Context, w int, r *rand.Rand, created func(*Shard)) {
	s := h.pick(r)
	size := 300
	switch r.Intn(12) {
	case 0:
		size = 30_000
	case 1, 2, 3:
		size = 6000
	}
	switch n := r.Intn(40); {
	case n < 18: // one
		rs, os := h.data(w, s, 1, size, r)
		seq, err := h.l.AppendOne(ctx, s, &rs[0])
		h.note(&rs[0], os[0], seq, err)
	case n < 26: // some, to several shards
		h.appendSome(ctx, w, r, size)
	case n < 31:
		h.appendIf(ctx, w, s, size, r)
	case n < 34:
		h.appendAtomic(ctx, w, r, size)
	case n < 36:
		v := s.view()
		upto := v.horizon
		if v.last >= v.horizon {
			upto += uint64(r.Int63n(int64(v.last-v.horizon) + 2))
		}
		h.mu.Lock()
		h.shard[s.id].trimmed = max(h.shard[s.id].trimmed, upto)
		h.mu.Unlock()
		_ = s.Trim(ctx, upto)
	case n == 36:
		h.split(ctx, s, created)
	case n == 37 && r.Intn(3) == 0:
		h.drop(ctx, s)
	case n == 38:
		_ = h.l.Sync()
	case n == 39 && r.Intn(5) == 0:
		h.snapshot()
	}
}

func (h *history) appendSome(ctx context.Context, w int, r *rand.Rand, size int) {
	var rs []shardlog.Record
	var os []*outcome
	var targets []*Shard
	for range 1 + r.Intn(8) {
		s := h.pick(r)
		a, b := h.data(w, s, 1, size, r)
		rs, os, targets = append(rs, a...), append(os, b...), append(targets, s)
	}
	res := make([]shardlog.PutResult, len(rs))
	err := h.l.Append(ctx, rs, targets, res)
	for i := range rs {
		h.note(&rs[i], os[i], res[i].Sequence, errors.Join(err, res[i].Err))
	}
}

func (h *history) appendIf(ctx context.Context, w int, s *Shard, size int, r *rand.Rand) {
	rs, os := h.data(w, s, 1+r.Intn(3), size, r)
	s.log.mu.Lock()
	expected := shardlog.SequenceNumber{}
	if s.lastAssigned > s.base {
		expected = s.sequence(s.lastAssigned-uint64(r.Intn(8)/7), s.lastMs)
	}
	s.log.mu.Unlock()
	seqs, err := h.l.AppendIf(ctx, s, expected, rs)
	for i := range rs {
		var seq shardlog.SequenceNumber
		if err == nil {
			seq = seqs[i]
		}
		h.note(&rs[i], os[i], seq, err)
		h.mu.Lock()
		if os[i].expected = counterOf(expected); i > 0 && err == nil {
			os[i].expected = counterOf(seqs[i-1])
		} else if i > 0 {
			os[i].expected = 0
		}
		h.mu.Unlock()
	}
}

func (h *history) appendAtomic(ctx context.Context, w int, r *rand.Rand, size int) {
	var rs []shardlog.Record
	var os []*outcome
	var targets []*Shard
	var all []string
	for range 2 + r.Intn(4) {
		s := h.pick(r)
		a, b := h.data(w, s, 1, size, r)
		rs, os, targets, all = append(rs, a...), append(os, b...), append(targets, s), append(all, string(a[0].Data))
	}
	res := make([]shardlog.PutResult, len(rs))
	err := h.l.AppendWith(ctx, rs, targets, res, &AppendOptions{Atomic: true})
	for i := range rs {
		h.note(&rs[i], os[i], res[i].Sequence, errors.Join(err, res[i].Err))
	}
	h.mu.Lock()
	h.atomic = append(h.atomic, all)
	h.mu.Unlock()
}

func (h *history) split(ctx context.Context, s *Shard, created func(*Shard)) {
	h.mu.Lock()
	if len(h.shards) > 12 || h.shard[s.id].closing {
		h.mu.Unlock()
		return
	}
	c := h.newConfig()
	h.shard[s.id].closing = true
	h.mu.Unlock()
	n, err := h.l.Change(ctx, Change{Close: []*Shard{s}, Create: []Config{c}, Apply: func(tx *Tx) error {
		h.config(tx, c)
		h.config(tx, Config{ID: s.id, Base: s.base, Codec: s.codec, Closed: true, Last: s.LastCounter()})
		return nil
	}})
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.shard[s.id].closing = errors.Is(err, shardlog.ErrUnknownOutcome)
		return
	}
	h.shard[c.ID] = &shardHistory{acked: map[uint64]string{}, seen: map[uint64]string{}}
	h.shards = append(h.shards, n[0])
	created(n[0])
}

func (h *history) drop(ctx context.Context, s *Shard) {
	h.mu.Lock()
	if len(h.shards) < 4 {
		h.mu.Unlock()
		return
	}
	h.shard[s.id].dropped = true
	h.shards = slices.DeleteFunc(h.shards, func(x *Shard) bool { return x == s })
	h.mu.Unlock()
	_ = h.l.Drop(ctx, s, func(tx *Tx) error {
		tx.Delete(binary.BigEndian.AppendUint32(slices.Clone(cfgKey), s.id.Shard))
		return nil
	})
}

// snapshot compares what was acknowledged before with what a snapshot has.
func (h *history) snapshot() {
	h.mu.Lock()
	acked := map[ID]map[uint64]string{}
	for id, sh := range h.shard {
		acked[id] = map[uint64]string{}
		for c, d := range sh.acked {
			acked[id][c] = d
		}
	}
	h.mu.Unlock()
	snap, err := h.l.Snapshot()
	if err != nil {
		return // the store is dead
	}
	defer snap.Close()
	store := kv.NewMemory()
	var keys [][]byte
	if err := snap.Scan(nil, func(k []byte, _ int64) bool { keys = append(keys, slices.Clone(k)); return true }); err != nil {
		return
	}
	for _, k := range keys {
		v, err := snap.Get(k)
		if err != nil {
			return
		}
		var b kv.Batch
		b.Set(k, v)
		if err := store.Commit(&b); err != nil {
			h.t.Error(err)
		}
	}
	cs, err := readConfigs(store)
	if err != nil {
		h.t.Error(err)
		return
	}
	l, err := Open(store, Options{}, cs, Recovery{})
	if err != nil {
		h.t.Error(err)
		return
	}
	defer l.Close()
	for _, c := range cs {
		s := l.Shard(c.ID)
		horizon := s.view().horizon
		have := map[uint64]string{}
		for r, err := range s.Records(ctx, shardlog.TrimHorizon()) {
			if err != nil {
				h.t.Error(err)
				return
			}
			have[counterOf(r.Sequence)] = string(r.Data)
		}
		for n, d := range acked[c.ID] {
			if n >= horizon && have[n] != d {
				h.t.Errorf("a snapshot has %.20q as number %d of %v, not %.20q", have[n], n, c.ID, d)
			}
		}
	}
}

// read follows a shard.
func (h *history) read(ctx context.Context, s *Shard) {
	from := shardlog.TrimHorizon()
	last := uint64(0)
	for {
		for r, err := range s.Tail(ctx, from) {
			if ctx.Err() != nil || errors.Is(err, shardlog.ErrClosed) {
				return
			}
			if errors.Is(err, shardlog.ErrExpired) {
				break
			}
			h.mu.Lock()
			if err != nil {
				if !h.shard[s.id].dropped && !(h.torn && errors.Is(err, shardlog.ErrStorage)) {
					h.t.Errorf("reading %v after %d: %v", s.id, last, err)
				}
				h.mu.Unlock()
				return
			}
			c := counterOf(r.Sequence)
			if c <= last {
				h.t.Errorf("number %d of %v follows %d", c, s.id, last)
			}
			last = c
			h.seen(s.id, c, string(r.Data))
			h.mu.Unlock()
		}
		h.mu.Lock()
		done := s.view().closed && s.view().last <= last || h.shard[s.id].dropped
		h.mu.Unlock()
		if done {
			return
		}
		from = shardlog.TrimHorizon()
		if last > 0 {
			from = shardlog.At(s.sequence(max(last+1, s.view().horizon), 0))
		}
	}
}

// seen notes that a record was read, with mu held.
func (h *history) seen(id ID, c uint64, d string) {
	sh := h.shard[id]
	if before, ok := sh.seen[c]; ok && before != d {
		h.t.Errorf("number %d of %v is %.20q and was %.20q", c, id, d, before)
	}
	sh.seen[c] = d
	sh.last = max(sh.last, c)
}

// checkCounts checks what the log counts, when nothing is appended.
func (h *history) checkCounts() {
	l := h.l
	l.mu.Lock()
	defer l.mu.Unlock()
	gathered, roomy := int64(0), 0
	all := map[*Shard]bool{}
	for _, s := range l.shards {
		all[s] = true
	}
	for _, ref := range l.runs {
		if ref != nil {
			all[ref.shard] = true // it may be one of which not all could be dropped
		}
	}
	for s := range all {
		v := s.view()
		require.Equal(h.t, newestOf(v), s.newest)
		gathered += int64(v.gathered())
	}
	require.Equal(h.t, gathered, l.gathered)
	first := l.journal.End().Seq
	for i, ref := range l.runs {
		if ref == nil {
			continue
		}
		require.True(h.t, i == 0 || l.runs[i-1] == nil || l.runs[i-1].at.Seq <= ref.at.Seq)
		if !ref.gone {
			first = min(first, ref.at.Seq)
			if ref.roomy {
				roomy++
			}
		}
	}
	require.Equal(h.t, roomy, l.roomy)
	require.Equal(h.t, first, l.needed().Seq)
}

// check compares what is there with what is known. In the life in which it was written
// nothing of unknown outcome may be there yet.
func (h *history) check(live bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checkCounts()
	there := map[string]bool{}
	trimmed := map[ID]bool{}
	for _, s := range h.shards {
		sh := h.shard[s.id]
		horizon := s.view().horizon
		trimmed[s.id] = horizon > s.base+1
		require.LessOrEqual(h.t, horizon, max(sh.trimmed, base+1), "trimmed too far")
		last, lastOf := uint64(0), map[int]int{}
		have := map[uint64]string{}
		wasLast := sh.last
		for r, err := range s.Records(ctx, shardlog.TrimHorizon()) {
			if live && h.torn && errors.Is(err, shardlog.ErrStorage) {
				return // the store has died
			}
			require.NoError(h.t, err)
			c, d := counterOf(r.Sequence), string(r.Data)
			o := h.records[d]
			require.NotNil(h.t, o, "%.20q was never appended", d)
			require.Equal(h.t, s.id, o.id)
			require.False(h.t, there[d], "%.20q is there twice", d)
			there[d] = true
			require.Greater(h.t, o.n, lastOf[o.writer], "order of writer %d in %v: %.20q", o.writer, s.id, d)
			lastOf[o.writer] = o.n
			switch {
			case o.counter > 0:
				require.Equal(h.t, o.counter, c, "number of %.20q", d)
			case !o.maybe:
				require.Fail(h.t, "a record that failed is there", "%.20q, number %d of %v, live %t", d, c, s.id, live)
			}
			if o.expected > 0 && last > 0 {
				require.Equal(h.t, o.expected, last, "%.20q was appended on a condition", d)
			}
			if c <= wasLast && sh.seen[c] == "" {
				require.Fail(h.t, "a record before one that was seen", "number %d of %v, before %d, live %t", c, s.id, wasLast, live)
			}
			h.seen(s.id, c, d)
			have[c], last = d, c
		}
		for c, d := range sh.acked {
			if c >= horizon {
				require.Equal(h.t, d, have[c], "number %d of %v, live %t, horizon %d", c, s.id, live, horizon)
			}
		}
		for c, d := range sh.seen {
			if c >= horizon {
				require.Equal(h.t, d, have[c], "seen number %d of %v, live %t", c, s.id, live)
			}
		}
		var size int64
		s.ScanBlocks(func(_ uint64, _, n int64) bool { size += n; return true })
		require.Equal(h.t, size, s.Info().Bytes)
		require.EqualValues(h.t, len(have), s.Info().Records)
	}
	for _, all := range h.atomic {
		n, of := 0, 0
		for _, d := range all {
			id := h.records[d].id
			if !trimmed[id] && !h.shard[id].dropped {
				of++
				if there[d] {
					n++
				}
			}
		}
		require.True(h.t, n == 0 || n == of, "%d of %d records of an atomic append are there", n, of)
	}
}
