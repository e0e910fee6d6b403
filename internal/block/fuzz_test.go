package block

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// use decodes a value and does all that readers do with a block. Only damage
// may be the error.
func use(t testing.TB, value []byte) {
	CheckVersion(value)
	var buf []byte
	for _, decode := range []func([]byte) (Block, error){
		Decode, new(Coder).DecodeTrusted, func(v []byte) (Block, error) { return new(Coder).DecodeOver(v, &buf) },
	} {
		b, err := decode(value)
		if err == nil {
			useBlock(t, b)
		} else if !isDamage(err) {
			t.Fatalf("not damage: %v", err)
		}
	}
}

func useBlock(t testing.TB, b Block) {
	places := []uint64{0, b.First, b.First + uint64(b.Count)/2, b.End() - 1, b.End(), ^uint64(0)}
	for _, counter := range places {
		it, err := b.Seek(counter)
		useIter(t, it, err)
	}
	for _, ms := range []int64{b.FirstMs, b.FirstMs + 1, (b.FirstMs + b.LastMs) / 2, b.LastMs, b.LastMs + 1, -1 << 63, 1<<63 - 1} {
		it, err := b.SeekTime(ms)
		useIter(t, it, err)
	}
	// As a reader copies a part.
	for _, counter := range places {
		it, err := b.Seek(counter)
		if err != nil {
			continue
		}
		if end, err := b.Seek(b.End()); err == nil {
			it.Own(end)
			useIter(t, it, nil)
		}
	}
	for _, c := range codecs {
		again, err := Decode(bytes.Clone(b.Encoded(c)))
		if err != nil {
			continue // the header names sizes that the codec does not agree with
		}
		if again.Header != b.Header {
			t.Fatalf("%v became %v", b.Header, again.Header)
		}
	}
}

// useIter reads what an iterator has, up to a bound.
func useIter(t testing.TB, it Iter, err error) {
	var item Item
	var r shardlog.Record
	hs := Headers{Reuse: true}
	for quick, n := it, 0; err == nil && n < 300 && quick.Record(&r, &hs); n++ {
		useRecord(&r)
	}
	for range 300 {
		var ok bool
		if err == nil {
			ok, err = it.Next(&item)
		}
		if err == nil && ok {
			err = item.Record(&r, new(Headers))
			useRecord(&r)
		}
		if err != nil {
			if !isDamage(err) {
				t.Fatalf("not damage: %v", err)
			}
			return
		}
		if !ok {
			return
		}
	}
}

// useRecord reads all the bytes of a record.
func useRecord(r *shardlog.Record) {
	n := len(strings.ToUpper(r.PartitionKey + r.DedupID))
	for _, b := range r.Data {
		n += int(b)
	}
	for _, h := range r.Headers {
		n += len(h.Key + h.Value)
	}
	used += n
}

var used int

// FuzzDecode gives arbitrary bytes to Decode, once as they are and once with a
// checksum that is right, so that the fuzzer gets past it; and to DecodeTrusted,
// which does not look at it.
func FuzzDecode(f *testing.F) {
	small, large := evenRun(5, 10), evenRun(30, 500)
	small[1].r.Headers = []shardlog.Header{{Key: "key", Value: "value"}, {}}
	small[2].r.ExplicitHashKey = shardlog.NewHashKey(0, 0)
	for _, run := range [][]placed{small, large} {
		b := blockOf(run, 3)
		for _, c := range codecs {
			f.Add(encoded(&b, c))
		}
	}
	f.Add([]byte(nil))
	f.Add(make([]byte, HeaderSize))
	f.Fuzz(func(t *testing.T, value []byte) {
		use(t, bytes.Clone(value))
		value = bytes.Clone(value)
		if len(value) >= HeaderSize {
			copy(value[8:13], "SLB1\x01")
			fixChecksum(value)
		}
		use(t, value)
	})
}

// FuzzRoundTrip cuts its input into records and expects them back.
func FuzzRoundTrip(f *testing.F) {
	f.Add("key", []byte("some data to be cut in pieces"), uint64(1), uint64(2), uint8(7), int64(1), uint64(9))
	f.Add("", []byte{}, uint64(0), uint64(0), uint8(255), int64(-1), uint64(1)<<62)
	f.Add("\xff", bytes.Repeat([]byte("abc"), 500), ^uint64(0), uint64(0), uint8(64), int64(1)<<40, uint64(1))
	f.Fuzz(func(t *testing.T, key string, data []byte, hi, lo uint64, kinds uint8, ms int64, first uint64) {
		if first > shardlog.MaxCounter-1<<20 || ms > 1<<60 || len(data) > 2000 {
			return
		}
		var run []placed
		for i := 0; len(data) > 0 || i == 0; i++ {
			n := min(len(data), 1+int(kinds)*(i%5))
			p := placed{shardlog.Record{PartitionKey: key, Data: data[:n:n]}, ms, first + uint64(i)}
			if kinds&1 != 0 {
				p.r.ExplicitHashKey = shardlog.NewHashKey(hi, lo)
			}
			if kinds&2 != 0 && i%3 == 0 {
				p.r.Headers = []shardlog.Header{{Key: key, Value: string(p.r.Data)}, {Key: "", Value: key}}
			}
			if kinds&4 != 0 {
				ms += int64(i % 3)
			}
			data = data[n:]
			run = append(run, p)
			kinds = kinds>>1 | kinds<<7
		}
		b := blockOf(run, first)
		for _, c := range codecs {
			got, err := Decode(encoded(&b, c))
			require.NoError(t, err)
			requireRun(t, run, &got)
			mid := len(run) / 2
			requireRest(t, run[mid:], seek(t, &got, run[mid].counter))
		}
	})
}
