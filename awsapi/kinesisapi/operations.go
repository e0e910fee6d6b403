package kinesisapi

// operation is one of the service model.
type operation struct {
	name  string
	input *shape
	run   func(*call) error
	// fast reads the usual form of a body, checked and all; false leaves the
	// rest of the work, and every error, to the general way.
	fast func(*call) bool
	// perSecond is AWS's rate for an account, or for a stream where perStream
	// is set; 0 for none. Source: the API reference of each operation.
	perSecond float64
	perStream bool
}

// operations are all of the service model of 2013-12-02, by name.
var operations = map[string]*operation{}

func init() {
	named := []field{fieldName, fieldARN, fieldID}
	resource := []field{req("ResourceARN", shapeResourceARN), fieldID}
	with := func(base []field, more ...field) *shape { return structure(append(more, base...)...) }
	add := func(name string, perSecond float64, perStream bool, run func(*call) error, input *shape) *operation {
		op := &operation{name: name, input: input, run: run, perSecond: perSecond, perStream: perStream}
		operations[name] = op
		return op
	}
	// Records.
	add("PutRecord", 0, false, putRecord, with(named, req("Data", shapeData), req("PartitionKey", shapeKey),
		opt("ExplicitHashKey", shapeHashKey), opt("SequenceNumberForOrdering", shapeSequence))).fast = fastPutRecord
	add("PutRecords", 0, false, putRecords, with(named, req("Records", list(shapeEntry, 1, 500)))).fast = fastPutRecords
	add("GetRecords", 0, false, getRecords, structure(opt("Limit", shapeLimit), req("ShardIterator", shapeIterator), fieldARN, fieldID))
	add("GetShardIterator", 0, false, getShardIterator, with(named, req("ShardId", shapeName), req("ShardIteratorType", shapeIteratorType),
		opt("StartingSequenceNumber", shapeSequence), opt("Timestamp", timestamp)))
	add("SubscribeToShard", 0, false, subscribeToShard, structure(req("ConsumerARN", shapeConsumerARN), fieldID,
		req("ShardId", shapeName), req("StartingPosition", shapePosition)))
	// Streams.
	add("CreateStream", 5, false, createStream, structure(opt("ShardCount", integer(1, -1)), req("StreamName", shapeStreamName), opt("StreamModeDetails", shapeMode),
		opt("Tags", shapeTags), opt("WarmThroughputMiBps", shapeWarm), opt("MaxRecordSizeInKiB", shapeRecordKiB)))
	add("DeleteStream", 5, false, deleteStream, with(named, opt("EnforceConsumerDeletion", boolean)))
	add("DescribeStream", 10, false, describeStream, with(named, opt("Limit", shapeLimit), opt("ExclusiveStartShardId", shapeName)))
	add("DescribeStreamSummary", 20, false, describeStreamSummary, with(named))
	add("ListStreams", 5, false, listStreams, structure(opt("Limit", shapeLimit), opt("ExclusiveStartStreamName", shapeStreamName), opt("NextToken", shapeToken)))
	add("ListShards", 1000, true, listShards, with(named, opt("NextToken", shapeToken), opt("ExclusiveStartShardId", shapeName),
		opt("MaxResults", shapeLimit), opt("StreamCreationTimestamp", timestamp), opt("ShardFilter", shapeFilter)))
	add("SplitShard", 5, false, splitShard, with(named, req("ShardToSplit", shapeName), req("NewStartingHashKey", shapeHashKey)))
	add("MergeShards", 5, false, mergeShards, with(named, req("ShardToMerge", shapeName), req("AdjacentShardToMerge", shapeName)))
	add("UpdateShardCount", 5, false, updateShardCount, with(named, req("TargetShardCount", integer(1, -1)), req("ScalingType", enum("UNIFORM_SCALING"))))
	add("IncreaseStreamRetentionPeriod", 5, false, increaseRetention, with(named, req("RetentionPeriodHours", shapeHours)))
	add("DecreaseStreamRetentionPeriod", 5, false, decreaseRetention, with(named, req("RetentionPeriodHours", shapeHours)))
	// Tags.
	add("AddTagsToStream", 5, false, addTagsToStream, with(named, req("Tags", shapeTags)))
	add("RemoveTagsFromStream", 5, false, removeTagsFromStream, with(named, req("TagKeys", shapeTagKeys)))
	add("ListTagsForStream", 5, false, listTagsForStream, with(named, opt("ExclusiveStartTagKey", shapeTagKey), opt("Limit", integer(1, 50))))
	add("TagResource", 5, false, tagResource, with(resource, req("Tags", shapeTags)))
	add("UntagResource", 5, false, untagResource, with(resource, req("TagKeys", shapeTagKeys)))
	add("ListTagsForResource", 5, false, listTagsForResource, with(resource))
	// Consumers.
	add("RegisterStreamConsumer", 5, false, registerStreamConsumer, structure(req("StreamARN", shapeStreamARN), req("ConsumerName", shapeName), fieldID, opt("Tags", shapeTags)))
	byConsumer := func() *shape {
		return structure(fieldARN, opt("ConsumerName", shapeName), opt("ConsumerARN", shapeConsumerARN), fieldID)
	}
	add("DeregisterStreamConsumer", 5, false, deregisterStreamConsumer, byConsumer())
	add("DescribeStreamConsumer", 20, false, describeStreamConsumer, byConsumer())
	add("ListStreamConsumers", 5, false, listStreamConsumers, structure(req("StreamARN", shapeStreamARN), opt("NextToken", shapeToken),
		opt("MaxResults", shapeLimit), opt("StreamCreationTimestamp", timestamp), fieldID))
	addSettings(add, named, resource)
}

