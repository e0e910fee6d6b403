package kinesisapi

import (
	"maps"

	"github.com/shardlog/shardlog/internal/awswire"
)

// The operations of the service model of 2013-12-02, as it was in November 2026,
// but for those on channels and queues. The order of the members of an input is
// that in which errors name them.

// named is the input of an operation that names a stream and nothing else, and
// resource of one that names a stream or a consumer.
var (
	named    = awswire.Structure(fieldName, fieldARN, fieldID)
	resource = awswire.Structure(awswire.Required("ResourceARN", shapeResourceARN), fieldID)
)

// operations returns all of them, by name.
func operations() map[string]*awswire.Operation {
	t := table{}
	for _, more := range []table{recordOperations(), streamOperations(), tagOperations(), consumerOperations(), settingOperations()} {
		maps.Copy(t, more)
	}
	return t
}

// table has operations by name.
type table map[string]*awswire.Operation

// add adds an operation that runs with the call of Kinesis.
func (t table) add(name string, rate *awswire.Rate, run func(*call) error, input *awswire.Shape) *awswire.Operation {
	op := &awswire.Operation{Name: name, Input: input, Rate: rate, Run: func(w *awswire.Call) error {
		c := w.Session.(*call)
		err := run(c)
		if c.put != nil {
			c.put.run.release() // now, and not when a slow client has its answer
		}
		return err
	}}
	t[name] = op
	return op
}

// fast returns the fast way of PutRecords, or of PutRecord if single.
func fast(single bool) func(*awswire.Call) bool {
	return func(c *awswire.Call) bool { return fastPut(c.Session.(*call), single) }
}

// keyless returns a shape for puts to a stream that distributes records by itself,
// which need no partition key.
func keyless(s *awswire.Shape) func(*awswire.Call) *awswire.Shape {
	return func(w *awswire.Call) *awswire.Shape {
		if w.Session.(*call).distributes() {
			return s
		}
		return nil
	}
}

// Rates of AWS. Source: the API reference of each operation.

// perAccount is the rate of an operation for all calls of an account in a region.
func perAccount(n float64) *awswire.Rate {
	return &awswire.Rate{PerSecond: n, Exceeded: func(c *awswire.Call, _ string) error { return callThrottled(c.Scope, "") }}
}

// perStream is the rate of an operation for each stream.
func perStream(n float64) *awswire.Rate {
	return &awswire.Rate{
		PerSecond: n,
		Key:       func(c *awswire.Call) string { return c.Session.(*call).requestedStream() },
		Exceeded:  func(c *awswire.Call, stream string) error { return callThrottled(c.Scope, stream) },
	}
}

// perShard is the rate of an operation that names a shard and a stream.
func perShard(n float64) *awswire.Rate {
	return &awswire.Rate{
		PerSecond: n,
		Key: func(c *awswire.Call) string {
			return requestedShard(c) + "/" + c.Session.(*call).requestedStream()
		},
		Exceeded: func(c *awswire.Call, _ string) error {
			return shardThrottled(c.Scope, requestedShard(c), c.Session.(*call).requestedStream())
		},
	}
}

// requestedShard returns the shard ID of a request in one form, however it is
// written, so that all forms are counted together.
func requestedShard(c *awswire.Call) string {
	id := c.In.Text("ShardId")
	if index, ok := shardIndex(id); ok {
		return shardID(index)
	}
	return id
}

// iteratorsPerSecond is how many GetShardIterator a shard allows (API
// reference, GetShardIterator).
const iteratorsPerSecond = 5

