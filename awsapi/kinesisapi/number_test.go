package kinesisapi

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

func decimal(hex string) string {
	n, ok := new(big.Int).SetString(hex, 16)
	if !ok {
		panic(hex)
	}
	return n.String()
}

// Numbers of all forms that AWS has had, as others have recorded its answers.
func TestOrderingNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, nil)
		e.create("s", 1)
		put := func(number string) obj {
			return obj{"StreamName": "s", "PartitionKey": "a", "Data": "", "SequenceNumberForOrdering": number}
		}
		now := fmt.Sprintf("%09x", time.Now().Unix())
		later := fmt.Sprintf("%09x", time.Now().Unix()+2)
		for _, hex := range []string{
			"20000000000000000000000000000000000000000000002", // all 0
			"20000000000000000000000000000000000000000000001", // all 0 of version 1
			"20000000000000000000000000000000000000800000002", // a negative shard
			"23bb2cc3d7f7fffffffffffffff000000000007fffffff2", // the last creation
			"23bb2cc3d7f7fffffff7fffffff00" + now + "7fffffff2",
			"7",                                // version 0
			"13bb2cc3d7ff7fffffffffffffff0000", // the last of version 0
		} {
			e.ok("PutRecord", put(decimal(hex)))
		}
		for _, hex := range []string{
			"20000000000000000000000000000000000000000000000", // version 0 of this form
			"20000000000000000000000000000000000000000000003",
			"20000000000000000000000000000000000000000000004",
			"30000000000000000000000000000000000000000000001",
			"1ffffffffff7fffffffffffffff000000000007fffffff2",
			"20000000000800000000000000000000000000000000002", // a counter above 2^63
			"23bb2cc3d807fffffffffffffff000000000007fffffff2", // a creation that is too late
			"2ffffffffff7fffffffffffffff000000000007fffffff2",
			"200000000000000000000000000" + "00" + later + "000000002",
			"20000000000" + "00" + later + "0000000000000000000000001",
			"13bb2cc3d80000000000000000000000",
			strings.Repeat("f", 100),
		} {
			e.fails("PutRecord", put(decimal(hex)), codeInvalid,
				"ExclusiveMinimumSequenceNumber "+decimal(hex)+" used in PutRecord on stream s under account 123456789012 is invalid.")
		}
	})
}

