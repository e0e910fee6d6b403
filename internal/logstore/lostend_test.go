package logstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// readDamaged reads a shard by pages and by the iterator, continuing after
// damage, and requires that both say the same.
func readDamaged(t *testing.T, s *Shard) (data []string, damages []*shardlog.CorruptError) {
	t.Helper()
	c, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for r, err := range s.Iterate(c, shardlog.TrimHorizon(), IterateOptions{Follow: s.view().closed}) {
		var d *shardlog.CorruptError
		if errors.As(err, &d) {
			damages = append(damages, d)
			continue
		}
		require.NoError(t, err)
		data = append(data, string(r.Data))
	}
	var paged []string
	n := 0
	for from := shardlog.TrimHorizon(); ; {
		require.NoError(t, c.Err())
		p, err := s.Read(c, shardlog.ReadRequest{From: from, MaxRecords: 3})
		var d *shardlog.CorruptError
		if errors.As(err, &d) {
			require.Equal(t, damages[n], d)
			n, from = n+1, d.Next
			continue
		}
		require.NoError(t, err)
		for _, r := range p.Records {
			paged = append(paged, string(r.Data))
		}
		if from = p.Next; p.End || (len(p.Records) == 0 && !s.view().closed) {
			break
		}
	}
	require.Equal(t, data, paged)
	require.Len(t, damages, n)
	return data, damages
}

// A shard that was closed records how far it goes, so a reader must neither wait
// for what is lost at its end nor take the end for reached.
func TestTheLostEndOfAClosedShardIsReported(t *testing.T) {
	smallBlocks(t)
	for name, key := range map[string]byte{"in the journal": prefixJournal, "in a block": prefixBlock} {
		t.Run(name, func(t *testing.T) {
			store := kvtest.New(kv.NewMemory())
			l, ss := openOn(t, store, 1, Options{})
			require.NoError(t, put(l, ss[0], "a", "b"))
			size := 1
			if key == prefixBlock {
				size = 20 << 10
			}
			require.NoError(t, put(l, ss[0], numbers(0, 3, size)...))
			last := ss[0].Info().Last
			_, err := l.Change(ctx, Change{Close: ss[:1]})
			require.NoError(t, err)
			require.NoError(t, l.Close())
			toSlots(t, store)

			var newest []byte
			require.NoError(t, store.Scan([]byte{key}, func(k []byte, _ int64) bool { newest = append([]byte(nil), k...); return true }))
			store.Drop(func(k []byte) bool { return string(k) == string(newest) })
			cs := configs(1)
			cs[0].Closed, cs[0].Last = true, counterOf(last)
			l, err = Open(store, Options{}, cs, Recovery{})
			require.NoError(t, err)
			defer l.Close()
			data, damages := readDamaged(t, l.Shard(ID{1, 0}))
			require.Equal(t, append([]string(nil), []string{"a", "b"}[:len(data)]...), data)
			require.Len(t, damages, 1)
			require.Equal(t, counterOf(last), counterOf(damages[0].Last))
			require.Equal(t, counterOf(last)+1, counterOf(damages[0].Next.Sequence()))
			require.EqualValues(t, -1, damages[0].Offset)
			s := l.Shard(ID{1, 0})
			require.NoError(t, s.Trim(ctx, counterOf(last)+1))
			require.True(t, s.Info().Empty, "retention can drop it")
		})
	}
}

// The number of a part's shard is in no block: damage to it must not put
// records on another shard.
func TestDamageDoesNotMoveRecordsToAnotherShard(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 4, Options{})
	require.NoError(t, put(l, ss[0], "of shard 0"))
	require.NoError(t, l.Close())
	toSlots(t, store)
	for bit := range 8 * partHead {
		store.Damage(func(k, v []byte) []byte {
			if k[0] == prefixJournal {
				v[slotHeader+bit/8] ^= 1 << (bit % 8)
			}
			return v
		})
		l, err := Open(store, Options{}, configs(4), Recovery{})
		require.NoError(t, err)
		for i := 1; i < 4; i++ {
			require.Empty(t, contents(t, l.Shard(ID{1, uint32(i)})), "bit %d", bit)
		}
		require.NoError(t, l.Close())
	}
}

// One value of the journal that the store cannot read must not keep everything
// else from being opened.
func TestAJournalValueThatCannotBeReadIsDamage(t *testing.T) {
	store, last := withSlots(t)
	store.FailAt(1, kvtest.Get, kvtest.Refuse, fmt.Errorf("%w: value log file is gone", shardlog.ErrCorrupt))
	l, err := Open(store, Options{}, configs(2), Recovery{})
	require.NoError(t, err)
	require.True(t, store.Hit())
	require.Empty(t, contents(t, l.Shard(ID{1, 0})))
	require.Equal(t, []string{"b"}, contents(t, l.Shard(ID{1, 1})))
	require.NoError(t, put(l, l.Shard(ID{1, 0}), "c"))
	require.Greater(t, counterOf(l.Shard(ID{1, 0}).Info().Last), counterOf(last), "its numbers are not used again")
	require.NoError(t, l.Close())
}

