package logstore

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// borrowedLog has records in memory and in the store, in blocks of each codec.
func borrowedLog(t *testing.T) (*Log, []*Shard, []shardlog.Record) {
	cs := configs(3)
	cs[1].Codec, cs[2].Codec = 1, 2
	l, err := Open(kvtest.New(kv.NewMemory()), Options{TailBytes: 1}, cs, Recovery{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	var records []shardlog.Record
	for i, s := range numbers(0, 100, 300) {
		r := shardlog.Record{PartitionKey: "key" + s[:3], Data: []byte(s)}
		switch i % 4 {
		case 1:
			r.ExplicitHashKey = shardlog.NewHashKey(uint64(i), 0)
		case 2:
			r.Headers = []shardlog.Header{{Key: "name", Value: s}, {Key: s}}
		case 3:
			r.DedupID = "id" + s
		}
		records = append(records, r)
	}
	ss := shardsOf(l, 3)
	for _, s := range ss {
		for _, n := range [][2]int{{0, 40}, {40, 90}, {90, 91}, {91, 100}} { // the last two only in the journal
			part := records[n[0]:n[1]]
			targets := make([]*Shard, len(part))
			for i := range targets {
				targets[i] = s
			}
			require.NoError(t, l.Append(ctx, part, targets, make([]shardlog.PutResult, len(part))))
		}
	}
	return l, ss, records
}

// Borrowed records have what owned ones have, twice: when blocks are verified and
// when they are not any more.
func TestBorrowedRecordsAreTheRecords(t *testing.T) {
	for _, on := range []bool{true, false} {
		PoisonBorrowed(on)
		_, ss, records := borrowedLog(t)
		for _, s := range ss {
			for range 2 {
				var owned []shardlog.Record
				for r, err := range s.Records(ctx, shardlog.TrimHorizon()) {
					require.NoError(t, err)
					owned = append(owned, r)
				}
				n := 0
				for r, err := range s.Scan(ctx, shardlog.TrimHorizon()) {
					require.NoError(t, err)
					require.Equal(t, owned[n], *r)
					require.Equal(t, records[n].Data, r.Data)
					require.Equal(t, records[n].Headers, r.Headers)
					require.Equal(t, records[n].DedupID, r.DedupID)
					require.Equal(t, records[n].ExplicitHashKey, r.ExplicitHashKey)
					// A field of the record may be used as a variable; only bytes may not.
					*r = shardlog.Record{ShardID: "mine", SubSequence: 7}
					n++
				}
				require.Equal(t, len(records), n)
			}
		}
	}
	PoisonBorrowed(true)
}

// What a loop keeps of a borrowed record is overwritten after the step, so that
// a test of the program that does it fails.
func TestBorrowedBytesThatAreKeptAreSpoiled(t *testing.T) {
	_, ss, records := borrowedLog(t)
	for _, s := range ss {
		var kept []*shardlog.Record
		var data [][]byte
		var keys, ids, values []string
		for r, err := range s.Scan(ctx, shardlog.TrimHorizon()) {
			require.NoError(t, err)
			kept, data, keys = append(kept, r), append(data, r.Data), append(keys, r.PartitionKey)
			if r.DedupID != "" {
				ids = append(ids, r.DedupID)
			}
			for _, h := range r.Headers {
				values = append(values, h.Value)
			}
		}
		require.Len(t, kept, len(records))
		spoiledText := func(s string) bool { return s == strings.Repeat(string([]byte{spoiled}), len(s)) }
		for i := range kept {
			require.True(t, spoiledText(string(data[i])))
			require.True(t, spoiledText(keys[i]))
			require.True(t, spoiledText(string(kept[i].Data)))
			require.False(t, kept[i].Sequence.IsSet())
		}
		for _, s := range append(ids, values...) {
			require.True(t, spoiledText(s))
		}
	}
}

// A loop that writes to borrowed bytes would change what other readers get.
func TestChangedBorrowedBytesAreFound(t *testing.T) {
	_, ss, _ := borrowedLog(t)
	for _, s := range ss {
		for _, from := range []shardlog.Position{shardlog.TrimHorizon(), shardlog.At(s.Info().Last)} {
			require.PanicsWithValue(t, "shardlog: the bytes of a borrowed record were changed", func() {
				for r := range s.Scan(ctx, from) {
					r.Data[0]++
				}
			})
		}
	}
}

// A loop over borrowed records may do everything, also what waits for the
// committer and for the store: write, trim, give space back, read, and close the
// log, after which it ends.
func TestALoopOverBorrowedRecordsHoldsNothing(t *testing.T) {
	smallBlocks(t)
	for _, on := range []bool{true, false} {
		PoisonBorrowed(on)
		l, ss, records := borrowedLog(t)
		s, n := ss[0], 0
		var end error
		for r, err := range s.Scan(ctx, shardlog.TrimHorizon()) {
			if err != nil {
				end = err
				continue
			}
			switch data := bytes.Clone(r.Data); n {
			case 10:
				require.NoError(t, put(l, s, "written in the loop"))
				require.NoError(t, l.Sync())
			case 20:
				require.NoError(t, s.TrimBefore(ctx, shardlog.At(r.Sequence)))
				_, err := l.Reclaim()
				require.NoError(t, err)
			case 30:
				require.NotEmpty(t, contents(t, s))
				require.Equal(t, data, r.Data)
			case 35:
				require.NoError(t, l.Close())
				require.Equal(t, records[n].Data, r.Data, "valid until the next step")
			}
			n++
		}
		require.ErrorIs(t, end, shardlog.ErrClosed)
		require.Less(t, n, len(records))
	}
	PoisonBorrowed(true)
}

// Reading does not allocate for each record, whatever the record has.
func TestIterationsAllocateLittle(t *testing.T) {
	PoisonBorrowed(false)
	defer PoisonBorrowed(true)
	l, ss := openOn(t, kvtest.New(kv.NewMemory()), 1, Options{TailBytes: 1})
	s := ss[0]
	const blocks, each = 40, 250
	rs, ts := make([]shardlog.Record, each), make([]*Shard, each)
	for i := range rs {
		rs[i], ts[i] = shardlog.Record{PartitionKey: "customer", Data: make([]byte, 60)}, s
		switch i % 4 {
		case 1:
			rs[i].ExplicitHashKey = shardlog.MaxHashKey
		case 2:
			rs[i].Headers = []shardlog.Header{{Key: "a", Value: "b"}, {Key: "c", Value: "d"}}
		case 3:
			rs[i].DedupID = "id"
		}
	}
	for range blocks {
		require.NoError(t, l.Append(ctx, rs, ts, make([]shardlog.PutResult, each)))
	}
	for name, read := range map[string]func() (n int){
		"Records": func() (n int) {
			for range s.Records(ctx, shardlog.TrimHorizon()) {
				n++
			}
			return n
		},
		"Scan": func() (n int) {
			for range s.Scan(ctx, shardlog.TrimHorizon()) {
				n++
			}
			return n
		},
	} {
		allocs := testing.AllocsPerRun(5, func() { require.Equal(t, blocks*each, read()) })
		require.LessOrEqual(t, allocs/(blocks*each), 0.02, name)
	}
}