// addSettings adds the operations on what a stream and an account are set to.
func addSettings(add func(string, float64, bool, func(*call) error, *shape) *operation, named, resource []field) {
	with := func(base []field, more ...field) *shape { return structure(append(more, base...)...) }
	encryption := []field{req("EncryptionType", shapeEncryption), req("KeyId", shapeKeyID)}
	add("StartStreamEncryption", 5, false, startStreamEncryption, with(named, encryption...))
	add("StopStreamEncryption", 5, false, stopStreamEncryption, with(named, encryption...))
	add("EnableEnhancedMonitoring", 5, false, enableEnhancedMonitoring, with(named, req("ShardLevelMetrics", shapeMetrics)))
	add("DisableEnhancedMonitoring", 5, false, disableEnhancedMonitoring, with(named, req("ShardLevelMetrics", shapeMetrics)))
	add("UpdateStreamMode", 5, false, updateStreamMode, structure(req("StreamARN", shapeStreamARN), fieldID,
		req("StreamModeDetails", shapeMode), opt("WarmThroughputMiBps", shapeWarm)))
	add("UpdateStreamWarmThroughput", 5, false, updateStreamWarmThroughput, with(named, req("WarmThroughputMiBps", shapeWarm)))
	add("UpdateMaxRecordSize", 5, false, updateMaxRecordSize, structure(fieldARN, fieldID, req("MaxRecordSizeInKiB", shapeRecordKiB)))
	add("PutResourcePolicy", 5, false, putResourcePolicy, with(resource, req("Policy", shapePolicy)))
	add("GetResourcePolicy", 5, false, getResourcePolicy, with(resource))
	add("DeleteResourcePolicy", 5, false, deleteResourcePolicy, with(resource))
	add("DescribeLimits", 1, false, describeLimits, structure())
	add("DescribeAccountSettings", 5, false, describeAccountSettings, structure())
	add("UpdateAccountSettings", 5, false, updateAccountSettings, structure(req("MinimumThroughputBillingCommitment",
		structure(req("Status", enum("ENABLED", "DISABLED"))))))
}
