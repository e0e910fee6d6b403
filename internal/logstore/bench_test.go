package logstore

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// The benchmarks run over a store in memory: they measure what the log adds to
// a store.

func benchRecords(l *Log, shards, n, size int) ([]shardlog.Record, []*Shard, []shardlog.PutResult) {
	records, targets := make([]shardlog.Record, n), make([]*Shard, n)
	for i := range records {
		records[i] = shardlog.Record{PartitionKey: "key-0123456789", Data: make([]byte, size)}
		targets[i] = l.Shard(ID{1, uint32(i % shards)})
	}
	return records, targets, make([]shardlog.PutResult, n)
}

func BenchmarkAppendOne(b *testing.B) {
	l, ss := openOn(b, kvtest.New(kv.NewMemory()), 1, Options{})
	r := &shardlog.Record{PartitionKey: "key-0123456789", Data: make([]byte, 100)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.AppendOne(ctx, ss[0], r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend500Over16(b *testing.B) {
	l, _ := openOn(b, kvtest.New(kv.NewMemory()), 16, Options{})
	records, targets, res := benchRecords(l, 16, 500, 100)
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Append(ctx, records, targets, res); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendParallel(b *testing.B) {
	l, ss := openOn(b, kvtest.New(kv.NewMemory()), 4, Options{})
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		r := &shardlog.Record{PartitionKey: "key-0123456789", Data: make([]byte, 100)}
		for i := 0; pb.Next(); i++ {
			if _, err := l.AppendOne(ctx, ss[i%4], r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// benchShard returns a shard with n records of 100 bytes, most of them in blocks.
func benchShard(b *testing.B, n int) *Shard {
	l, ss := openOn(b, kvtest.New(kv.NewMemory()), 1, Options{TailBytes: 64 << 10})
	for range n / 500 {
		records, targets, res := benchRecords(l, 1, 500, 100)
		require.NoError(b, l.Append(ctx, records, targets, res))
	}
	return ss[0]
}

const benchRead = 50_000

func BenchmarkScan(b *testing.B) {
	PoisonBorrowed(false)
	defer PoisonBorrowed(true)
	s := benchShard(b, benchRead)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range s.Scan(ctx, shardlog.TrimHorizon()) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != benchRead {
			b.Fatal(n)
		}
	}
}

func BenchmarkRecords(b *testing.B) {
	s := benchShard(b, benchRead)
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range s.Records(ctx, shardlog.TrimHorizon()) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkReadPages(b *testing.B) {
	s := benchShard(b, benchRead)
	for name, req := range map[string]shardlog.ReadRequest{"100": {MaxRecords: 100}, "all": {}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req := req
				req.From = shardlog.TrimHorizon()
				for more := int64(1); more > 0; {
					p, err := s.Read(ctx, req)
					if err != nil {
						b.Fatal(err)
					}
					req.From, more = p.Next, p.BehindRecords
				}
			}
		})
	}
}