func recordOperations() table {
	t := table{}
	puts := named.Extend(fieldDry)
	single := puts.Extend(awswire.Optional("ExplicitHashKey", shapeHashKey), awswire.Optional("SequenceNumberForOrdering", shapeSequence))
	data := awswire.Required("Data", shapeData)
	put := t.add("PutRecord", nil, putRecord, single.Extend(data, awswire.Required("PartitionKey", shapeKey)))
	put.Fast, put.Lenient = fast(true), keyless(single.Extend(data, awswire.Optional("PartitionKey", shapeKey)))
	put = t.add("PutRecords", nil, putRecords, puts.Extend(awswire.Required("Records", awswire.List(shapeEntry, 1, maxEntries))))
	put.Fast, put.Lenient = fast(false), keyless(puts.Extend(awswire.Required("Records", awswire.List(shapeKeylessEntry, 1, maxEntries))))
	t.add("GetRecords", nil, getRecords, awswire.Structure(awswire.Optional("Limit", shapeLimit), awswire.Required("ShardIterator", shapeIterator), fieldARN, fieldID, fieldDry))
	t.add("GetShardIterator", perShard(iteratorsPerSecond), getShardIterator, named.Extend(awswire.Required("ShardId", shapeName), awswire.Required("ShardIteratorType", shapeIteratorType),
		awswire.Optional("StartingSequenceNumber", shapeSequence), awswire.Optional("Timestamp", timestamp), fieldDry))
	t.add("SubscribeToShard", nil, subscribeToShard, awswire.Structure(awswire.Required("ConsumerARN", shapeConsumerARN), fieldID,
		awswire.Required("ShardId", shapeName), awswire.Required("StartingPosition", shapePosition), fieldDry))
	return t
}

func streamOperations() table {
	t := table{}
	t.add("CreateStream", perAccount(5), createStream, awswire.Structure(awswire.Optional("ShardCount", awswire.Integer(1, -1)), awswire.Required("StreamName", shapeStreamName), awswire.Optional("StreamModeDetails", shapeMode),
		awswire.Optional("Tags", shapeTags), awswire.Optional("WarmThroughputMiBps", shapeWarm), awswire.Optional("MaxRecordSizeInKiB", shapeRecordKiB), awswire.Optional("RecordDistributionStrategy", shapeStrategy)))
	t.add("DeleteStream", perAccount(5), deleteStream, named.Extend(awswire.Optional("EnforceConsumerDeletion", boolean)))
	t.add("DescribeStream", perAccount(10), describeStream, named.Extend(awswire.Optional("Limit", shapeLimit), awswire.Optional("ExclusiveStartShardId", shapeName)))
	t.add("DescribeStreamSummary", perAccount(20), describeStreamSummary, named)
	t.add("ListStreams", perAccount(5), listStreams, awswire.Structure(awswire.Optional("Limit", shapeLimit), awswire.Optional("ExclusiveStartStreamName", shapeStreamName), awswire.Optional("NextToken", shapeToken)))
	t.add("ListShards", perStream(1000), listShards, named.Extend(awswire.Optional("NextToken", shapeToken), awswire.Optional("ExclusiveStartShardId", shapeName),
		awswire.Optional("MaxResults", shapeLimit), awswire.Optional("StreamCreationTimestamp", timestamp), awswire.Optional("ShardFilter", shapeFilter)))
	t.add("SplitShard", perAccount(5), splitShard, named.Extend(awswire.Required("ShardToSplit", shapeName), awswire.Required("NewStartingHashKey", shapeHashKey)))
	t.add("MergeShards", perAccount(5), mergeShards, named.Extend(awswire.Required("ShardToMerge", shapeName), awswire.Required("AdjacentShardToMerge", shapeName)))
	t.add("UpdateShardCount", perAccount(5), updateShardCount, named.Extend(awswire.Required("TargetShardCount", awswire.Integer(1, -1)), awswire.Required("ScalingType", awswire.Enum("UNIFORM_SCALING"))))
	t.add("IncreaseStreamRetentionPeriod", perAccount(5), increaseRetention, named.Extend(awswire.Required("RetentionPeriodHours", shapeHours)))
	t.add("DecreaseStreamRetentionPeriod", perAccount(5), decreaseRetention, named.Extend(awswire.Required("RetentionPeriodHours", shapeHours)))
	return t
}

