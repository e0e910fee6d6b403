package logstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// blockKeys returns the keys of the stored blocks.
func blockKeys(t *testing.T, store kv.Store) (keys [][]byte) {
	require.NoError(t, store.Scan([]byte{prefixBlock}, func(k []byte, _ int64) bool {
		keys = append(keys, append([]byte(nil), k...))
		return true
	}))
	return keys
}

// damagedLog stores five blocks of ten records and lets damage spoil the third.
func damagedLog(t *testing.T, damage func(store kv.Store, key []byte)) *Shard {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 1, Options{})
	for i := range 5 {
		require.NoError(t, put(l, ss[0], numbers(10*i, 10*i+10, 2000)...))
	}
	keys := blockKeys(t, store)
	require.Len(t, keys, 5)
	damage(store, keys[2])
	_, again := openOn(t, store, 1, Options{})
	return again[0]
}

func TestDamageIsReportedAndTheRestIsReadable(t *testing.T) {
	smallBlocks(t)
	flip := func(store kv.Store, key []byte) {
		v, err := store.Get(key)
		require.NoError(t, err)
		v[len(v)/2] ^= 1
		var b kv.Batch
		b.Set(key, v)
		require.NoError(t, store.Commit(&b))
	}
	remove := func(store kv.Store, key []byte) {
		var b kv.Batch
		b.Delete(key)
		require.NoError(t, store.Commit(&b))
	}
	for name, damage := range map[string]func(kv.Store, []byte){"a flipped bit": flip, "a block that is gone": remove} {
		t.Run(name, func(t *testing.T) {
			s := damagedLog(t, damage)
			var got []string
			var damages []*shardlog.CorruptError
			for r, err := range s.Records(ctx, shardlog.TrimHorizon()) {
				var c *shardlog.CorruptError
				if errors.As(err, &c) {
					damages = append(damages, c)
					continue
				}
				require.NoError(t, err)
				got = append(got, string(r.Data))
			}
			require.Equal(t, append(numbers(0, 20, 2000), numbers(30, 50, 2000)...), got)
			require.Len(t, damages, 1)
			requireDamage(t, damages[0])

			// The same by pages.
			got = nil
			from := shardlog.TrimHorizon()
			for {
				p, err := s.Read(ctx, shardlog.ReadRequest{From: from, MaxRecords: 7})
				var c *shardlog.CorruptError
				if errors.As(err, &c) {
					requireDamage(t, c)
					from = c.Next
					continue
				}
				require.NoError(t, err)
				if len(p.Records) == 0 {
					break
				}
				for _, r := range p.Records {
					got = append(got, string(r.Data))
				}
				from = p.Next
			}
			require.Equal(t, append(numbers(0, 20, 2000), numbers(30, 50, 2000)...), got)
		})
	}
}

func requireDamage(t *testing.T, c *shardlog.CorruptError) {
	t.Helper()
	require.ErrorIs(t, c, shardlog.ErrCorrupt)
	require.Equal(t, "shardId-000000000000", c.Shard)
	require.EqualValues(t, base+1+20, counterOf(c.First))
	require.EqualValues(t, base+1+29, counterOf(c.Last))
	require.EqualValues(t, base+1+30, counterOf(c.Next.Sequence()))
	require.NotEmpty(t, c.Reason)
}

