package logstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/block"
)

// someEntry returns an entry of some parts, and what they are. Every fourth is in bare form.
func someEntry(n int) (entry []byte, parts []journalPart) {
	for i := range n {
		if i%4 == 3 {
			var p journalPart
			entry, p = appendSomeBare(entry, i)
			parts = append(parts, p)
			continue
		}
		var b block.Builder
		first := uint64(10 + i*7)
		b.Init(first, 0)
		for j := range 1 + i%3 {
			r := rec(fmt.Sprintf("record %d of part %d", j, i))
			if i%2 == 1 {
				r.DedupID = fmt.Sprint("id", j)
			}
			b.Append(&r, int64(1000+i*10+j))
		}
		p := journalPart{ID{1, uint32(i)}, b.Finish(first - 1)}
		entry, parts = appendEntry(entry, p.id, &p.b), append(parts, p)
	}
	return entry, parts
}

// appendSomeBare appends a part in bare form to an entry.
func appendSomeBare(entry []byte, i int) ([]byte, journalPart) {
	var run, whole block.Builder
	first := uint64(10 + i*7)
	run.Init(first-1, 0)
	whole.Init(first, 0)
	r := rec("a record before")
	run.Append(&r, 1000)
	b := run.Finish(first - 2)
	grown := b.Reserve()
	a, ok := grown.Add(2000)
	for j := range 1 + i%3 {
		r := rec(fmt.Sprintf("bare %d of part %d", j, i))
		if i%8 == 3 {
			r.DedupID = fmt.Sprint("id", j)
		}
		ok = a.Record(&r) && ok
		whole.Append(&r, 2000)
	}
	if !ok {
		panic("no memory for a few records")
	}
	entry, records := appendBareHead(entry, ID{1, uint32(i)}, &a)
	return append(entry, records...), journalPart{ID{1, uint32(i)}, whole.Finish(first - 1)}
}

// requireParts checks that the parts got are some of those that were written, in order.
func requireParts(t *testing.T, written, got []journalPart) {
	t.Helper()
	for i := range got {
		n := 0
		for n < len(written) && written[n].id != got[i].id {
			n++
		}
		require.Less(t, n, len(written), "part %v was not written, or is in another order", got[i].id)
		require.True(t, bytes.Equal(written[n].b.Encoded(block.None), got[i].b.Encoded(block.None)), "part %v", got[i].id)
		written = written[n+1:]
	}
}

// bareIn returns how many parts of an entry say that they are in bare form.
func bareIn(e []byte) (n int) {
	for len(e) >= partHead {
		size := binary.LittleEndian.Uint32(e[8:])
		if size&bareForm != 0 {
			n++
		}
		e = e[partHead:]
		e = e[min(uint64(size&^bareForm), uint64(len(e))):]
	}
	return n
}

// Of an entry that is damaged, what is read is what was written of some parts, under the
// number of their shard or, where the damage is there, of another one. What is in bare form, or
// becomes that, has no checksum: it is decoded to something, or not.
func FuzzEntryThatIsDamaged(f *testing.F) {
	f.Add(3, 12, []byte{1}, 0)
	f.Add(5, 70, []byte("xyz"), 0)
	f.Add(4, 8, []byte{0xff, 0xff, 0xff, 0xff}, 100)
	f.Add(1, 0, []byte{}, 90)
	f.Add(1, 8, []byte("V\x00\x00\x80\x05\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x01>"), 0)
	f.Add(8, 0, []byte{}, 20)
	f.Fuzz(func(t *testing.T, n, at int, change []byte, cut int) {
		if n < 0 || n > 40 || at < 0 || cut < 0 {
			return
		}
		entry, parts := someEntry(n)
		got, err := decodeEntry(bytes.Clone(entry))
		require.NoError(t, err)
		require.Len(t, got, n)
		requireParts(t, parts, got)
		damaged := bytes.Clone(entry)
		copy(damaged[min(at, len(damaged)):], change)
		if cut < len(damaged) {
			damaged = damaged[:len(damaged)-cut]
		}
		bare := bareIn(damaged)
		got, err = decodeEntry(damaged)
		if len(got) < n && len(damaged) == len(entry) {
			require.Error(t, err)
		}
		unknown := 0
		for _, p := range got {
			i := 0
			for i < n && !bytes.Equal(parts[i].b.Encoded(block.None), p.b.Encoded(block.None)) {
				i++
			}
			if i == n {
				unknown++
			}
		}
		require.LessOrEqual(t, unknown, bare, "a block that was not written")
	})
}

// What is made of an entry for a repaired database is read as the entry is.
func FuzzSlotsOfAnEntry(f *testing.F) {
	entry, _ := someEntry(5)
	f.Add(entry, entry[:200], uint32(0))
	f.Add([]byte{}, []byte("no entry"), uint32(7))
	f.Add([]byte("no entry"), entry, uint32(0))
	f.Fuzz(func(t *testing.T, a, b []byte, kept uint32) {
		var s Slots
		s.Keep(slotKey(kept%1000), nil)
		var last []byte
		next := uint64(0) // the least group that a value may have
		for _, e := range [][]byte{a, b} {
			want, _ := decodeEntry(bytes.Clone(e))
			var got []journalPart
			require.NoError(t, s.Values(bytes.Clone(e), func(key, value []byte) error {
				require.Negative(t, bytes.Compare(last, key), "values are in order")
				last = key
				n, ok := parseSlotKey(key)
				require.True(t, ok)
				require.GreaterOrEqual(t, n, kept%1000)
				group, parts, err := decodeSlot(value)
				require.NoError(t, err)
				require.GreaterOrEqual(t, group, next)
				next = group + 1
				got = append(got, parts...)
				return nil
			}))
			require.Len(t, got, len(want))
			for i := range want {
				require.Equal(t, want[i].id, got[i].id)
				require.True(t, bytes.Equal(want[i].b.Encoded(block.None), got[i].b.Encoded(block.None)))
			}
		}
	})
}
