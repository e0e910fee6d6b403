package block

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// envSeed repeats a random test with the seed that it printed.
const envSeed = "SHARDLOG_SEED"

func newRand(t testing.TB) *rand.Rand {
	seed, err := strconv.ParseInt(os.Getenv(envSeed), 10, 64)
	if err != nil {
		seed = time.Now().UnixNano()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with %s=%d", envSeed, seed)
		}
	})
	return rand.New(rand.NewSource(seed))
}

// placed is a record with what a block adds to it.
type placed struct {
	r       shardlog.Record
	ms      int64
	counter uint64
}

var codecs = []Codec{None, S2, Zstd}

// randomRecord has every optional part now and then; its size is mostly small.
func randomRecord(rnd *rand.Rand) shardlog.Record {
	size := []int{0, 1, 20, 300, 5000}[rnd.Intn(5)]
	if rnd.Intn(60) == 0 {
		size = 300 << 10
	}
	r := shardlog.Record{PartitionKey: randomKey(rnd), Data: make([]byte, rnd.Intn(size+1))}
	if rnd.Intn(2) == 0 {
		rnd.Read(r.Data) // incompressible
	}
	switch rnd.Intn(6) {
	case 0:
		r.ExplicitHashKey = shardlog.NewHashKey(0, 0) // a key like any other, and not the unset one
	case 1:
		r.ExplicitHashKey = shardlog.NewHashKey(rnd.Uint64(), rnd.Uint64())
	case 2:
		r.ExplicitHashKey = shardlog.MaxHashKey
	}
	if rnd.Intn(5) == 0 {
		r.DedupID = strings.Repeat("é", 1+rnd.Intn(128))
	}
	if rnd.Intn(4) == 0 {
		for range []int{1, 2, shardlog.MaxHeaders}[rnd.Intn(3)] {
			r.Headers = append(r.Headers, shardlog.Header{Key: randomText(rnd, 20), Value: randomText(rnd, 300)})
		}
	}
	return r
}

// randomKey has 1 to 256 code points of 1 to 4 bytes.
func randomKey(rnd *rand.Rand) string {
	if n := rnd.Intn(20); n < 2 {
		return strings.Repeat(string([]rune{'k', '\U0001F600'}[n]), shardlog.MaxPartitionKeyLength)
	}
	var b strings.Builder
	for range 1 + rnd.Intn(30) {
		b.WriteRune([]rune{'a', 0, 'é', '中', '\U0001F600'}[rnd.Intn(5)])
	}
	return b.String()
}

func randomText(rnd *rand.Rand, n int) string { return strings.Repeat("x", rnd.Intn(n)) }

// randomRun is n records, from a counter and a time on.
func randomRun(rnd *rand.Rand, n int, counter uint64, ms int64) []placed {
	run := make([]placed, n)
	for i := range run {
		if rnd.Intn(3) == 0 {
			ms += int64(rnd.Intn(4))
		}
		run[i] = placed{randomRecord(rnd), ms, counter + uint64(i)}
	}
	return run
}

// evenRun is n records of a size, each a millisecond after the one before.
func evenRun(n, size int) []placed {
	run := make([]placed, n)
	for i := range run {
		run[i] = placed{shardlog.Record{PartitionKey: "k" + strconv.Itoa(i), Data: bytes.Repeat([]byte{byte(i)}, size)}, int64(1000 + i), uint64(50 + i)}
	}
	return run
}

func blockOf(run []placed, prev uint64) Block {
	var b Builder
	b.Init(run[0].counter, 100)
	for i := range run {
		b.Append(&run[i].r, run[i].ms)
	}
	return b.Finish(prev)
}

// encoded returns private bytes of the encoded block.
func encoded(b *Block, c Codec) []byte { return bytes.Clone(b.Encoded(c)) }

func requireItem(t testing.TB, want *placed, item *Item) {
	t.Helper()
	require.Equal(t, want.counter, item.Counter)
	require.Equal(t, want.ms, item.Ms)
	var r shardlog.Record
	require.NoError(t, item.Record(&r, new(Headers)))
	require.Equal(t, want.r.PartitionKey, r.PartitionKey)
	require.True(t, bytes.Equal(want.r.Data, r.Data))
	require.Equal(t, want.r.ExplicitHashKey, r.ExplicitHashKey)
	require.Equal(t, want.r.DedupID, r.DedupID)
	require.Equal(t, want.r.Headers, r.Headers)
	require.GreaterOrEqual(t, item.Size(), want.r.Size())
}

// requireRest checks that the iterator has just the records of run.
func requireRest(t testing.TB, run []placed, it Iter) {
	t.Helper()
	var item Item
	for i := range run {
		require.False(t, it.Done())
		require.Equal(t, run[i].counter, it.Counter())
		ok, err := it.Next(&item)
		require.NoError(t, err)
		require.True(t, ok, "record %d", i)
		requireItem(t, &run[i], &item)
	}
	require.True(t, it.Done())
	ok, err := it.Next(&item)
	require.NoError(t, err)
	require.False(t, ok)
}

func seek(t testing.TB, b *Block, counter uint64) Iter {
	t.Helper()
	it, err := b.Seek(counter)
	require.NoError(t, err)
	return it
}

func requireRun(t testing.TB, run []placed, b *Block) {
	t.Helper()
	require.Equal(t, run[0].counter, b.First)
	require.Equal(t, len(run), int(b.Count))
	require.Equal(t, run[0].ms, b.FirstMs)
	require.Equal(t, run[len(run)-1].ms, b.LastMs)
	requireRest(t, run, seek(t, b, 0))
}

// fixChecksum makes changed bytes pass for an intact block.
func fixChecksum(value []byte) {
	if len(value) >= HeaderSize {
		binary.LittleEndian.PutUint64(value, xxhash.Sum64(value[8:]))
	}
}

func isDamage(err error) bool {
	var d *DamageError
	return errors.As(err, &d)
}
