package consumer_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/internal/kpl"
)

// aggregate packs records "<name>/0", "<name>/1" ... with those keys.
func aggregate(name string, keys ...string) []byte {
	var b kpl.Builder
	for i, k := range keys {
		if !b.Add(kpl.UserRecord{PartitionKey: k, Data: fmt.Appendf(nil, "%s/%d", name, i)}, 10<<20) {
			panic("does not fit")
		}
	}
	return b.Append(nil)
}

func same(n int, key string) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = key
	}
	return keys
}

// putData appends records with these data.
func (s *source) putData(i int, data ...[]byte) {
	s.put(i, len(data))
	s.mu.Lock()
	defer s.mu.Unlock()
	records := s.shards[i].records
	for j, d := range data {
		records[len(records)-len(data)+j].Data = d
	}
}

func subNames(name string, from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("%s/%d", name, i))
	}
	return out
}

func TestScenario44CrashInsideAnAggregate(t *testing.T) {
	for done := 1; done <= 5; done++ {
		bubble(t, func(t *testing.T) {
			src, st := newSource(1), newStore()
			src.putData(0, aggregate("a", same(5, "k")...))
			first := true
			a := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
				if first {
					first = false
					for i, r := range b.Records {
						assert.Equal(t, uint32(i), r.SubSequence)
						assert.Equal(t, seq(0, 0), r.Sequence)
						assert.Equal(t, shardID(0), r.ShardID)
					}
					return &consumer.PartialError{Index: done, Err: errBroken}
				}
				<-ctx.Done() // the worker is dead
				return context.Cause(ctx)
			}), consumer.Options{Store: st, WorkerID: "a", Retry: consumer.Retry{Initial: time.Hour, Max: time.Hour}})
			settle()
			want := shardlog.AfterSub(seq(0, 0), uint32(done-1))
			if done == 5 {
				want = shardlog.After(seq(0, 0))
			}
			assert.Equal(t, want, st.row(t, 0).Checkpoint)
			a.kill()
			if done == 5 {
				src.put(0, 1)
				src.trim(0, 1) // the aggregate has expired meanwhile
			}
			k := &sink{}
			b := start(t, src, k, consumer.Options{Store: st, WorkerID: "a"})
			settle()
			if done == 5 {
				assert.Equal(t, names(0, 1, 2), k.got())
			} else {
				assert.Equal(t, subNames("a", done, 5), k.got(), "the rest, and no more")
			}
			b.stop()
			if done < 5 {
				assert.Equal(t, shardlog.After(seq(0, 0)), st.row(t, 0).Checkpoint)
			}
		})
	}
}

// Scenario 45: an aggregate that was built for the parent is stored in both
// children, because its producer could not know of the split; each child
// delivers what is its own.
func TestScenario45AggregateAcrossASplit(t *testing.T) {
	var keys []string
	for i := range 50 {
		keys = append(keys, fmt.Sprint("key", i))
	}
	for _, whole := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			src, st, k := newSource(1), newStore(), &sink{}
			left, right := src.split(0)
			src.shards[left].info.HashEnd = shardlog.NewHashKey(1<<63-1, ^uint64(0))
			src.shards[right].info.HashStart = shardlog.NewHashKey(1<<63, 0)
			src.putData(left, aggregate("a", keys...))
			src.putData(right, aggregate("a", keys...))
			r := start(t, src, k, consumer.Options{Store: st, WholeAggregates: whole})
			settle()
			outside := r.stats(left).OutOfRange + r.stats(right).OutOfRange
			if whole {
				assert.Empty(t, k.got())
				assert.Equal(t, uint64(100), outside)
			} else {
				assert.ElementsMatch(t, subNames("a", 0, 50), k.got(), "every user record once")
				assert.Equal(t, uint64(50), outside)
			}
			for _, i := range []int{left, right} {
				assert.Equal(t, shardlog.After(seq(i, 0)), st.row(t, i).Checkpoint, "what is left out is done")
			}
			r.stop()
		})
	}
}

