package kinesisapi

import (
	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// Bounds of the model that the fast way checks by itself.
const (
	maxData    = shardlog.MaxRecordSize     // of a record, before the stream's own limit
	maxEntries = shardlog.MaxRequestRecords // of a PutRecords
	maxARN     = 2048
)

// Shapes of the service model. The bounds are the model's.
var (
	boolean   = awswire.Boolean()
	timestamp = awswire.Timestamp()

	shapeStreamName  = awswire.Text(1, 128, `[a-zA-Z0-9_.-]+`)
	shapeStreamARN   = awswire.Text(1, 2048, `arn:aws.*:kinesis:.*:\d{12}:stream/\S+`)
	shapeStreamID    = awswire.Text(1, 24, `[a-z0-9]{20}-[a-z0-9]{3}`)
	shapeResourceARN = awswire.Text(1, 2048, `arn:aws.*:kinesis:.*:\d{12}:.*stream/\S+`)
	shapeConsumerARN = awswire.Text(1, 2048, `^(arn):aws.*:kinesis:.*:\d{12}:.*stream\/[a-zA-Z0-9_.-]+\/consumer\/[a-zA-Z0-9_.-]+:[0-9]+`)
	shapeName        = awswire.Text(1, 128, `[a-zA-Z0-9_.-]+`) // of a shard or a consumer
	shapeHashKey     = awswire.Text(-1, -1, `0|([1-9]\d{0,38})`)
	shapeSequence    = awswire.Text(-1, -1, `0|([1-9]\d{0,128})`)
	shapeKey         = awswire.Text(1, maxKeyRunes, "")
	shapeIterator    = awswire.Text(1, 512, "")
	shapeToken       = awswire.Text(1, 1<<20, "")
	shapeTagKey      = awswire.Text(1, 128, "")
	shapeKeyID       = awswire.Text(1, 2048, "")
	shapePolicy      = awswire.Text(-1, -1, "")
	shapeData        = awswire.Blob(0, maxData)
	shapeTags        = awswire.Map(shapeTagKey, awswire.Text(0, 256, ""), 1, 200)
	shapeTagKeys     = awswire.List(shapeTagKey, 1, 50)
	shapeEncryption  = awswire.Enum("NONE", "KMS")
	shapeMetrics     = awswire.List(awswire.Enum("IncomingBytes", "IncomingRecords", "OutgoingBytes", "OutgoingRecords", "WriteProvisionedThroughputExceeded",
		"ReadProvisionedThroughputExceeded", "IteratorAgeMilliseconds", "ALL"), 1, 7)
	shapeIteratorType = awswire.Enum("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP")
	shapeMode         = awswire.Structure(awswire.Required("StreamMode", awswire.Enum("PROVISIONED", "ON_DEMAND")))
	shapeWarm         = awswire.Integer(0, -1)
	shapeRecordKiB    = awswire.Integer(1024, 10240)
	shapeHours        = awswire.Integer(-1, -1)
	shapeLimit        = awswire.Integer(1, 10000)
	shapeEntry        = awswire.Structure(awswire.Required("Data", shapeData), awswire.Optional("ExplicitHashKey", shapeHashKey), awswire.Required("PartitionKey", shapeKey)).
				PrintedAs("com.amazonaws.kinesis.v20131202.PutRecordsRequestEntry@c965e310")
	shapeFilter = awswire.Structure(awswire.Required("Type", awswire.Enum("AFTER_SHARD_ID", "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON", "AT_LATEST", "AT_TIMESTAMP", "FROM_TIMESTAMP")),
		awswire.Optional("ShardId", shapeName), awswire.Optional("Timestamp", timestamp))
	shapePosition = awswire.Structure(awswire.Required("Type", shapeIteratorType), awswire.Optional("SequenceNumber", shapeSequence), awswire.Optional("Timestamp", timestamp))

	shapeStrategy = awswire.Enum(strategyAuto, strategyUserKey)
	// shapeKeylessEntry is that of a stream that distributes records by itself.
	shapeKeylessEntry = awswire.Structure(awswire.Required("Data", shapeData), awswire.Optional("ExplicitHashKey", shapeHashKey), awswire.Optional("PartitionKey", shapeKey)).
				PrintedAs("com.amazonaws.kinesis.v20131202.PutRecordsRequestEntry@c965e310")

	fieldName = awswire.Optional("StreamName", shapeStreamName)
	fieldARN  = awswire.Optional("StreamARN", shapeStreamARN)
	fieldID   = awswire.Optional("StreamId", shapeStreamID)
	fieldDry  = awswire.Optional("DryRun", boolean)
)
