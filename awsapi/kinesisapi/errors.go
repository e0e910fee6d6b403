package kinesisapi

import (
	"errors"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// Codes of errors that only Kinesis has, or has with its own texts. The texts
// are those of AWS, because programs and people search for them.
const (
	codeInvalid    = "InvalidArgumentException"
	codeNotFound   = "ResourceNotFoundException"
	codeInUse      = "ResourceInUseException"
	codeLimit      = "LimitExceededException"
	codeThroughput = "ProvisionedThroughputExceededException"
)

// invalid returns an InvalidArgumentException, for what the constraints of the
// model do not cover.
func invalid(format string, args ...any) *awswire.Error {
	return awswire.Errorf(codeInvalid, format, args...)
}

// noStream names the stream and not its ARN, also where the request has an ARN.
func noStream(sc awswire.Scope, name string) *awswire.Error {
	return awswire.Errorf(codeNotFound, "Stream %s under account %s not found.", name, sc.Account)
}

// streamExists is for a name that is taken in the account and region.
func streamExists(sc awswire.Scope, name string) *awswire.Error {
	return awswire.Errorf(codeInUse, "Stream %s under account %s already exists.", name, sc.Account)
}

// notActive is for operations that need an ACTIVE stream.
func notActive(sc awswire.Scope, name, status string) *awswire.Error {
	return awswire.Errorf(codeInUse, "Stream %s under account %s not ACTIVE, instead in state %s", name, sc.Account, status)
}

// consumerNotActive is for operations that need an ACTIVE consumer.
func consumerNotActive(sc awswire.Scope, stream string, con *consumer) *awswire.Error {
	return awswire.Errorf(codeInUse, "Consumer %s with creation timestamp %d under stream %s and account %s is not in ACTIVE status.", con.Name, con.Created/1000, stream, sc.Account)
}

// noShard is for operations that change shards, and for IDs that cannot be one.
func noShard(sc awswire.Scope, shardID, stream string) *awswire.Error {
	return awswire.Errorf(codeNotFound, "Could not find shard %s in stream %s under account %s.", shardID, stream, sc.Account)
}

// missingShard is for operations that read a shard.
func missingShard(sc awswire.Scope, shardID, stream string) *awswire.Error {
	return awswire.Errorf(codeNotFound, "Shard %s in stream %s under account %s does not exist", shardID, stream, sc.Account)
}

// noConsumer repeats what the request has: an ARN, or a name and a stream.
func noConsumer(what string) *awswire.Error {
	return awswire.Errorf(codeNotFound, "Consumer %s not found.", what)
}

// shardThrottled is for operations on records.
func shardThrottled(sc awswire.Scope, shardID, stream string) *awswire.Error {
	return awswire.Errorf(codeThroughput, "Rate exceeded for shard %s in stream %s under account %s.", shardID, stream, sc.Account)
}

// callThrottled names the stream, unless it is empty.
func callThrottled(sc awswire.Scope, stream string) *awswire.Error {
	if stream != "" {
		return awswire.Errorf(codeLimit, "Rate exceeded for stream %s under account %s.", stream, sc.Account)
	}
	return awswire.Errorf(codeLimit, "Rate exceeded for account %s.", sc.Account)
}

// denied is for what is another account's. Resource policies are kept and not
// evaluated, so none allows it. Keys of the endpoint are those of the owners of
// accounts, which AWS calls root.
func denied(caller awswire.Scope, operation, arn string) *awswire.Error {
	action := serviceName + ":" + operation
	return awswire.Errorf("AccessDeniedException", "User: arn:%s:iam::%s:root is not authorized to perform: %s on resource: %s because no resource-based policy allows the %s action",
		caller.Partition(), caller.Account, action, arn, action)
}

// isNotFound reports whether an error says that something is not there.
func isNotFound(err error) bool {
	var e *awswire.Error
	return errors.As(err, &e) && e.Code == codeNotFound
}

// shardOf returns the shard that an error names, or "".
func shardOf(err error) string {
	var e *shardlog.Error
	for errors.As(err, &e) {
		if e.Shard != "" {
			return e.Shard
		}
		err = e.Err
	}
	return ""
}
