package logstore

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// The runs of verified have just the blocks that were added, in as few runs as
// can be.
func TestVerifiedRuns(t *testing.T) {
	rnd := kvtest.Rand(t)
	for range 200 {
		var v verified
		var refs []blockRef
		next := uint64(1 + rnd.Intn(5))
		for range 1 + rnd.Intn(40) {
			next += uint64(rnd.Intn(2) * rnd.Intn(9)) // a gap now and then
			refs = append(refs, blockRef{first: next, count: uint32(1 + rnd.Intn(9))})
			next = refs[len(refs)-1].end()
		}
		known := map[uint64]bool{}
		for range 2 * len(refs) {
			e := &refs[rnd.Intn(len(refs))]
			v.add(2, e, 0)
			known[e.first] = true
			for i := range refs {
				require.Equal(t, known[refs[i].first], v.has(2, &refs[i]))
				require.False(t, v.has(4, &refs[i]))
			}
			for i := 1; i < len(v.runs); i++ {
				require.Less(t, v.runs[i-1].to, v.runs[i].from)
			}
		}
		v.add(0, &blockRef{first: 1e6, count: 1}, 0)
		require.False(t, v.has(0, &blockRef{first: 1e6, count: 1}), "it is of an earlier generation")
		for i := range refs {
			v.add(2, &refs[i], 0)
		}
		v.add(2, &blockRef{first: 1e6, count: 1}, next)
		require.Len(t, v.runs, 1, "what is below the horizon is forgotten")
		v.add(4, &refs[0], 0)
		require.False(t, v.has(2, &blockRef{first: 1e6, count: 1}))
		require.True(t, v.has(4, &refs[0]))
		v.forget()
		require.False(t, v.has(4, &refs[0]))
	}
}

// verifiedLog has five blocks of ten records, which are not in memory.
func verifiedLog(t *testing.T) (*Log, *Shard, *moving, [][]byte) {
	store := &moving{Faulty: kvtest.New(kv.NewMemory())}
	l, ss := openOn(t, store, 1, Options{TailBytes: 1, CacheBytes: 1})
	for i := range 5 {
		require.NoError(t, put(l, ss[0], numbers(10*i, 10*i+10, 2000)...))
	}
	keys := blockKeys(t, store)
	require.Len(t, keys, 5)
	return l, ss[0], store, keys
}

// moving is a store whose Reclaim moves values on request.
type moving struct {
	*kvtest.Faulty
	moved bool
	err   error
	in    func() // called during Reclaim
}

func (m *moving) Reclaim(_, _ int64) (more, moved bool, err error) {
	if m.in != nil {
		m.in()
	}
	return false, m.moved, m.err
}

// readers are the ways to read a shard; each returns the data, and what is damaged.
var readers = map[string]func(t *testing.T, s *Shard) (data []string, damaged []*shardlog.CorruptError){
	"Records": func(t *testing.T, s *Shard) (data []string, damaged []*shardlog.CorruptError) {
		for r, err := range s.Records(ctx, shardlog.TrimHorizon()) {
			if c := damageOf(t, err); c != nil {
				damaged = append(damaged, c)
			} else {
				data = append(data, string(r.Data))
			}
		}
		return data, damaged
	},
	"Scan": func(t *testing.T, s *Shard) (data []string, damaged []*shardlog.CorruptError) {
		for r, err := range s.Scan(ctx, shardlog.TrimHorizon()) {
			if c := damageOf(t, err); c != nil {
				require.Nil(t, r)
				damaged = append(damaged, c)
			} else {
				data = append(data, string(r.Data))
			}
		}
		return data, damaged
	},
	"pages":       func(t *testing.T, s *Shard) ([]string, []*shardlog.CorruptError) { return readPages(t, s, 7) },
	"large pages": func(t *testing.T, s *Shard) ([]string, []*shardlog.CorruptError) { return readPages(t, s, 10000) },
}

func damageOf(t *testing.T, err error) *shardlog.CorruptError {
	var c *shardlog.CorruptError
	if !errors.As(err, &c) {
		require.NoError(t, err)
	}
	return c
}

func readPages(t *testing.T, s *Shard, size int) (data []string, damaged []*shardlog.CorruptError) {
	for from := shardlog.TrimHorizon(); ; {
		p, err := s.Read(ctx, shardlog.ReadRequest{From: from, MaxRecords: size})
		if c := damageOf(t, err); c != nil {
			damaged, from = append(damaged, c), c.Next
			continue
		}
		for i := range p.Records {
			data = append(data, string(p.Records[i].Data))
		}
		if from = p.Next; p.BehindRecords == 0 {
			return data, damaged
		}
	}
}

// flipLast changes the last bit of a record's data in the third block: nothing but
// the checksum shows it.
func flipLast(keys [][]byte) func(key, value []byte) []byte {
	return func(key, value []byte) []byte {
		if string(key) == string(keys[2]) {
			value[len(value)-30] ^= 1
		}
		return value
	}
}

