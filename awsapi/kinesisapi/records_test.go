package kinesisapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/stream"
)

func TestPutAndGet(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 2)
	out := e.put("s", "key", "one")
	require.Regexp(t, `^\d{56}$`, out["SequenceNumber"])
	require.NotContains(t, out, "EncryptionType")
	shard := out["ShardId"].(string)
	require.Equal(t, "shardId-000000000000", shard, "where the MD5 of the key belongs")
	many := e.ok("PutRecords", obj{"StreamName": "s", "Records": []obj{
		{"PartitionKey": "key", "Data": []byte("two")},
		{"PartitionKey": "key", "Data": []byte("elsewhere"), "ExplicitHashKey": shardlog.MaxHashKey.String()},
		{"PartitionKey": "schlüssel \" \\ \u2028 \U0001f600", "ExplicitHashKey": "0", "Data": ""},
	}})
	require.EqualValues(t, 0, many["FailedRecordCount"])
	res := many["Records"].([]any)
	require.Equal(t, []any{shard, "shardId-000000000001", shard}, []any{res[0].(obj)["ShardId"], res[1].(obj)["ShardId"], res[2].(obj)["ShardId"]})
	got := e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", shard, "TRIM_HORIZON")})
	require.Equal(t, []string{"one", "two", ""}, data(t, got))
	require.EqualValues(t, 0, got["MillisBehindLatest"])
	records := got["Records"].([]any)
	require.Equal(t, "schlüssel \" \\ \u2028 \U0001f600", records[2].(obj)["PartitionKey"])
	require.Equal(t, out["SequenceNumber"], records[0].(obj)["SequenceNumber"])
	require.NotContains(t, records[0], "EncryptionType")
	at := records[0].(obj)["ApproximateArrivalTimestamp"].(float64)
	require.InDelta(t, float64(time.Now().UnixMilli())/1000, at, 60)
	require.InDelta(t, math.Round(at*1000), at*1000, 1e-3, "whole milliseconds")

	e.ok("StartStreamEncryption", obj{"StreamName": "s", "EncryptionType": "KMS", "KeyId": "alias/k"})
	require.Equal(t, "KMS", e.put("s", "key", "three")["EncryptionType"])
	got = e.ok("GetRecords", obj{"ShardIterator": got["NextShardIterator"]})
	require.Equal(t, "KMS", got["Records"].([]any)[0].(obj)["EncryptionType"])
}

