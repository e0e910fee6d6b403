package block

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// A block that records are added to in place reads like one that was built in one go,
// and its bare form has what was added. What is taken back leaves no trace.
func TestRecordsAreAddedInPlace(t *testing.T) {
	rnd := newRand(t)
	for range 40 {
		run := randomRun(rnd, 2+rnd.Intn(200), 1000, 5000)
		first := blockOf(run[:1], 999)
		b := Start(&first, 4096+rnd.Intn(200<<10))
		last := run[0].ms
		for at := 1; at < len(run); {
			before := b
			to := min(at+1+rnd.Intn(12), len(run))
			for i := at; i < to; i++ {
				run[i].ms = max(last, run[at].ms) // a call has one time
			}
			a, ok := b.Add(run[at].ms)
			n, began := at, ok
			for ok && n < to {
				if ok = addTo(&a, &run[n].r, rnd.Intn(2) == 0); ok {
					n++
				}
			}
			if !ok || rnd.Intn(4) == 0 {
				if began {
					a.Undo()
				}
				require.Equal(t, before.Extent(), b.Extent())
				requireRun(t, run[:at], &b)
				if !ok {
					break // the memory is used up
				}
				continue
			}
			last = run[at].ms
			require.Equal(t, run[to-1].counter+1, a.End())
			require.Equal(t, b.Len()-before.Len(), a.Grown())
			added := a.Added()
			require.Equal(t, Header{First: run[at].counter, Prev: run[at].counter - 1, Count: uint32(to - at), FirstMs: last, LastMs: last}, added.Header)
			require.Equal(t, a.Len(), added.Len())
			requireBare(t, run[at:to], &a)
			requireRun(t, run[:to], &b)
			requireEverySeek(t, run[:to], &b)
			inPlace := before.Upto(b.Extent())
			requireRun(t, run[:to], &inPlace)
			requireRun(t, run[:at], &before)
			at = to
		}
		whole := Merge(&b)
		decoded, err := Decode(encoded(&whole, Zstd))
		require.NoError(t, err)
		requireRun(t, run[:b.Count], &decoded)
		requireEverySeek(t, run[:b.Count], &decoded)
		require.Equal(t, uint64(999), decoded.Prev)
	}
}

// addTo adds a record, sometimes one that is encoded already.
func addTo(a *Addition, r *shardlog.Record, ready bool) bool {
	if !ready || r.DedupID != "" || len(r.Headers) > 0 {
		return a.Record(r)
	}
	it := Encoded{Key: r.PartitionKey, HashKey: r.ExplicitHashKey, Data: r.Data}
	it.Bytes = AppendRecord(nil, it.Key, it.HashKey, it.Data)
	return a.Encoded(&it)
}

// requireBare checks the bare form of what was added.
func requireBare(t *testing.T, run []placed, a *Addition) {
	t.Helper()
	head, records := a.AppendBare([]byte("before"))
	require.Equal(t, "before", string(head[:6]))
	head = head[6:]
	require.Len(t, head, BareHead)
	require.Len(t, records, a.Len())
	p := append(bytes.Clone(head), records...)
	b, err := DecodeBare(p)
	require.NoError(t, err)
	clear(p)
	requireRun(t, run, &b)
	requireEverySeek(t, run, &b)
	whole, err := Decode(b.Encoded(None))
	require.NoError(t, err)
	requireRun(t, run, &whole)
}

// Records are not added where they would arrive before others, nor where there is no
// memory for them or for their restart points.
func TestRecordsThatCannotBeAdded(t *testing.T) {
	run := evenRun(3, 10)
	one := blockOf(run[:1], 0)
	b := Start(&one, 2000)
	_, ok := b.Add(run[0].ms - 1)
	require.False(t, ok)
	requireRun(t, run[:1], &b)

	a, ok := b.Add(run[1].ms)
	require.True(t, ok)
	require.True(t, a.Record(&run[1].r))
	require.False(t, a.Record(&shardlog.Record{PartitionKey: "k", Data: make([]byte, 5000)}))
	require.Equal(t, run[1].counter+1, a.End(), "what was added before stays")
	requireRun(t, run[:2], &b)

	b.raw = b.raw[:len(b.raw):len(b.raw)]
	_, ok = b.Add(run[2].ms)
	require.False(t, ok)

	big := evenRun(4, 4000)
	one = blockOf(big[:1], 0)
	b = Start(&one, 1<<20)
	b.table = b.table[:len(b.table):len(b.table)]
	a, ok = b.Add(big[1].ms)
	require.True(t, ok)
	require.True(t, a.Record(&big[1].r))
	require.False(t, a.Record(&big[2].r), "a restart point is due")
	a.Undo()
	requireRun(t, big[:1], &b)
}

// FuzzDecodeBare gives arbitrary bytes to DecodeBare. What it takes is a block that reads
// to its end and can be stored.
func FuzzDecodeBare(f *testing.F) {
	for _, size := range []int{10, 1500} {
		run := evenRun(6, size)
		run[3].r.Headers = []shardlog.Header{{Key: "key", Value: "value"}, {}}
		run[4].r.DedupID = "id"
		one := blockOf(run[:1], 0)
		b := Start(&one, 20_000)
		a, _ := b.Add(run[1].ms)
		for i := range run[1:] {
			a.Record(&run[1+i].r)
		}
		head, records := a.AppendBare(nil)
		f.Add(append(head, records...))
	}
	f.Add(make([]byte, BareHead))
	f.Add(binary.LittleEndian.AppendUint32(make([]byte, 16), 1))
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := DecodeBare(bytes.Clone(p))
		if err != nil {
			require.True(t, isDamage(err), "%v", err)
			return
		}
		require.Equal(t, len(p)-BareHead, b.Len())
		it, err := b.Seek(b.First)
		require.NoError(t, err)
		var item Item
		n := uint32(0)
		for {
			ok, err := it.Next(&item)
			require.NoError(t, err)
			if !ok {
				break
			}
			n++
			require.Equal(t, b.LastMs, item.Ms)
		}
		require.Equal(t, b.Count, n)
		use(t, bytes.Clone(b.Encoded(None)))
	})
}