// A block is verified when it is read first, and not again until the store may
// have moved it, an error was met, or the log is opened again.
func TestABlockIsVerifiedOnceUntilItMayHaveChanged(t *testing.T) {
	smallBlocks(t)
	intact := numbers(0, 50, 2000)
	for name, read := range readers {
		t.Run(name, func(t *testing.T) {
			l, s, store, keys := verifiedLog(t)
			found := func(why string) {
				t.Helper()
				store.Damage(flipLast(keys))
				data, damaged := read(t, s)
				require.Len(t, damaged, 1, why)
				requireDamage(t, damaged[0])
				require.Contains(t, damaged[0].Reason, "checksum")
				require.Equal(t, append(numbers(0, 20, 2000), numbers(30, 50, 2000)...), data)
				store.Damage(nil)
			}
			whole := func(why string) {
				t.Helper()
				data, damaged := read(t, s)
				require.Empty(t, damaged, why)
				require.Len(t, data, len(intact))
			}
			found("when it is read first")
			whole("damage that has gone")
			store.Damage(flipLast(keys))
			whole("not verified again")
			store.Damage(nil)

			_, err := l.Reclaim()
			require.NoError(t, err)
			store.Damage(flipLast(keys))
			whole("nothing was moved")
			store.Damage(nil)

			store.moved = true
			_, err = l.Reclaim()
			require.NoError(t, err)
			found("the store has moved it")
			whole("verified again")

			store.moved, store.err = false, errInjected
			_, err = l.Reclaim()
			require.ErrorIs(t, err, errInjected)
			found("the store may have moved it")
			whole("verified again")

			store.err = nil
			store.in = func() { found("the store may be moving it"); whole("also then") }
			_, err = l.Reclaim()
			require.NoError(t, err)
			store.in = nil
			whole("verified before that")

			store.FailAt(1, kvtest.Get, kvtest.Refuse, nil)
			_, err = s.Read(ctx, shardlog.ReadRequest{MaxRecords: 1})
			require.ErrorIs(t, err, kvtest.ErrInjected)
			found("something could not be read")

			whole("verified again")
			_, again := openOn(t, store, 1, Options{TailBytes: 1, CacheBytes: 1})
			s = again[0]
			found("opened again")
		})
	}
}

// What the store moves while a block is being copied from it is not trusted.
func TestAMoveDuringAReadIsNoticed(t *testing.T) {
	smallBlocks(t)
	l, s, store, keys := verifiedLog(t)
	for name, read := range readers {
		t.Run(name, func(t *testing.T) {
			_, damaged := read(t, s)
			require.Empty(t, damaged)
			store.moved = true
			store.OnRead(func(kvtest.Op, []byte) {
				store.OnRead(nil) // the first time only
				store.Damage(flipLast(keys))
				_, err := l.Reclaim()
				require.NoError(t, err)
			})
			_, damaged = read(t, s)
			require.Len(t, damaged, 1)
			store.Revive()
			_, damaged = read(t, s)
			require.Empty(t, damaged)
		})
	}
}

// Damage to a block that is trusted, where it does not decode any more, is
// reported as that of one that is read first: the block as a whole.
func TestDamageThatATrustedBlockShows(t *testing.T) {
	smallBlocks(t)
	for name, read := range readers {
		for at, spoil := range map[string]func(v []byte){
			"flags":   func(v []byte) { v[64+2100*4] |= 0x40; clear(v[64+2000*4 : 64+2100*5]) },
			"header":  func(v []byte) { v[16]++ },
			"magic":   func(v []byte) { v[8]++ },
			"cut":     func(v []byte) { v[60] = 255 },
			"records": func(v []byte) { clear(v[64+9000:]) },
		} {
			t.Run(name+", "+at, func(t *testing.T) {
				_, s, store, keys := verifiedLog(t)
				_, damaged := read(t, s)
				require.Empty(t, damaged)
				store.Damage(func(key, value []byte) []byte {
					if string(key) == string(keys[2]) {
						spoil(value)
					}
					return value
				})
				data, damaged := read(t, s)
				require.Len(t, damaged, 1)
				require.EqualValues(t, base+1+29, counterOf(damaged[0].Last))
				require.EqualValues(t, base+1+30, counterOf(damaged[0].Next.Sequence()))
				require.GreaterOrEqual(t, len(data), 40)
				require.Equal(t, numbers(0, 20, 2000), data[:20])
				require.Equal(t, numbers(30, 50, 2000), data[len(data)-20:])
				store.Damage(nil)
				data, damaged = read(t, s)
				require.Empty(t, damaged)
				require.Equal(t, numbers(0, 50, 2000), data)
			})
		}
	}
}

// A fetch that waits for its next page keeps no block of the last one.
func TestAFetchForgetsItsBlocks(t *testing.T) {
	smallBlocks(t)
	_, s, _, _ := verifiedLog(t)
	refs := s.view().blocks
	require.Greater(t, len(refs), 1)
	var f fetch
	for _, n := range []int{len(refs), 1} {
		f.run(s, refs[:n], false)
		require.NoError(t, f.err)
	}
	f.forget()
	for _, v := range f.values[:cap(f.values)] {
		require.Nil(t, v)
	}
}