func TestRefusedRecords(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	in := obj{"StreamName": "s", "PartitionKey": "k", "Data": "", "ExplicitHashKey": "340282366920938463463374607431768211456"}
	e.fails("PutRecord", in, codeInvalid, "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was 340282366920938463463374607431768211456")
	in["ExplicitHashKey"] = shardlog.MaxHashKey.String()
	e.ok("PutRecord", in)
	large := obj{"StreamName": "s", "PartitionKey": "k", "Data": make([]byte, 1<<20)}
	e.fails("PutRecord", large, codeInvalid, "Record size of 1048577 bytes, data and partition key, exceeds the limit of 1048576 bytes.")
	large["Data"] = make([]byte, 1<<20+1)
	const tooLarge = "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=1048577 cap=1048577]' at '%s' failed to satisfy constraint: Member must have length less than or equal to 1048576"
	e.fails("PutRecord", large, codeValidation, fmt.Sprintf(tooLarge, "data"))
	e.fails("PutRecords", obj{"StreamName": "s", "Records": []obj{{"PartitionKey": "k", "Data": ""}, {"PartitionKey": "k", "Data": make([]byte, 1<<20+1)}}},
		codeValidation, fmt.Sprintf(tooLarge, "records.2.member.data"))
	e.ok("UpdateMaxRecordSize", obj{"StreamARN": testARN + "s", "MaxRecordSizeInKiB": 10240})
	large["Data"] = make([]byte, 10<<20-1)
	e.ok("PutRecord", large)
	large["Data"] = make([]byte, 10<<20+1)
	_, out := e.send("PutRecord", large)
	require.Contains(t, out["message"], "Member must have length less than or equal to 10485760")
	var batch []obj
	for range 11 {
		batch = append(batch, obj{"PartitionKey": "k", "Data": make([]byte, 1<<20)})
	}
	e.fails("PutRecords", obj{"StreamName": "s", "Records": batch}, codeInvalid, "Records size exceeds 10 MB limit")
	e.fails("PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "Data": "", "SequenceNumberForOrdering": strings.Repeat("7", 57)}, codeInvalid,
		"ExclusiveMinimumSequenceNumber "+strings.Repeat("7", 57)+" used in PutRecord on stream s under account 123456789012 is invalid.")
	first := e.put("s", "k", "")["SequenceNumber"]
	e.ok("PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "Data": "", "SequenceNumberForOrdering": first})
	e.fails("PutRecord", obj{"StreamName": "none", "PartitionKey": "k", "Data": ""}, codeNotFound, "Stream none under account 123456789012 not found.")
	e.ok("PutRecord", obj{"StreamName": "s", "PartitionKey": strings.Repeat("ü", 256), "Data": ""})
}

func TestIterators(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 2)
	e.create("t", 2)
	var seqs []string
	for i := range 4 {
		seqs = append(seqs, e.ok("PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "ExplicitHashKey": "0", "Data": []byte{byte('0' + i)}})["SequenceNumber"].(string))
	}
	read := func(token string) []string { return data(t, e.ok("GetRecords", obj{"ShardIterator": token})) }
	at := func(kind, seq string) string {
		return e.iterator("s", "0", kind, obj{"StartingSequenceNumber": seq})
	}
	require.Equal(t, []string{"1", "2", "3"}, read(at("AT_SEQUENCE_NUMBER", seqs[1])))
	require.Equal(t, []string{"2", "3"}, read(at("AFTER_SEQUENCE_NUMBER", seqs[1])))
	first := e.shards("s")[0]["SequenceNumberRange"].(obj)["StartingSequenceNumber"].(string)
	require.Len(t, read(at("AT_SEQUENCE_NUMBER", first)), 4)
	require.Len(t, read(at("AFTER_SEQUENCE_NUMBER", first)), 4)
	latest := e.iterator("s", "shardId-000000000000", "LATEST")
	require.Empty(t, read(latest))
	e.ok("PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "ExplicitHashKey": "0", "Data": []byte("4")})
	require.Equal(t, []string{"4"}, read(latest), "LATEST is the moment of GetShardIterator")
	require.Equal(t, []string{"4"}, read(`"`+latest+`"`), "AWS takes it in quotes")

	raw, err := base64.StdEncoding.DecodeString(latest)
	require.NoError(t, err)
	require.Equal(t, tokenHeader, raw[:8])
	require.Zero(t, len(raw[8:])%16)
	require.GreaterOrEqual(t, len(raw), 152)
	one := e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", "0", "TRIM_HORIZON"), "Limit": 1})
	require.Len(t, data(t, one), 1)
	require.Positive(t, one["MillisBehindLatest"])
	two := e.ok("GetRecords", obj{"ShardIterator": latest})
	require.NotEqual(t, latest, two["NextShardIterator"])

	const where = " used in GetShardIterator on shard shardId-000000000000 in stream s under account 123456789012 is invalid"
	bad := func(in obj, code, message string) {
		t.Helper()
		full := obj{"StreamName": "s", "ShardId": "0"}
		for k, v := range in {
			full[k] = v
		}
		e.fails("GetShardIterator", full, code, message)
	}
	other := e.put("t", "k", "")
	bad(obj{"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": "7"}, codeInvalid,
		"Invalid StartingSequenceNumber. It encodes shardId-000000000007, while it was used in a call to a shard with shardId-000000000000")
	bad(obj{"ShardIteratorType": "AT_SEQUENCE_NUMBER", "ShardId": "1", "StartingSequenceNumber": seqs[0]}, codeInvalid,
		"Invalid StartingSequenceNumber. It encodes shardId-000000000000, while it was used in a call to a shard with shardId-000000000001")
	foreign, err := shardlog.ParseSequenceNumber(seqs[0])
	require.NoError(t, err)
	strange := shardlog.NewSequenceNumber(1, 0, counterOf(foreign), 1).String()
	bad(obj{"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": strange}, codeInvalid,
		"StartingSequenceNumber "+strange+where+" because it did not come from this stream.")
	for _, kind := range []string{"TRIM_HORIZON", "LATEST"} {
		bad(obj{"ShardIteratorType": kind, "StartingSequenceNumber": other["SequenceNumber"]}, codeInvalid,
			"Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified "+kind+" and also a StartingSequenceNumber.")
	}
	bad(obj{"ShardIteratorType": "AT_SEQUENCE_NUMBER"}, codeInvalid,
		"Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified AT_SEQUENCE_NUMBER and no StartingSequenceNumber.")
	bad(obj{"ShardIteratorType": "AT_TIMESTAMP"}, codeInvalid, "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.")
	bad(obj{"ShardIteratorType": "LATEST", "ShardId": "shardId-5"}, codeNotFound, "Shard shardId-000000000005 in stream s under account 123456789012 does not exist")
	bad(obj{"ShardIteratorType": "LATEST", "StreamName": "none"}, codeNotFound, "Shard shardId-000000000000 in stream none under account 123456789012 does not exist")
	bad(obj{"ShardIteratorType": "LATEST", "ShardId": "x"}, codeNotFound, "Could not find shard x in stream s under account 123456789012.")
	in := obj{"StreamName": "s", "ShardId": "0", "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": float64(time.Now().Unix() + 60)}
	require.Contains(t, e.message("GetShardIterator", in), "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: ")

	for _, token := range []string{"x", strings.Repeat("A", 200), base64.StdEncoding.EncodeToString(append(raw[:len(raw)-1:len(raw)-1], raw[len(raw)-1]^1)),
		base64.StdEncoding.EncodeToString(raw[:8]), "\n" + latest} {
		e.fails("GetRecords", obj{"ShardIterator": token}, codeInvalid, "Invalid ShardIterator.")
	}
	page := e.ok("ListStreams", obj{"Limit": 1})["NextToken"]
	e.fails("GetRecords", obj{"ShardIterator": page}, codeInvalid, "Invalid ShardIterator.")
	e.ok("DeleteStream", obj{"StreamName": "s"})
	e.fails("GetRecords", obj{"ShardIterator": latest}, codeNotFound, "Shard shardId-000000000000 in stream s under account 123456789012 does not exist")
}

func TestIteratorsExpire(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	it := e.iterator("s", "0", "LATEST")
	e.h.SetClockOffset(299 * time.Second)
	e.ok("GetRecords", obj{"ShardIterator": it})
	e.h.SetClockOffset(301 * time.Second)
	_, out := e.send("GetRecords", obj{"ShardIterator": it})
	require.Equal(t, "ExpiredIteratorException", out["__type"])
	require.Regexp(t, `^Iterator expired\. The iterator was created at time \w{3} \w{3} \d\d \d\d:\d\d:\d\d UTC \d{4} while right now it is \w{3} \w{3} \d\d \d\d:\d\d:\d\d UTC \d{4} which is further in the future than the tolerated delay of 300000 milliseconds\.$`, out["message"])
}

func TestIteratorsOutliveARestart(t *testing.T) {
	dir := t.TempDir()
	var it string
	for round := range 2 {
		db, err := stream.Open(dir, nil)
		require.NoError(t, err)
		h, err := NewHandler(db, nil)
		require.NoError(t, err)
		e := &endpoint{t, h, db}
		if round == 0 {
			e.create("s", 1)
			it = e.iterator("s", "0", "LATEST")
			e.put("s", "k", "kept")
			e.ok("RegisterStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": "c"})
			e.ok("StartStreamEncryption", obj{"StreamName": "s", "EncryptionType": "KMS", "KeyId": "k"})
		} else {
			require.Equal(t, []string{"kept"}, data(t, e.ok("GetRecords", obj{"ShardIterator": it})))
			require.Len(t, e.ok("ListStreamConsumers", obj{"StreamARN": testARN + "s"})["Consumers"], 1)
			require.Equal(t, "KMS", e.ok("DescribeStreamSummary", obj{"StreamName": "s"})["StreamDescriptionSummary"].(obj)["EncryptionType"])
		}
		require.NoError(t, h.Close())
		require.NoError(t, db.Close())
	}
}

func TestReadingByTimeNeitherRepeatsNorSkips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := stream.Open("", &stream.Options{InMemory: true})
		require.NoError(t, err)
		defer db.Close()
		h, err := NewHandler(db, nil)
		require.NoError(t, err)
		defer h.Close()
		e := &endpoint{t, h, db}
		e.create("s", 1)
		var times []float64
		for i := range 10 {
			e.put("s", "k", fmt.Sprint(i))
			times = append(times, float64(time.Now().UnixMilli())/1000)
			time.Sleep(7 * time.Millisecond)
		}
		for i, at := range times {
			for shift, want := range map[float64]int{-0.001: i, 0: i, 0.001: i + 1} {
				got := data(t, e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", "0", "AT_TIMESTAMP", obj{"Timestamp": at + shift})}))
				require.Len(t, got, 10-want)
			}
		}
		// One that is at the tail gets what comes later, once.
		it := e.iterator("s", "0", "AT_TIMESTAMP", obj{"Timestamp": float64(time.Now().UnixMilli()) / 1000})
		var got []string
		for i := range 20 {
			e.put("s", "k", fmt.Sprint("later", i))
			out := e.ok("GetRecords", obj{"ShardIterator": it, "Limit": 3})
			it = out["NextShardIterator"].(string)
			got = append(got, data(t, out)...)
		}
		require.Len(t, got, 20)
		require.Equal(t, "later19", got[19])
	})
}

