package kinesisapi

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/awswire"
)

func summary(e *endpoint, name string) obj {
	e.t.Helper()
	return e.ok("DescribeStreamSummary", obj{"StreamName": name})["StreamDescriptionSummary"].(obj)
}

// With AUTO the open shards get records in turn, with whatever key or none.
func TestStreamsThatDistributeRecords(t *testing.T) {
	e := newEndpoint(t, nil)
	e.ok("CreateStream", obj{"StreamName": "s", "StreamModeDetails": obj{"StreamMode": "ON_DEMAND"}, "RecordDistributionStrategy": "AUTO"})
	require.Equal(t, "AUTO", summary(e, "s")["RecordDistributionStrategy"])
	var entries []obj
	for range 20 {
		entries = append(entries, obj{"PartitionKey": "one", "Data": []byte("x"), "ExplicitHashKey": "0"}, obj{"Data": []byte("x")})
	}
	counts := map[string]int{}
	for _, r := range e.ok("PutRecords", obj{"StreamARN": testARN + "s", "Records": entries})["Records"].([]any) {
		counts[r.(obj)["ShardId"].(string)]++
	}
	require.Equal(t, map[string]int{shardID(0): 10, shardID(1): 10, shardID(2): 10, shardID(3): 10}, counts)
	counts = map[string]int{}
	for range 8 {
		counts[e.put("s", "one", "")["ShardId"].(string)]++ // the short way
		counts[e.ok("PutRecord", obj{"StreamName": "s", "Data": []byte("x")})["ShardId"].(string)]++
	}
	require.Equal(t, map[string]int{shardID(0): 4, shardID(1): 4, shardID(2): 4, shardID(3): 4}, counts)
	keys, none := 0, 0
	for shard := range counts {
		for _, r := range e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", shard, "TRIM_HORIZON")})["Records"].([]any) {
			if key, ok := r.(obj)["PartitionKey"]; ok {
				require.Equal(t, "one", key)
				keys++
				continue
			}
			none++
		}
	}
	require.Equal(t, [2]int{28, 28}, [2]int{keys, none})

	number := e.put("s", "one", "")["SequenceNumber"]
	e.fails("PutRecord", obj{"StreamName": "s", "Data": "", "SequenceNumberForOrdering": number}, codeInvalid,
		"SequenceNumberForOrdering must not be specified for stream s under account 123456789012, whose record distribution strategy is AUTO.")
	e.fails("PutRecord", obj{"StreamName": "s", "Data": make([]byte, 1<<20)}, codeInvalid,
		"Record size of 1048592 bytes, of which 16 are those of a record without a partition key, exceeds the limit of 1048576 bytes.")
	for op, in := range map[string]obj{"PutRecord": {"Data": make([]byte, 1<<20)}, "PutRecords": {"Records": []obj{{"Data": make([]byte, 1<<20)}}}} {
		in["StreamName"], in["DryRun"] = "s", true
		_, out := e.send(op, in)
		require.Equal(t, codeInvalid, out["__type"], op)
	}
	require.Contains(t, e.message("PutRecord", obj{"StreamName": "s", "Data": "", "PartitionKey": ""}), "at 'partitionKey'")

	e.ok("UpdateStreamRecordDistributionStrategy", obj{"StreamARN": testARN + "s", "RecordDistributionStrategy": "USER_PARTITION_KEY"})
	require.Equal(t, "USER_PARTITION_KEY", summary(e, "s")["RecordDistributionStrategy"])
	e.ok("PutRecord", obj{"StreamName": "s", "PartitionKey": "one", "Data": "", "SequenceNumberForOrdering": number})
	require.Equal(t, e.put("s", "one", "")["ShardId"], e.put("s", "one", "")["ShardId"])
	e.fails("PutRecord", obj{"StreamName": "s", "Data": ""}, codeValidation,
		"1 validation error detected: Value null at 'partitionKey' failed to satisfy constraint: Member must not be null")
	e.fails("PutRecords", obj{"StreamName": "s", "Records": []obj{{"Data": ""}}}, codeValidation,
		"1 validation error detected: Value null at 'records.1.member.partitionKey' failed to satisfy constraint: Member must not be null")
}