// An error that may go away is none of the log's contents: nothing was lost.
func TestAJournalValueThatCannotBeReadNow(t *testing.T) {
	store, _ := withSlots(t)
	store.FailAt(1, kvtest.Get, kvtest.Refuse, nil)
	_, err := Open(store, Options{}, configs(2), Recovery{})
	require.ErrorIs(t, err, kvtest.ErrInjected)
	l, err := Open(store, Options{}, configs(2), Recovery{})
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, contents(t, l.Shard(ID{1, 0})))
	require.Equal(t, []string{"b"}, contents(t, l.Shard(ID{1, 1})))
	require.NoError(t, l.Close())
}

// withSlots returns a store with a record in each of two shards, both in slots of the
// journal, and the number of the first shard's.
func withSlots(t *testing.T) (store *kvtest.Faulty, last shardlog.SequenceNumber) {
	t.Helper()
	store = kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 2, Options{})
	require.NoError(t, put(l, ss[0], "a"))
	require.NoError(t, put(l, ss[1], "b"))
	last = ss[0].Info().Last
	require.NoError(t, l.Close())
	toSlots(t, store)
	return store, last
}

// trimBefore makes the store trim s up to a counter just before it reads a
// block for the n-th time.
func trimBefore(t *testing.T, store *kvtest.Faulty, s *Shard, n int, upto uint64) {
	store.OnRead(func(_ kvtest.Op, key []byte) {
		if key[0] == prefixBlock {
			if n--; n == 0 {
				if err := s.Trim(ctx, upto); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// Retention may remove a block between its being found and its being read.
func TestABlockThatIsTrimmedWhileItIsRead(t *testing.T) {
	for name, from := range map[string]shardlog.Position{
		"trim horizon": shardlog.TrimHorizon(),
		"time":         shardlog.AtTime(time.Unix(1, 0)),
	} {
		for n := 1; n <= 2; n++ {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				store := kvtest.New(kv.NewMemory())
				l, ss := openOn(t, store, 1, Options{TailBytes: 1, CacheBytes: 1})
				s := ss[0]
				for i := range 4 {
					require.NoError(t, put(l, s, numbers(i*10, i*10+10, 2000)...))
				}
				trimBefore(t, store, s, n, base+1+10)
				p, err := s.Read(ctx, shardlog.ReadRequest{From: from, MaxRecords: 1})
				require.NoError(t, err)
				require.Len(t, p.Records, 1)
				trimBefore(t, store, s, n, base+1+20)
				var got []string
				for r, err := range s.Records(ctx, from) {
					require.NoError(t, err)
					got = append(got, string(r.Data))
				}
				require.Equal(t, numbers(40-len(got), 40, 2000), got)
				require.GreaterOrEqual(t, len(got), 20)
			})
		}
	}
}

// A reader may be overtaken again and again.
func TestAReaderThatIsOvertakenAtEachRead(t *testing.T) {
	smallBlocks(t)
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 1, Options{TailBytes: 1, CacheBytes: 1})
	s := ss[0]
	for i := range 10 {
		require.NoError(t, put(l, s, numbers(i*10, i*10+10, 2000)...))
	}
	upto := uint64(base + 1)
	store.OnRead(func(_ kvtest.Op, key []byte) {
		if key[0] == prefixBlock && upto < base+1+50 {
			upto += 10
			if err := s.Trim(ctx, upto); err != nil {
				t.Error(err)
			}
		}
	})
	for _, from := range []shardlog.Position{shardlog.TrimHorizon(), shardlog.AtTime(time.Unix(1, 0))} {
		upto = s.view().horizon
		p, err := s.Read(ctx, shardlog.ReadRequest{From: from})
		require.NoError(t, err)
		require.NotEmpty(t, p.Records)
		require.Equal(t, numbers(99, 100, 2000)[0], string(p.Records[len(p.Records)-1].Data))
	}
	// A position that is not relative is reported.
	store.OnRead(nil)
	at := shardlog.At(s.sequence(s.view().horizon, 0))
	trimBefore(t, store, s, 1, base+1+70)
	_, err := s.Read(ctx, shardlog.ReadRequest{From: at})
	require.ErrorIs(t, err, shardlog.ErrExpired)
}

func TestAPositionInsideAPlainRecordTakesNoPlaceInThePage(t *testing.T) {
	l, ss := openOn(t, kvtest.New(kv.NewMemory()), 1, Options{})
	s := ss[0]
	require.NoError(t, put(l, s, "a", "bb", "c"))
	all, err := s.Read(ctx, shardlog.ReadRequest{})
	require.NoError(t, err)
	from := shardlog.AfterSub(all.Records[0].Sequence, 0)
	for _, req := range []shardlog.ReadRequest{{From: from, MaxRecords: 1}, {From: from, MaxBytes: 1}, {From: from, MaxBytes: 4}} {
		p, err := s.Read(ctx, req)
		require.NoError(t, err)
		require.Len(t, p.Records, 1, "at least one record when there is one")
		require.Equal(t, "bb", string(p.Records[0].Data))
		require.EqualValues(t, 1, p.BehindRecords)
		require.Less(t, p.Behind, time.Hour)
	}
}

func TestAPositionInsideTheShardsFirstNumberIsBeforeItsRecords(t *testing.T) {
	l, ss := openOn(t, kvtest.New(kv.NewMemory()), 1, Options{})
	require.NoError(t, put(l, ss[0], "a", "b"))
	from := shardlog.AfterSub(ss[0].Info().First, 0)
	p, err := ss[0].Read(ctx, shardlog.ReadRequest{From: from})
	require.NoError(t, err)
	require.Len(t, p.Records, 2)
	n := 0
	for _, err := range ss[0].Records(ctx, from) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 2, n)
}

// A disk that is full now and then leaves gaps in the numbers, so that what
// gathers in the journal cannot be joined. A transaction must stay within what
// the store takes anyway.
func TestGapsInTheJournalDoNotMakeATransactionTooLarge(t *testing.T) {
	smallBlocks(t)
	for _, c := range []struct{ shards, size int }{{1, 1}, {8, 200}, {40, 1}, {40, 1900}, {300, 100}} {
		t.Run(fmt.Sprint(c.shards, c.size), func(t *testing.T) {
			store := synced()
			l, ss := openOn(t, store, c.shards, Options{})
			var want []string
			rs, res := make([]shardlog.Record, c.shards), make([]shardlog.PutResult, c.shards)
			all := func(d string) error {
				for j := range rs {
					rs[j] = rec(d)
				}
				require.NoError(t, l.Append(ctx, rs, ss, res))
				return res[0].Err
			}
			for _, d := range numbers(0, 1100-3*c.shards, c.size) {
				for {
					store.FailAt(1, kvtest.Commit, kvtest.Refuse, shardlog.ErrNoSpace)
					err := all(d)
					if err != nil {
						require.ErrorIs(t, err, shardlog.ErrNoSpace)
						break
					}
					want = append(want, d) // blocks of other records met the full disk
				}
				require.NoError(t, all(d))
				want = append(want, d)
			}
			require.Zero(t, store.Refused())
			_, again := openOn(t, store, c.shards, Options{})
			for i, s := range ss {
				require.Equal(t, want, contents(t, s))
				require.Equal(t, want, contents(t, again[i]))
			}
			require.NoError(t, store.CheckValues())
		})
	}
}

// A journal value has to fit into a file of the value log.
func TestManyShardsInOneGroupDoNotMakeAJournalValueTooLarge(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	const shards, largest = 600, 1 << 20
	store.BeforeCommit(func(b *kv.Batch) error {
		for i := range b.Ops {
			if n := len(b.Ops[i].Value); n > largest {
				return fmt.Errorf("a value of %d bytes", n)
			}
		}
		return nil
	})
	l, ss := openOn(t, store, shards, Options{})
	rs, res := make([]shardlog.Record, shards), make([]shardlog.PutResult, shards)
	for i := range rs {
		rs[i] = rec(fmt.Sprintf("%05000d", i))
	}
	require.NoError(t, l.Append(ctx, rs, ss, res))
	for i := range res {
		require.NoError(t, res[i].Err)
		require.Equal(t, []string{string(rs[i].Data)}, contents(t, ss[i]))
	}
	_, again := openOn(t, store, shards, Options{})
	for i := range again {
		require.Equal(t, []string{string(rs[i].Data)}, contents(t, again[i]))
	}
}

// Values have blocks alone: one in bare form, which has no checksum of its own, is none.
func TestAValueWithAPartInBareForm(t *testing.T) {
	for i, test := range []struct {
		bare bool
		want int
	}{{false, 1}, {true, 0}} {
		v := make([]byte, slotHeader)
		if test.bare {
			v, _ = appendSomeBare(v, i)
		} else {
			entry, _ := someEntry(1)
			v = append(v, entry...)
		}
		_, v = new(Slots).value(v, 1)
		_, parts, err := decodeSlot(v)
		require.Len(t, parts, test.want)
		require.Equal(t, test.bare, err != nil)
	}
}

func TestAnUnknownJournalVersionIsNotReadAsRecords(t *testing.T) {
	v := make([]byte, slotHeader)
	binary.LittleEndian.PutUint32(v[8:], slotMagic)
	v[12] = slotVersion + 1
	_, parts, err := decodeSlot(v)
	require.Error(t, err)
	require.Empty(t, parts)
}