func TestReadingPastTheEndOfAShard(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	e.put("s", "k", "one")
	e.put("s", "k", "two")
	e.ok("SplitShard", obj{"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "1000"})
	e.put("s", "k", "for a child")
	out := e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", "0", "TRIM_HORIZON"), "Limit": 1})
	require.NotContains(t, out, "ChildShards")
	out = e.ok("GetRecords", obj{"ShardIterator": out["NextShardIterator"]})
	require.Equal(t, []string{"two"}, data(t, out))
	require.NotContains(t, out, "NextShardIterator")
	require.Equal(t, []any{
		obj{"ShardId": "shardId-000000000001", "ParentShards": []any{"shardId-000000000000"}, "HashKeyRange": obj{"StartingHashKey": "0", "EndingHashKey": "999"}},
		obj{"ShardId": "shardId-000000000002", "ParentShards": []any{"shardId-000000000000"}, "HashKeyRange": obj{"StartingHashKey": "1000", "EndingHashKey": shardlog.MaxHashKey.String()}},
	}, out["ChildShards"])
	last := e.shards("s")[0]["SequenceNumberRange"].(obj)["EndingSequenceNumber"]
	seq, err := shardlog.ParseSequenceNumber(last.(string))
	require.NoError(t, err)
	require.EqualValues(t, shardlog.MaxCounter, counterOf(seq))
	out = e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", "0", "LATEST")})
	require.NotContains(t, out, "NextShardIterator")
}

func TestLargePages(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	const n = 30
	for i := range n {
		e.put("s", "k", fmt.Sprint(i)+strings.Repeat(" ", 500<<10))
	}
	check := func(in obj, want ...int) {
		t.Helper()
		it, next := e.iterator("s", "0", "TRIM_HORIZON"), 0
		for _, w := range want {
			in["ShardIterator"] = it
			out := e.ok("GetRecords", in)
			got := data(t, out)
			require.Len(t, got, w)
			for _, d := range got {
				require.Equal(t, fmt.Sprint(next), strings.TrimSpace(d))
				next++
			}
			require.Equal(t, next < n, out["MillisBehindLatest"].(float64) > 0)
			it = out["NextShardIterator"].(string)
		}
	}
	check(obj{}, 20, 10, 0) // of 10 MiB
	check(obj{"Limit": 7}, 7, 7, 7, 7, 2)
	check(obj{"Limit": 2}, 2, 2)
	require.Equal(t, int64(16*16<<20), e.h.FreeMemory().Answers, "all of it was given back")
}

func TestExpiredRecordsAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := stream.Open("", &stream.Options{InMemory: true})
		require.NoError(t, err)
		defer db.Close()
		h, err := NewHandler(db, &Options{IteratorLife: 100 * time.Hour})
		require.NoError(t, err)
		defer h.Close()
		e := &endpoint{t, h, db}
		e.create("s", 1)
		seq := e.put("s", "k", "old")["SequenceNumber"]
		it := e.iterator("s", "0", "AT_SEQUENCE_NUMBER", obj{"StartingSequenceNumber": seq})
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		e.put("s", "k", "new")
		require.Equal(t, []string{"new"}, data(t, e.ok("GetRecords", obj{"ShardIterator": it})))
		it = e.iterator("s", "0", "AT_SEQUENCE_NUMBER", obj{"StartingSequenceNumber": seq})
		require.Equal(t, []string{"new"}, data(t, e.ok("GetRecords", obj{"ShardIterator": it})))
	})
}

func TestLimitsOfShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := stream.Open("", &stream.Options{InMemory: true})
		require.NoError(t, err)
		defer db.Close()
		h, err := NewHandler(db, &Options{Limits: stream.KinesisLimits()})
		require.NoError(t, err)
		defer h.Close()
		e := &endpoint{t, h, db}
		e.create("s", 2)
		const over = "Rate exceeded for shard shardId-000000000000 in stream s under account 123456789012."
		// Shard 0 takes 1,000 records in a second, the other one is not asked much.
		failed := 0
		for range 3 {
			var batch []obj
			for i := range 500 {
				batch = append(batch, obj{"PartitionKey": "k", "ExplicitHashKey": []string{"0", shardlog.MaxHashKey.String()}[min(1, i%10/9)], "Data": ""})
			}
			out := e.ok("PutRecords", obj{"StreamName": "s", "Records": batch})
			bad := 0
			for i, r := range out["Records"].([]any) {
				if code, ok := r.(obj)["ErrorCode"]; ok {
					bad++
					require.NotEqual(t, 9, i%10, "the other shard")
					require.Equal(t, codeThroughput, code)
					require.Equal(t, over, r.(obj)["ErrorMessage"])
					require.NotContains(t, r, "SequenceNumber")
				}
			}
			require.EqualValues(t, bad, out["FailedRecordCount"])
			failed += bad
		}
		require.Equal(t, 350, failed)
		e.fails("PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "ExplicitHashKey": "0", "Data": ""}, codeThroughput, over)
		it := e.iterator("s", "0", "TRIM_HORIZON")
		for range 5 {
			e.ok("GetRecords", obj{"ShardIterator": it, "Limit": 1})
		}
		e.fails("GetRecords", obj{"ShardIterator": it}, codeThroughput, over)
		time.Sleep(time.Second)
		e.ok("GetRecords", obj{"ShardIterator": it})
	})
}