func TestScenario46DamagedAggregates(t *testing.T) {
	sealed := func(msg string) []byte {
		sum := md5.Sum([]byte(msg))
		return append([]byte(kpl.Magic+msg), sum[:]...)
	}
	badDigest := aggregate("x", "k")
	badDigest[len(badDigest)-1] ^= 1
	cases := map[string]struct {
		data            []byte
		want            []string // nil: the record as it is
		damaged, digest uint64
	}{
		"short":        {data: []byte(kpl.Magic)},
		"20 bytes":     {data: []byte(kpl.Magic + "0123456789abcdef")},
		"bad digest":   {data: badDigest, digest: 1},
		"bad protobuf": {data: sealed("\x0a\x05ab"), damaged: 1},
		"bad index":    {data: sealed("\x0a\x01k\x1a\x05\x08\x00\x1a\x01a\x1a\x05\x08\x07\x1a\x01b"), damaged: 1},
		"no records":   {data: sealed("\x0a\x01k"), want: []string{}},
		"nested":       {data: aggregate2(aggregate("inner", "k")), want: []string{string(aggregate("inner", "k"))}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				src, st, k := newSource(1), newStore(), &sink{}
				rec := &recorder{}
				src.putData(0, aggregate("before", "k", "k"), c.data, aggregate("after", "k"))
				r := start(t, src, k, consumer.Options{Store: st, OnEvent: rec.note})
				settle()
				if c.want == nil {
					c.want = []string{string(c.data)}
				}
				want := append(append(subNames("before", 0, 2), c.want...), "after/0")
				assert.Equal(t, want, k.got(), "neighbours are unaffected")
				assert.Equal(t, shardlog.After(seq(0, 2)), st.row(t, 0).Checkpoint)
				s := r.stats(0)
				assert.Equal(t, c.damaged, s.DamagedAggregates)
				assert.Equal(t, c.digest, s.BadDigests)
				assert.Len(t, rec.of(consumer.EventAggregateDamaged), int(c.damaged))
				r.stop()
			})
		})
	}
}

// aggregate2 packs one record with these data.
func aggregate2(data []byte) []byte {
	var b kpl.Builder
	b.Add(kpl.UserRecord{PartitionKey: "k", Data: data}, 1<<20)
	return b.Append(nil)
}

func TestScenario47HugeAggregateComesInPieces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 100_000
		src, st := newSource(1), newStore()
		src.putData(0, aggregate("a", same(n, "k")...))
		next, last := 0, shardlog.Position{}
		inside := 0
		r := start(t, src, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
			if !assert.LessOrEqual(t, len(b.Records), 100) {
				return nil
			}
			for _, rec := range b.Records {
				if int(rec.SubSequence) != next {
					t.Errorf("index %d, want %d", rec.SubSequence, next)
				}
				next++
			}
			if p := st.row(t, 0).Checkpoint; p != last {
				last = p
				inside++
			}
			return nil
		}), consumer.Options{Store: st, MaxBatchRecords: 100, PrefetchBytes: 1000})
		settle()
		assert.Equal(t, n, next)
		assert.Equal(t, n/100-1, inside, "a checkpoint inside, after each piece")
		assert.Equal(t, shardlog.After(seq(0, 0)), st.row(t, 0).Checkpoint)
		r.stop()
	})
}

// The vector was made with a library of another language.
func TestScenario76GoldenAggregate(t *testing.T) {
	data, err := hex.DecodeString("f3899ac20a05616c6963650a03626f620a0ccebacebbceb5ceb9ceb4ceaf12273137303134313138333436303436393233313733313638373330333731353838343130353732381a0708001a036f6e651a0708011a0374776f1a06080010001a001a0808021a04f3899ac20f9ccb3b55a8c064191d48682d67ab84")
	require.NoError(t, err)
	bubble(t, func(t *testing.T) {
		src := newSource(1)
		src.putData(0, data)
		var got []shardlog.Record
		r := start(t, src, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
			got = append(got, b.Records...)
			return nil
		}), consumer.Options{Store: newStore()})
		settle()
		require.Len(t, got, 4)
		for i, want := range []struct{ key, data string }{{"alice", "one"}, {"bob", "two"}, {"alice", ""}, {"κλειδί", kpl.Magic}} {
			assert.Equal(t, want.key, got[i].PartitionKey)
			assert.Equal(t, want.data, string(got[i].Data))
		}
		assert.Equal(t, shardlog.NewHashKey(1<<63, 0), got[2].ExplicitHashKey)
		assert.False(t, got[0].ExplicitHashKey.IsSet())
		r.stop()
	})
}

