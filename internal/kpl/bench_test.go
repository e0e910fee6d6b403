package kpl

import (
	"crypto/md5"
	"fmt"
	"strconv"
	"testing"
)

// benchRecords are as many records as KPL puts into an aggregate by default.
func benchRecords(size, keys int) []UserRecord {
	var out []UserRecord
	for i := range 51200 / (size + 8) {
		out = append(out, UserRecord{PartitionKey: "key-" + strconv.Itoa(i%keys), Data: make([]byte, size)})
	}
	return out
}

func eachSize(b *testing.B, run func(b *testing.B, records []UserRecord)) {
	for _, size := range []int{100, 1024} {
		for _, keys := range []int{1, 1000} {
			b.Run(fmt.Sprintf("size=%d/keys=%d", size, keys), func(b *testing.B) {
				records := benchRecords(size, keys)
				b.SetBytes(int64(len(records) * size))
				b.ReportAllocs()
				run(b, records)
			})
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	eachSize(b, func(b *testing.B, records []UserRecord) {
		var a Builder
		var dst []byte
		for b.Loop() {
			a.Reset()
			for i := range records {
				a.Add(records[i], unlimited)
			}
			dst = a.Append(dst[:0])
		}
	})
}

// BenchmarkEncodeWithoutDigest is all of the work but the digest, which is
// bound by one core's MD5.
func BenchmarkEncodeWithoutDigest(b *testing.B) {
	eachSize(b, func(b *testing.B, records []UserRecord) {
		var a Builder
		var dst []byte
		for b.Loop() {
			a.Reset()
			for i := range records {
				a.Add(records[i], unlimited)
			}
			dst = a.message(dst[:0])
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	eachSize(b, func(b *testing.B, records []UserRecord) {
		data := build(b, records...)
		var dst []UserRecord
		for b.Loop() {
			dst, _ = Decode(data, dst[:0])
		}
		if len(dst) != len(records) {
			b.Fatal(len(dst))
		}
	})
}

func BenchmarkDecodeWithoutDigest(b *testing.B) {
	eachSize(b, func(b *testing.B, records []UserRecord) {
		data := build(b, records...)
		msg := data[len(Magic) : len(data)-md5.Size]
		var dst []UserRecord
		for b.Loop() {
			dst, _ = decode(msg, dst[:0])
		}
		if len(dst) != len(records) {
			b.Fatal(len(dst))
		}
	})
}

// BenchmarkDigest is what the digest alone costs.
func BenchmarkDigest(b *testing.B) {
	data := make([]byte, 51200)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		md5.Sum(data)
	}
}