func TestFastWayAgreesWithTheGeneral(t *testing.T) {
	for _, body := range []string{
		`{"Records":[{"Data":"YQ==","PartitionKey":"k"},{"PartitionKey":"ü","ExplicitHashKey":"7","Data":""}],"StreamName":"s"}`,
		` { "StreamName" : "s" , "Records" : [ { "Data" : "YWJj" , "PartitionKey" : "k" } ] } `,
		`{"Records":[{"Data":"YQ==","PartitionKey":"k"}],"StreamARN":"` + testARN + `s"}`,
		`{"Records":[{"Data":"YQ==","ExplicitHashKey":"340282366920938463463374607431768211455","PartitionKey":"k"},{"Data":"","ExplicitHashKey":"0","PartitionKey":"k"}]}`,
		`{"Records":[{"Data":"YQ==","PartitionKey":"` + strings.Repeat("k", 256) + `"},{"Data":"YQ==","PartitionKey":"k"},{"PartitionKey":"` + strings.Repeat("ü", 256) + `","Data":"YWJj"}]}`,
		"{\n\t\"Records\":\t[{\n\t\t\t\"Data\":\t\"YQ==\",\n\t\t\t\"PartitionKey\":\t\"k\"\n\t\t}]\n}",
	} {
		compareWays(t, "PutRecords", []byte(body), true)
	}
	compareWays(t, "PutRecord", []byte(`{"Data":"YQ==","PartitionKey":"k","StreamName":"s","ExplicitHashKey":"0"}`), true)
	entry := obj{"Data": []byte{0, 255}, "PartitionKey": "ü", "ExplicitHashKey": "7"}
	compareEncoded(t, "PutRecords", toCBOR(obj{"StreamName": "s", "Records": []any{entry, obj{"Data": []byte{}, "PartitionKey": "k"}}}), true, true)
	compareEncoded(t, "PutRecord", toCBOR(obj{"StreamARN": testARN + "s", "Data": []byte{1}, "PartitionKey": "k"}), true, true)
	for _, entry := range entriesOfSDKs() {
		compareEncoded(t, "PutRecords", inCBOR(entry), true, true)
		for i := range entry { // one that ends early, and one in which a byte is another
			compareEncoded(t, "PutRecords", inCBOR(entry[:i]), true, false)
			compareEncoded(t, "PutRecords", inCBOR(entry[:i], []byte{entry[i] + 1}, entry[i+1:]), true, false)
			if i == 40 {
				break
			}
		}
	}
	for _, in := range []obj{{}, {"Records": []any{}}, {"Records": []any{obj{}}}, {"Records": []any{entry}, "X": 1}, {"Records": []any{obj{"Data": "YQ==", "PartitionKey": "k"}}},
		{"Records": []any{obj{"Data": []byte{}, "PartitionKey": ""}}}, {"Records": "x"}, {"StreamName": "a b", "Records": []any{entry}}} {
		compareEncoded(t, "PutRecords", toCBOR(in), true, false)
	}
	for _, body := range []string{
		``, `{}`, `{"Records":[]}`, `{"Records":[{"Data":"YQ==","PartitionKey":"k"}],"Records":[]}`,
		`{"Records":[{"Data":"YQ==","PartitionKey":"\u006b"}]}`, `{"Records":[{"Data":"Y\nQ==","PartitionKey":"k"}]}`,
		`{"Records":[{"Data":"YQ=","PartitionKey":"k"}]}`, `{"Records":[{"Data":"YR==","PartitionKey":"k"}]}`,
		`{"Records":[{"Data":"YQ==","PartitionKey":""}]}`, `{"Records":[{"Data":"YQ==","PartitionKey":"k"},]}`,
		`{"Records":[{"Data":"YQ==","PartitionKey":"k"}]}x`, `{"Records":[{"Data":"YQ==","PartitionKey":"k"}],"X":1}`,
		`{"Records":[{"Data":"YQ==","PartitionKey":"k","ExplicitHashKey":"00"}]}`, `{"Records":[{"Data":"YQ==","PartitionKey":"` + "\xff" + `"}]}`,
		`{"StreamName":"a b","Records":[{"Data":"YQ==","PartitionKey":"k"}]}`,
		`{"Records":[{"Data":"YQ==","ExplicitHashKey":"00","PartitionKey":"k"}]}`, `{"Records":[{"Data":"YQ==","ExplicitHashKey":"340282366920938463463374607431768211456","PartitionKey":"k"}]}`,
		`{"Records":[{"Data":"YQ==","ExplicitHashKey":"","PartitionKey":"k"}]}`, `{"Records":[{"Data":"YQ==","Data":"","PartitionKey":"k"}]}`,
		`{"Records":[{"Data":"YQ==","PartitionKey":"` + strings.Repeat("k", 257) + `"}]}`, `{"Records":[{"Data":"YQ==","PartitionKey":"k"`,
	} {
		compareWays(t, "PutRecords", []byte(body), false)
	}
	// Each byte in turn is left out, and each is another.
	const body = `{"Records":[{"Data":"YWJjZA==","ExplicitHashKey":"7","PartitionKey":"key-000000001"},{"Data":"YWJj","PartitionKey":"k"}],"StreamName":"s"}`
	for i := range body {
		compareWays(t, "PutRecords", []byte(body[:i]+body[i+1:]), false)
		for _, c := range "\"\\=}\x00\xff" {
			compareWays(t, "PutRecords", []byte(body[:i]+string(c)+body[i+1:]), false)
		}
	}
}

