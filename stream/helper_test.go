package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
	"github.com/shardlog/shardlog/internal/leaktest"
	"github.com/shardlog/shardlog/internal/logstore"
)

// Environment variables of the tests:
//
//	SHARDLOG_SEED   repeats a random test with the seed that it printed
//	SHARDLOG_STEPS  steps of each model test; 400 by default
//	SHARDLOG_KILLS  how often TestKill kills a writer, in all; 16 by default
const (
	envSeed  = "SHARDLOG_SEED"
	envSteps = "SHARDLOG_STEPS"
	envKills = "SHARDLOG_KILLS"
	envChild = "SHARDLOG_TEST_CHILD" // set for a writer that will be killed
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(envChild); spec != "" {
		if spec == "damage" {
			runDamageChild()
			return
		}
		if rest, once := strings.CutPrefix(spec, "once "); once {
			runOnceChild(rest)
		} else {
			runChild(spec)
		}
		return
	}
	leaktest.Main(m)
}

func envInt(name string, or int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return or
}

// newRand returns a source of randomness and logs its seed if the test fails.
func newRand(t testing.TB) (*rand.Rand, int64) {
	seed := int64(envInt(envSeed, 0))
	if seed == 0 {
		seed = time.Now().UnixNano() ^ int64(os.Getpid())
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with %s=%d", envSeed, seed)
		}
	})
	return rand.New(rand.NewSource(seed)), seed
}

// smallOptions keep files small; the tests need little room.
func smallOptions() *Options {
	return &Options{ValueLogFileBytes: 1 << 20, MinFreeBytes: 1 << 20}
}

