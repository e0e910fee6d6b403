package kinesisapi

import (
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

func TestTextOfNumbersThatFollow(t *testing.T) {
	step := new(big.Int).Lsh(big.NewInt(1), 80).String()
	digits := ""
	for _, w := range counterStep {
		for i := range 8 {
			digits += fmt.Sprint(w >> (56 - 8*i) & 0xff)
		}
	}
	require.Equal(t, step, strings.TrimLeft(digits, "0"))

	rnd := kvtest.Rand(t)
	for range 200 {
		var text sequenceText
		created, shard, counter, arrival := rnd.Int63n(1<<36), rnd.Uint32(), rnd.Uint64()>>(1+rnd.Intn(63)), rnd.Int63n(1<<36)
		for range 100 {
			n := shardlog.NewSequenceNumber(created, shard, counter, arrival)
			e := awswire.Encoder{}
			text.write(&e, n)
			require.Equal(t, `"`+n.String()+`"`, string(e.Buf))
			switch counter++; rnd.Intn(50) {
			case 0:
				arrival++
			case 1:
				counter = (rnd.Uint64()>>1 | 0xffff) - 20 // many carries; the largest that there is may follow
			case 2:
				counter++
			case 3:
				shard++
			}
		}
	}
	// Numbers of other logs, and the largest counter, after which none follows.
	var text sequenceText
	for _, s := range []string{"0", "1", strings.Repeat("9", numberText), strings.Repeat("9", numberText-1),
		shardlog.NewSequenceNumber(1, 2, shardlog.MaxCounter, 3).String(), shardlog.NewSequenceNumber(1, 2, 0, 3).String()} {
		n, err := shardlog.ParseSequenceNumber(s)
		require.NoError(t, err)
		e := awswire.Encoder{}
		text.write(&e, n)
		require.Equal(t, `"`+s+`"`, string(e.Buf))
	}
	require.False(t, new(sequenceText).follows(shardlog.SequenceNumber{}))
}

// plainEntry is what storedEntries writes, without a shortcut.
func plainEntry(e *awswire.Encoder, r *shardlog.PutResult) {
	e.Open()
	e.Key("SequenceNumber")
	writeSequence(e, r.Sequence)
	e.TextField("ShardId", r.ShardID)
	e.Close()
}

func TestEntriesOfStoredRecords(t *testing.T) {
	rnd := kvtest.Rand(t)
	for _, format := range []awswire.Format{awswire.FormatJSON, awswire.FormatCBOR} {
		for _, shards := range []int{1, 4, 40} {
			want, got := awswire.Encoder{Format: format}, awswire.Encoder{Format: format}
			want.List()
			got.List()
			counters := make([]uint64, shards)
			var stored storedEntries
			for range 1000 {
				i := rnd.Intn(shards)
				counters[i]++
				r := shardlog.PutResult{ShardID: shardID(uint32(i)), Sequence: shardlog.NewSequenceNumber(1, uint32(i), counters[i], rnd.Int63n(100)/99)}
				if rnd.Intn(20) == 0 { // another log's
					r.ShardID = strings.Repeat("x", rnd.Intn(200))
				}
				plainEntry(&want, &r)
				stored.write(&got, &r)
			}
			require.Equal(t, string(want.Buf), string(got.Buf))
		}
	}
}

// The answer of PutRecords names each record's number, also between records that
// are refused.
func TestAnswerOfPutRecords(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 3)
	e.h.InjectFault(Fault{Records: []int{0, 3, 4, 9}, Action: Throttle})
	var entries []obj
	for i := range 20 {
		entries = append(entries, obj{"PartitionKey": fmt.Sprint(i), "Data": []byte{byte(i)}})
	}
	got := map[string]string{}
	failed := 0
	for i, r := range e.ok("PutRecords", obj{"StreamName": "s", "Records": entries})["Records"].([]any) {
		if r.(obj)["ErrorCode"] != nil {
			failed++
			continue
		}
		got[r.(obj)["SequenceNumber"].(string)] = fmt.Sprint(i, r.(obj)["ShardId"])
	}
	require.Equal(t, 4, failed)
	require.Len(t, got, 16)
	for shard := range 3 {
		for _, r := range e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", fmt.Sprint(shard), "TRIM_HORIZON")})["Records"].([]any) {
			require.Equal(t, fmt.Sprint(r.(obj)["PartitionKey"], shardID(uint32(shard))), got[r.(obj)["SequenceNumber"].(string)])
			delete(got, r.(obj)["SequenceNumber"].(string))
		}
	}
	require.Empty(t, got)
}