// Numbers that a stream gave out are good for its next records, also if the
// clock of the endpoint, or that of the machine, was ahead then.
func TestOwnOrderingNumbersAreNotInTheFuture(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	number := e.put("s", "k", "")["SequenceNumber"].(string)
	e.h.SetClockOffset(-time.Hour)
	e.ok("PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "Data": "", "SequenceNumberForOrdering": number})

	s, err := e.h.svc.streams.find(t.Context(), awswire.Scope{Account: testAccount, Region: "eu-west-1"}, "s", &awswire.Clock{})
	require.NoError(t, err)
	n, err := shardlog.ParseSequenceNumber(number)
	require.NoError(t, err)
	long := time.Now().Add(-24 * time.Hour)
	require.True(t, orderingFits(t.Context(), s, number, long), "the stream has given it out")
	for _, other := range []shardlog.SequenceNumber{
		shardlog.NewSequenceNumber(createdOf(n), 0, counterOf(n)+10, arrivalOf(n)),
		shardlog.NewSequenceNumber(createdOf(n)+1, 0, counterOf(n), arrivalOf(n)),
		shardlog.NewSequenceNumber(createdOf(n), 1, counterOf(n), arrivalOf(n)),
	} {
		require.False(t, orderingFits(t.Context(), s, other.String(), long))
	}
}

// The texts for places that are none of the shard's.
func TestStartingNumbers(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 3)
	const where = " used in GetShardIterator on shard shardId-000000000000 in stream s under account 123456789012 is invalid"
	encodes := func(id string) string {
		return "Invalid StartingSequenceNumber. It encodes " + id + ", while it was used in a call to a shard with shardId-000000000000"
	}
	foreign := func(text string) string {
		return "StartingSequenceNumber " + text + where + " because it did not come from this stream."
	}
	bad := func(hex string) string { return "StartingSequenceNumber " + decimal(hex) + where + "." }
	first := e.shards("s")[0]["SequenceNumberRange"].(obj)["StartingSequenceNumber"].(string)
	n, err := shardlog.ParseSequenceNumber(first)
	require.NoError(t, err)
	below := shardlog.NewSequenceNumber(createdOf(n), 0, counterOf(n)-1, arrivalOf(n)).String()
	for _, c := range []struct{ number, text string }{
		{"5", encodes("shardId-000000000005")},
		{"0", foreign("21267647932558653966460912964485513216")},
		{decimal("13bb2cc3d80000000000000000000000"), bad("13bb2cc3d80000000000000000000000")},
		{decimal("20000000000800000000000000000000000000000000002"), bad("20000000000800000000000000000000000000000000002")},
		{decimal("20000000000000000000000000000000000000800000002"), encodes("shardId--02147483648")},
		{decimal("20000000000000000000000000000000000000000000001"), foreign(decimal("20000000000000000000000000000000000000000000001"))},
		{decimal("20000000000000000000000000000000000000000000002"), foreign(decimal("20000000000000000000000000000000000000000000002"))},
		{decimal("20000000000000000000000000000000000000ffffffff2"), encodes("shardId--00000000001")},
		{decimal("2ffffffffff7fffffffffffffff000000000007fffffff2"), bad("2ffffffffff7fffffffffffffff000000000007fffffff2")},
		{below, foreign(below)},
		{strings.Repeat("9", 60), "StartingSequenceNumber " + strings.Repeat("9", 60) + where + "."},
	} {
		for _, kind := range []string{"AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"} {
			in := obj{"StreamName": "s", "ShardId": "0", "ShardIteratorType": kind, "StartingSequenceNumber": c.number}
			e.fails("GetShardIterator", in, codeInvalid, c.text)
		}
	}
	e.fails("GetShardIterator", obj{"StreamName": "s", "ShardId": "shardId-5", "ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": "5"},
		codeNotFound, "Shard shardId-000000000005 in stream s under account 123456789012 does not exist")
	e.fails("GetShardIterator", obj{"StreamName": "s", "ShardId": "0", "ShardIteratorType": "X"}, codeValidation,
		"1 validation error detected: Value 'X' at 'shardIteratorType' failed to satisfy constraint: Member must satisfy enum value set: "+
			"[AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]")
}

// IDs of shards that are none, wherever a request has one.
func TestIDsThatAreNoShards(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 2)
	for _, id := range []string{"shardId--1", "shardId--000000000001", "2147483648", "shardId-2147483648", "shardId-99999999999999999999999", "2.14E4", "shardId-0x1", "shardId-1.", "1_0", "-", "shardId-", "ABKLFD8"} {
		text := "Could not find shard " + id + " in stream s under account 123456789012."
		e.fails("GetShardIterator", obj{"StreamName": "s", "ShardId": id, "ShardIteratorType": "LATEST"}, codeNotFound, text)
		e.fails("SplitShard", obj{"StreamName": "s", "ShardToSplit": id, "NewStartingHashKey": "5"}, codeNotFound, text)
		e.fails("MergeShards", obj{"StreamName": "s", "ShardToMerge": id, "AdjacentShardToMerge": "1"}, codeNotFound, text)
		e.fails("MergeShards", obj{"StreamName": "s", "ShardToMerge": "0", "AdjacentShardToMerge": id}, codeNotFound, text)
		e.fails("DescribeStream", obj{"StreamName": "s", "ExclusiveStartShardId": id}, codeNotFound, text)
		e.fails("ListShards", obj{"StreamName": "s", "ExclusiveStartShardId": id}, codeNotFound, text)
		e.fails("ListShards", obj{"StreamName": "s", "ShardFilter": obj{"Type": "AFTER_SHARD_ID", "ShardId": id}}, codeNotFound, text)
	}
	for _, id := range []string{"shardId-+1", "+1", "shardId- 1", "shardId-١"} {
		e.fails("GetShardIterator", obj{"StreamName": "s", "ShardId": id, "ShardIteratorType": "LATEST"}, codeValidation,
			"1 validation error detected: Value '"+id+"' at 'shardId' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+")
	}
	for _, id := range []string{"1", "-1", "x-1", "x-1-7", "shardId-1", "-00000000000000000000000001"} {
		e.iterator("s", id, "LATEST")
	}
}