// A block may have a right checksum and yet a record that is none, because it
// was damaged before it was stored. Pages have what is before that record, and
// reading continues after it.
func TestDamageOfOneRecordInsideABlock(t *testing.T) {
	smallBlocks(t)
	const records, bad = 20, 7
	headers := []shardlog.Header{{Key: "header", Value: "value"}}
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 1, Options{})
	rs, ts, res := make([]shardlog.Record, records), make([]*Shard, records), make([]shardlog.PutResult, records)
	for i, data := range numbers(0, records, 2000) {
		rs[i], ts[i] = rec(data), ss[0]
		rs[i].Headers = headers
	}
	require.NoError(t, l.Append(ctx, rs, ts, res))
	keys := blockKeys(t, store)
	require.Len(t, keys, 1)
	v, err := store.Get(keys[0])
	require.NoError(t, err)
	at := 0
	for range bad + 1 {
		at += bytes.Index(v[at:], []byte("header")) + 1
	}
	v[at-2] = 200 // the length of the header's key
	binary.LittleEndian.PutUint64(v, xxhash.Sum64(v[8:]))
	var b kv.Batch
	b.Set(keys[0], v)
	require.NoError(t, store.Commit(&b))

	_, again := openOn(t, store, 1, Options{})
	s := again[0]
	for _, most := range []int{1, 5, records} {
		var got []string
		damages := 0
		for from := shardlog.TrimHorizon(); ; {
			p, err := s.Read(ctx, shardlog.ReadRequest{From: from, MaxRecords: most})
			if c := new(shardlog.CorruptError); errors.As(err, &c) {
				require.EqualValues(t, base+1+bad, counterOf(c.First))
				require.Equal(t, c.First, c.Last)
				damages, from = damages+1, c.Next
				continue
			}
			require.NoError(t, err)
			if len(p.Records) == 0 {
				break
			}
			for _, r := range p.Records {
				require.Equal(t, headers, r.Headers)
				got = append(got, string(r.Data))
			}
			require.LessOrEqual(t, len(got), records, "reading advances")
			from = p.Next
		}
		require.Equal(t, 1, damages)
		require.Equal(t, append(numbers(0, bad, 2000), numbers(bad+1, records, 2000)...), got)
	}
}

func TestDamagedEndAfterPowerLossIsDropped(t *testing.T) {
	smallBlocks(t)
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 1, Options{})
	for i := range 3 {
		require.NoError(t, put(l, ss[0], numbers(10*i, 10*i+10, 2000)...))
	}
	last := ss[0].Info().Last
	keys := blockKeys(t, store)
	var b kv.Batch
	b.Set(keys[2], []byte("not a block"))
	require.NoError(t, store.Commit(&b))

	again, err := Open(store, Options{}, configs(1), Recovery{Unsynced: true})
	require.NoError(t, err)
	s := again.Shard(ID{1, 0})
	require.Equal(t, numbers(0, 20, 2000), contents(t, s))
	require.NoError(t, put(again, s, "new"))
	require.Equal(t, append(numbers(0, 20, 2000), "new"), contents(t, s))
	require.Positive(t, s.Info().Last.Compare(last), "numbers that readers may have seen are not used again")
	require.NoError(t, again.Close())
}

func TestDamagedJournalValue(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 2, Options{})
	require.NoError(t, put(l, ss[0], "a"))
	require.NoError(t, put(l, ss[0], "b"))
	require.NoError(t, put(l, ss[1], "x"))
	last := ss[0].Info().Last
	require.NoError(t, l.Close())
	toSlots(t, store)
	v, err := store.Get(slotKey(1)) // "b"
	require.NoError(t, err)
	v[len(v)-1] ^= 1
	var b kv.Batch
	b.Set(slotKey(1), v)
	require.NoError(t, store.Commit(&b))

	again, err := Open(store, Options{}, configs(2), Recovery{})
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, contents(t, again.Shard(ID{1, 0})))
	require.Equal(t, []string{"x"}, contents(t, again.Shard(ID{1, 1})))
	require.NoError(t, put(again, again.Shard(ID{1, 0}), "c"))
	require.Positive(t, again.Shard(ID{1, 0}).Info().Last.Compare(last))
	require.NoError(t, again.Close())
}

// The records of a block that was lost at the end of a shard come from the journal. Where
// that has no room for them, they become the same block again.
func TestADroppedBlockComesBackFromTheJournal(t *testing.T) {
	for _, limit := range []int64{0, 1000} {
		store := kvtest.New(kv.NewMemory())
		l, ss := openOn(t, store, 1, Options{})
		want := numbers(0, 20, 2000)
		for _, d := range want {
			require.NoError(t, put(l, ss[0], d))
		}
		run := ss[0].view().run.b
		require.NoError(t, l.Close())
		var b kv.Batch
		b.Set(blockKey(ss[0].id, &blockRef{first: run.First, count: run.Count, firstMs: run.FirstMs, lastMs: run.LastMs}), []byte("not a block"))
		require.NoError(t, store.Commit(&b))
		store.LimitJournal(limit)

		again, err := Open(store, Options{}, configs(1), Recovery{Unsynced: true})
		require.NoError(t, err)
		requireContents(t, want, again.Shard(ID{1, 0}))
		require.NoError(t, again.Close())
	}
}