func TestStrategiesOfProvisionedStreams(t *testing.T) {
	e := newEndpoint(t, nil)
	const text = "RecordDistributionStrategy AUTO can only be specified for streams in ON_DEMAND mode."
	e.fails("CreateStream", obj{"StreamName": "s", "ShardCount": 1, "RecordDistributionStrategy": "AUTO"}, codeInvalid, text)
	e.ok("CreateStream", obj{"StreamName": "s", "ShardCount": 1, "RecordDistributionStrategy": "USER_PARTITION_KEY"})
	require.Equal(t, "USER_PARTITION_KEY", summary(e, "s")["RecordDistributionStrategy"])
	require.EqualValues(t, 0, summary(e, "s")["ChannelCount"])
	require.EqualValues(t, 0, e.ok("DescribeLimits", obj{})["ChannelCount"])
	set := func(strategy string) obj {
		return obj{"StreamARN": testARN + "s", "RecordDistributionStrategy": strategy}
	}
	e.fails("UpdateStreamRecordDistributionStrategy", set("AUTO"), codeInvalid, text)
	e.ok("UpdateStreamMode", obj{"StreamARN": testARN + "s", "StreamModeDetails": obj{"StreamMode": "ON_DEMAND"}})
	e.ok("UpdateStreamRecordDistributionStrategy", set("AUTO"))
	e.ok("UpdateStreamMode", obj{"StreamARN": testARN + "s", "StreamModeDetails": obj{"StreamMode": "PROVISIONED"}})
	require.Equal(t, "USER_PARTITION_KEY", summary(e, "s")["RecordDistributionStrategy"])
	e.fails("UpdateStreamRecordDistributionStrategy", set("X"), codeValidation, "1 validation error detected: Value 'X' at 'recordDistributionStrategy' failed to satisfy constraint: "+
		"Member must satisfy enum value set: [AUTO, USER_PARTITION_KEY]")
}

// A request that is only to be checked is checked, and does nothing.
func TestDryRuns(t *testing.T) {
	e := newEndpoint(t, &Options{ControlLimits: true})
	e.create("s", 1)
	arn := e.ok("RegisterStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": "c"})["Consumer"].(obj)["ConsumerARN"]
	it := e.iterator("s", "0", "TRIM_HORIZON")
	none := e.h.svc.tokens.sealIterator(&iterator{made: (&awswire.Clock{}).Moment(), account: testAccount, region: "eu-west-1", stream: "s", shard: 7})
	for i, c := range []struct {
		op   string
		good obj
		bad  obj
		code string
	}{
		{"PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "Data": []byte("x")}, obj{"StreamName": "none", "PartitionKey": "k", "Data": ""}, codeNotFound},
		{"PutRecords", obj{"StreamName": "s", "Records": []obj{{"PartitionKey": "k", "Data": []byte("x")}}}, obj{"StreamName": "s", "Records": []obj{{"PartitionKey": "k", "Data": bytes.Repeat([]byte("x"), 1<<20)}}}, codeInvalid},
		{"GetRecords", obj{"ShardIterator": it}, obj{"ShardIterator": none}, codeNotFound},
		{"GetShardIterator", obj{"StreamName": "s", "ShardId": "0", "ShardIteratorType": "LATEST"}, obj{"StreamName": "s", "ShardId": "0", "ShardIteratorType": "AT_TIMESTAMP"}, codeInvalid},
		{"SubscribeToShard", obj{"ConsumerARN": arn, "ShardId": "0", "StartingPosition": obj{"Type": "LATEST"}}, obj{"ConsumerARN": arn, "ShardId": "1", "StartingPosition": obj{"Type": "LATEST"}}, codeNotFound},
	} {
		e.h.SetClockOffset(time.Duration(i) * time.Minute)
		c.good["DryRun"], c.bad["DryRun"] = true, true
		_, out := e.send(c.op, c.bad)
		require.Equal(t, c.code, out["__type"], c.op)
		e.fails(c.op, c.good, "DryRunOperationException", "The request would have succeeded, but DryRun is set.")
		e.fails(c.op, c.good, "ThrottlingException", "Rate exceeded for stream s under account 123456789012.")
	}
	require.Empty(t, data(t, e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", "0", "TRIM_HORIZON")})), "nothing was stored")
	e.ok("PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "Data": []byte("x"), "DryRun": false})
}