// entriesOfSDKs are entries in CBOR, as the SDK for Java writes them in maps that a
// break ends, and others in maps of two.
func entriesOfSDKs() (all [][]byte) {
	for _, size := range []int{0, 1, 23, 24, 255, 256, 65_535, 65_536} {
		data := bytes.Repeat([]byte{byte(size)}, size)
		for _, key := range []string{"k", strings.Repeat("k", 24), strings.Repeat("ü", 200)} {
			members := append(append([]byte("\x64Data"), toCBOR(data)...), append([]byte("\x6cPartitionKey"), toCBOR(key)...)...)
			all = append(all, append([]byte{0xa2}, members...), append(append([]byte{0xbf}, members...), 0xff))
		}
	}
	return all
}

// inCBOR is a PutRecords with an entry twice; the entry may be in parts.
func inCBOR(entry ...[]byte) []byte {
	b := append(toCBOR("Records"), 0x82)
	for range 2 {
		for _, part := range entry {
			b = append(b, part...)
		}
	}
	return append([]byte{0xa1}, b...)
}

// compareWays checks that what the fast way takes is what the general way
// makes of it.
func compareWays(t testing.TB, op string, body []byte, fast bool) {
	t.Helper()
	compareEncoded(t, op, body, false, fast)
}

func compareEncoded(t testing.TB, op string, body []byte, cbor, fast bool) {
	t.Helper()
	p11 := awswire.JSON11
	if cbor {
		p11 = awswire.CBOR11
	}
	c := newCall(op, p11, body)
	took := c.Op.Fast(&c.Call)
	defer func() {
		if took {
			c.put.run.release()
		}
	}()
	if fast {
		require.True(t, took, "%s", body)
	}
	if !took {
		return
	}
	general := newCall(op, p11, body)
	require.NoError(t, awswire.WellFormed(p11.Reader(body)), "%s", body)
	require.NoError(t, general.Decode(), "%s", body)
	p, err := generalPut(general)
	require.NoError(t, err, "%s", body)
	require.Equal(t, len(p.records), c.put.len())
	require.Equal(t, []string{p.name, p.arn}, []string{c.put.name, c.put.arn})
	for i := range p.records {
		var it block.Encoded
		c.put.run.At(i, &it)
		want, got := p.records[i], it.Record()
		require.Equal(t, block.AppendRecord(nil, want.PartitionKey, want.ExplicitHashKey, want.Data), it.Bytes)
		data, key := c.put.sizes(i)
		require.Equal(t, [2]int{len(want.Data), len(want.PartitionKey)}, [2]int{data, key})
		require.Equal(t, want.PartitionKey, got.PartitionKey)
		require.Equal(t, want.ExplicitHashKey, got.ExplicitHashKey)
		require.Equal(t, string(want.Data), string(got.Data))
	}
}