func tagOperations() table {
	t := table{}
	t.add("AddTagsToStream", perAccount(5), addTagsToStream, named.Extend(awswire.Required("Tags", shapeTags)))
	t.add("RemoveTagsFromStream", perAccount(5), removeTagsFromStream, named.Extend(awswire.Required("TagKeys", shapeTagKeys)))
	t.add("ListTagsForStream", perAccount(5), listTagsForStream, named.Extend(awswire.Optional("ExclusiveStartTagKey", shapeTagKey), awswire.Optional("Limit", awswire.Integer(1, 50))))
	t.add("TagResource", perAccount(5), tagResource, resource.Extend(awswire.Required("Tags", shapeTags)))
	t.add("UntagResource", perAccount(5), untagResource, resource.Extend(awswire.Required("TagKeys", shapeTagKeys)))
	t.add("ListTagsForResource", perAccount(5), listTagsForResource, resource)
	return t
}

func consumerOperations() table {
	t := table{}
	t.add("RegisterStreamConsumer", perAccount(5), registerStreamConsumer, awswire.Structure(awswire.Required("StreamARN", shapeStreamARN), awswire.Required("ConsumerName", shapeName), fieldID, awswire.Optional("Tags", shapeTags)))
	byConsumer := awswire.Structure(fieldARN, awswire.Optional("ConsumerName", shapeName), awswire.Optional("ConsumerARN", shapeConsumerARN), fieldID)
	t.add("DeregisterStreamConsumer", perAccount(5), deregisterStreamConsumer, byConsumer)
	t.add("DescribeStreamConsumer", perAccount(20), describeStreamConsumer, byConsumer)
	t.add("ListStreamConsumers", perAccount(5), listStreamConsumers, awswire.Structure(awswire.Required("StreamARN", shapeStreamARN), awswire.Optional("NextToken", shapeToken),
		awswire.Optional("MaxResults", shapeLimit), awswire.Optional("StreamCreationTimestamp", timestamp), fieldID))
	return t
}

// settingOperations are those on what a stream and an account are set to.
func settingOperations() table {
	t := table{}
	encryption := []awswire.Field{awswire.Required("EncryptionType", shapeEncryption), awswire.Required("KeyId", shapeKeyID)}
	t.add("StartStreamEncryption", perAccount(5), startStreamEncryption, named.Extend(encryption...))
	t.add("StopStreamEncryption", perAccount(5), stopStreamEncryption, named.Extend(encryption...))
	t.add("EnableEnhancedMonitoring", perAccount(5), enableEnhancedMonitoring, named.Extend(awswire.Required("ShardLevelMetrics", shapeMetrics)))
	t.add("DisableEnhancedMonitoring", perAccount(5), disableEnhancedMonitoring, named.Extend(awswire.Required("ShardLevelMetrics", shapeMetrics)))
	t.add("UpdateStreamMode", perAccount(5), updateStreamMode, awswire.Structure(awswire.Required("StreamARN", shapeStreamARN), fieldID,
		awswire.Required("StreamModeDetails", shapeMode), awswire.Optional("WarmThroughputMiBps", shapeWarm)))
	t.add("UpdateStreamRecordDistributionStrategy", perAccount(5), updateStrategy, awswire.Structure(awswire.Required("StreamARN", shapeStreamARN), fieldID,
		awswire.Required("RecordDistributionStrategy", shapeStrategy)))
	t.add("UpdateStreamWarmThroughput", perAccount(5), updateStreamWarmThroughput, named.Extend(awswire.Required("WarmThroughputMiBps", shapeWarm)))
	t.add("UpdateMaxRecordSize", perAccount(5), updateMaxRecordSize, awswire.Structure(fieldARN, fieldID, awswire.Required("MaxRecordSizeInKiB", shapeRecordKiB)))
	t.add("PutResourcePolicy", perAccount(5), putResourcePolicy, resource.Extend(awswire.Required("Policy", shapePolicy)))
	t.add("GetResourcePolicy", perAccount(5), getResourcePolicy, resource)
	t.add("DeleteResourcePolicy", perAccount(5), deleteResourcePolicy, resource)
	t.add("DescribeLimits", perAccount(1), describeLimits, awswire.Structure())
	t.add("DescribeAccountSettings", perAccount(5), describeAccountSettings, awswire.Structure())
	t.add("UpdateAccountSettings", perAccount(5), updateAccountSettings, awswire.Structure(awswire.Required("MinimumThroughputBillingCommitment",
		awswire.Structure(awswire.Required("Status", awswire.Enum("ENABLED", "DISABLED"))))))
	return t
}
