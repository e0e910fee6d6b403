package producer

import (
	"context"
	"errors"

	"github.com/shardlog/shardlog"
)

// cause is what Stats.Errors counts a failed attempt by.
type cause uint8

const (
	causeOther cause = iota
	causePanic
	causeThroughput
	causeNoSpace
	causeInvalid
	causeClosed
	causeNotFound
	causeShardClosed
	causeWrongShard
	causeStorage
	causeFenced
	causeNotTried
	causeTimeout
	causeUnsupported
	causeUnknown
	causeContext
	causes
)

// kinds are the causes with a sentinel. An error may match several: the first
// one counts.
var kinds = []struct {
	err   error
	cause cause
}{
	{errExited, causePanic}, // no better than a panic
	{shardlog.ErrThroughputExceeded, causeThroughput},
	{shardlog.ErrNoSpace, causeNoSpace},
	{shardlog.ErrInvalid, causeInvalid},
	{shardlog.ErrClosed, causeClosed},
	{shardlog.ErrNotFound, causeNotFound},
	{shardlog.ErrShardClosed, causeShardClosed},
	{shardlog.ErrWrongShard, causeWrongShard},
	{shardlog.ErrStorage, causeStorage},
	{shardlog.ErrFenced, causeFenced},
	{shardlog.ErrNotTried, causeNotTried},
	{shardlog.ErrUnsupported, causeUnsupported},
	{errTimeout, causeTimeout},
	{shardlog.ErrUnknownOutcome, causeUnknown},
	{context.Canceled, causeContext},
	{context.DeadlineExceeded, causeContext},
}

var causeNames = [causes]string{
	causeOther: "other", causePanic: "panic", causeThroughput: "throughput exceeded", causeNoSpace: "no space",
	causeInvalid: "invalid", causeClosed: "closed", causeNotFound: "not found", causeShardClosed: "shard closed",
	causeFenced: "fenced", causeNotTried: "not tried", causeTimeout: "timeout", causeUnsupported: "unsupported",
	causeWrongShard: "wrong shard", causeStorage: "storage", causeUnknown: "unknown outcome", causeContext: "context",
}

// causeOf returns the cause of an error of the sink.
func causeOf(err error) cause {
	var panicked *PanicError
	if errors.As(err, &panicked) {
		return causePanic
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.cause
		}
	}
	return causeOther
}