func TestKeepAggregates(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(1), &sink{}
		data := aggregate("a", "k", "k")
		src.putData(0, data)
		r := start(t, src, k, consumer.Options{Store: newStore(), KeepAggregates: true})
		settle()
		assert.Equal(t, []string{string(data)}, k.got())
		r.stop()
	})
}

// FuzzUnpack delivers any bytes: they come as they are or de-aggregated, and the
// record behind them comes too.
func FuzzUnpack(f *testing.F) {
	f.Add(aggregate("a", "k", "l"))
	f.Add([]byte(kpl.Magic))
	f.Add(aggregate2(aggregate("inner", "k")))
	f.Fuzz(func(t *testing.T, data []byte) {
		bubble(t, func(t *testing.T) {
			src, k := newSource(1), &sink{}
			src.putData(0, data, []byte("behind"))
			r := start(t, src, k, consumer.Options{Store: newStore(), MaxBatchRecords: 3})
			settle()
			got := k.got()
			if len(got) == 0 || got[len(got)-1] != "behind" {
				t.Fatalf("got %q", got)
			}
			if want, err := kpl.Decode(data, nil); err == nil && len(got) != len(want)+1 {
				t.Fatalf("%d records of %d", len(got)-1, len(want))
			} else if err != nil && (len(got) != 2 || got[0] != string(data)) {
				t.Fatalf("got %q", got)
			}
			r.stop()
		})
	})
}

// Scenario 59: a read fails while an aggregate is half done. There are no
// iterators that could expire; the rest is delivered anyway.
func TestScenario59ReadFailsInsideAnAggregate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.putData(0, aggregate("a", same(10, "k")...), aggregate("b", same(10, "k")...))
		failed := false
		src.readFault = func(req shardlog.ReadRequest) error {
			if inside := req.From.Kind() == shardlog.KindAfter && req.From.SubSequence() != shardlog.WholeRecord; inside && !failed {
				failed = true
				return errBroken
			}
			return nil
		}
		o := consumer.Options{Store: st, MaxBatchRecords: 3, PrefetchBytes: 1}
		stop := make(chan struct{})
		r := start(t, src, consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			if string(b.Records[0].Data) == "a/3" {
				close(stop)
				time.Sleep(time.Second) // the shutdown comes meanwhile
			}
			return k.Handle(ctx, b)
		}), o)
		<-stop
		r.stop()
		assert.Equal(t, shardlog.AfterSub(seq(0, 0), 5), st.row(t, 0).Checkpoint)
		r = start(t, src, k, o)
		time.Sleep(time.Minute)
		settle()
		assert.True(t, failed)
		assert.Equal(t, append(subNames("a", 0, 10), subNames("b", 0, 10)...), k.got())
		r.stop()
	})
}

// Scenario 41: batches belong to the handler, and may be kept and changed when
// they are done.
func TestScenario41HandlerKeepsBatches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		src.putData(0, aggregate("a", same(10, "k")...), []byte("plain"), aggregate("b", same(10, "k")...))
		var kept []shardlog.Record
		r := start(t, src, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
			kept = append(kept, b.Records...)
			for i := range b.Records {
				b.Records[i].Data = append(b.Records[i].Data, " changed"...)
			}
			return nil
		}), consumer.Options{Store: st, MaxBatchRecords: 4})
		settle()
		want := append(append(subNames("a", 0, 10), "plain"), subNames("b", 0, 10)...)
		require.Len(t, kept, len(want))
		for i, r := range kept {
			assert.Equal(t, want[i], string(r.Data))
		}
		r.stop()
	})
}