func openDB(t testing.TB, dir string, o *Options) *DB {
	t.Helper()
	db, err := Open(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func openMem(t testing.TB) *DB {
	t.Helper()
	return openDB(t, "", &Options{InMemory: true})
}

func create(t testing.TB, db *DB, name string, cfg Config) *Stream {
	t.Helper()
	st, err := db.Create(t.Context(), name, cfg)
	require.NoError(t, err)
	return st
}

func put(t testing.TB, st *Stream, key, data string) shardlog.PutResult {
	t.Helper()
	res, err := st.Put(t.Context(), shardlog.Record{PartitionKey: key, Data: []byte(data)})
	require.NoError(t, err)
	return res
}

// readAll returns every record of a shard; none if the shard was forgotten. If
// retention overtakes the reading it begins again.
func readAll(t testing.TB, st *Stream, shardID string) []shardlog.Record {
	t.Helper()
again:
	var out []shardlog.Record
	for r, err := range st.Records(context.Background(), shardID, shardlog.TrimHorizon()) {
		if errors.Is(err, shardlog.ErrExpired) {
			goto again
		}
		if errors.Is(err, shardlog.ErrNotFound) {
			return nil
		}
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

// readStream returns every record of a stream, parents before children.
func readStream(t testing.TB, st *Stream) []shardlog.Record {
	t.Helper()
	var out []shardlog.Record
	for _, s := range shards(t, st) {
		out = append(out, readAll(t, st, s.ID)...)
	}
	return out
}

func shards(t testing.TB, st *Stream) []shardlog.ShardInfo {
	t.Helper()
	infos, err := st.Shards(context.Background())
	require.NoError(t, err)
	return infos
}

func openShards(t testing.TB, st *Stream) (open []shardlog.ShardInfo) {
	t.Helper()
	for _, s := range shards(t, st) {
		if !s.Closed {
			open = append(open, s)
		}
	}
	return open
}

func shardID(n int) string { return shardlog.ShardID(uint32(n)) }

// requireCovered checks that the open shards cover all hash keys once, and
// that children come after their parents.
func requireCovered(t testing.TB, infos []shardlog.ShardInfo) {
	t.Helper()
	byStart, byID := map[shardlog.HashKey]shardlog.ShardInfo{}, map[string]shardlog.ShardInfo{}
	open := 0
	for _, s := range infos {
		byID[s.ID] = s
		for _, p := range s.Parents {
			require.Less(t, p, s.ID)
			if parent, ok := byID[p]; ok {
				require.True(t, parent.Closed)
				require.False(t, s.Created.Before(parent.Created))
				created, _ := s.First.Created()
				before, _ := parent.First.Created()
				require.True(t, created.After(before), "a child's numbers are above its parent's")
				require.Negative(t, parent.Last.Compare(s.First))
			}
		}
		if !s.Closed {
			byStart[s.HashStart] = s
			open++
		}
	}
	require.Len(t, byStart, open)
	next, more := shardlog.NewHashKey(0, 0), true
	for ; more; open-- {
		s, ok := byStart[next]
		require.True(t, ok, "no open shard begins at %v", next)
		next, more = s.HashEnd.Next()
	}
	require.Zero(t, open)
}

// surviving is a kv.Store in memory whose contents outlive Close, so that a
// database can be opened on them again as after a crash. It can die at a
// chosen change, a commit or an entry of the journal, with or without it.
type surviving struct {
	*kvtest.Faulty
	mu      sync.Mutex
	changes int
	dieAt   int  // the change that is the last, from 1; 0 for none
	applied bool // whether that one is stored
	dead    bool
	refused int // how many of the next commits fail with nothing stored
}

func newSurviving() *surviving { return &surviving{Faulty: kvtest.New(kv.NewMemory())} }

func (s *surviving) Commit(b *kv.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return fmt.Errorf("%w: killed", shardlog.ErrStorage)
	}
	if s.refused > 0 {
		s.refused--
		return kvtest.ErrInjected
	}
	s.changes++
	if s.changes != s.dieAt {
		return s.Faulty.Commit(b)
	}
	s.dead = true
	if s.applied {
		if err := s.Faulty.Commit(b); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: killed", shardlog.ErrStorage)
}

func (s *surviving) Journal() kv.Journal { return survivingJournal{s.Faulty.Journal(), s} }

// survivingJournal is the journal of a surviving.
type survivingJournal struct {
	kv.Journal
	s *surviving
}

// Append implements kv.Journal. An entry is refused together with the commit that
// comes in its place.
func (j survivingJournal) Append(pieces ...[]byte) (kv.Position, bool) {
	s := j.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead || s.refused > 0 {
		return kv.Position{}, false
	}
	s.changes++
	if s.changes != s.dieAt {
		return j.Journal.Append(pieces...)
	}
	s.dead = true
	if s.applied {
		j.Journal.Append(pieces...)
	}
	return kv.Position{}, false
}

func (s *surviving) Close() error { return nil }

// refuse makes the next n commits fail with nothing stored.
func (s *surviving) refuse(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = n
}

// dieAfter lets the store die at the n-th change from now, or immediately if n is 0.
func (s *surviving) dieAfter(n int, applied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dieAt, s.applied, s.dead = s.changes+n, applied, n == 0
}

func (s *surviving) died() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

// spare takes back dieAfter; it is false if the store is dead already.
func (s *surviving) spare() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dieAt = 0
	return !s.dead
}

func (s *surviving) revive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead, s.dieAt = false, 0
}

// open opens a database on the store, which need not be closed in order.
func (s *surviving) open(t testing.TB, o *Options) *DB {
	t.Helper()
	opts, err := o.withDefaults("dir")
	require.NoError(t, err)
	db, err := openOn(s, opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// hashOf returns where a record of the stream belongs.
func hashOf(st *Stream, r *shardlog.Record) shardlog.HashKey {
	return st.Info().Hash.hashKey(r)
}

// counterOf returns the counter of a number that the log gave out.
func counterOf(n shardlog.SequenceNumber) uint64 {
	c, _ := n.Counter()
	return c
}

func init() { logstore.PoisonBorrowed(true) }

// copied makes an iteration over borrowed records one over records.
func copied(seq iter.Seq2[*shardlog.Record, error]) iter.Seq2[shardlog.Record, error] {
	return func(yield func(shardlog.Record, error) bool) {
		for r, err := range seq {
			c := shardlog.Record{}
			if err == nil {
				c = *r
				c.PartitionKey, c.Data, c.DedupID = strings.Clone(r.PartitionKey), bytes.Clone(r.Data), strings.Clone(r.DedupID)
				c.Headers = nil
				for _, h := range r.Headers {
					c.Headers = append(c.Headers, shardlog.Header{Key: strings.Clone(h.Key), Value: strings.Clone(h.Value)})
				}
			}
			if !yield(c, err) {
				return
			}
		}
	}
}