func FuzzFastPutRecords(f *testing.F) {
	f.Add([]byte(`{"Records":[{"Data":"YQ==","PartitionKey":"k"},{"PartitionKey":"ü","ExplicitHashKey":"7","Data":""}],"StreamName":"s"}`))
	f.Add([]byte(`{"Data":"YQ==","PartitionKey":"k","StreamName":"s"}`))
	f.Add([]byte(`{"Records":[{"Data":"YWJjYWJjYWJj","ExplicitHashKey":"7","PartitionKey":"key-000000000001"}],"StreamName":"stream"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		compareWays(t, "PutRecords", body, false)
		compareWays(t, "PutRecord", body, false)
	})
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2.5e3,null,true,{"b":"\ud83d\ude00\n"}]}`, `[`, `{"a":1,}`, `{"a":"\u12"}`, "{\"\":\"\x01\"}", `{"a":01}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		err := awswire.WellFormed(awswire.JSON11.Reader(body))
		var want map[string]any
		valid := json.Valid(body) && json.Unmarshal(body, &want) == nil && want != nil
		if err == nil && !valid {
			// Numbers beyond a float64 are for the constraints to refuse.
			require.True(t, json.Valid(body), "%q", body)
		}
		if err != nil && valid {
			require.Greater(t, strings.Count(string(body), "{")+strings.Count(string(body), "["), awswire.MaxDepth-1, "%q", body)
		}
		for _, op := range []string{"CreateStream", "PutRecords", "SubscribeToShard"} {
			c := newCall(op, awswire.JSON11, body)
			if err == nil {
				_ = c.Decode() // it must come to an end without a panic
			}
		}
	})
}

// TestLargestPageFitsIntoTheSmallestBudget has the least memory that an endpoint
// may be given. A page that did not fit would wait for ever.
func TestLargestPageFitsIntoTheSmallestBudget(t *testing.T) {
	e := newEndpoint(t, &Options{MaxBodyBytes: 64 << 10, MaxBodiesBytes: 64 << 10})
	require.GreaterOrEqual(t, e.h.FreeMemory().Answers, int64(largePage))
}
