package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"

	"github.com/shardlog/shardlog"
)

// log is a stream at an endpoint. It implements as much of shardlog.Sink and
// shardlog.Source as workloads need.
type log struct {
	target    *target
	name, arn *string

	mu        sync.Mutex
	iterators map[iteratorKey]string
}

// iteratorKey is a position in a shard for which there is an iterator. Several
// readers may use the same one.
type iteratorKey struct {
	shard string
	from  shardlog.Position
}

// isThrottle reports whether a call was refused because of a rate limit.
func isThrottle(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode() {
	case "ProvisionedThroughputExceededException", "LimitExceededException", "ThrottlingException", "KMSThrottlingException":
		return true
	}
	return false
}

// translate makes an error of the endpoint match those of package shardlog. The
// outcome of a call without a response is unknown.
func (l *log) translate(op, shard string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var api smithy.APIError
	switch {
	case isThrottle(err):
		err = fmt.Errorf("%w: %w", shardlog.ErrThroughputExceeded, err)
	case !errors.As(err, &api), api.ErrorFault() == smithy.FaultServer:
		err = fmt.Errorf("%w: %w", shardlog.ErrUnknownOutcome, err)
	}
	return &shardlog.Error{Op: op, Stream: *l.name, Shard: shard, Err: err}
}

// Capabilities implements shardlog.Capable. Kinesis may store a record of a key
// although it refused an earlier one of the same request. A call of PutRecords has
// no limit, because it makes several requests if necessary.
func (l *log) Capabilities() shardlog.Capabilities {
	return shardlog.Capabilities{KeyRanges: true, Lineage: true, TimeSeek: shardlog.TimeSeekArrival, MaxRecord: shardlog.MaxRecordSize}
}

// PutRecords implements shardlog.Sink: a single record by the operation PutRecord,
// several by PutRecords, in as many requests as are necessary.
func (l *log) PutRecords(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	results := make([]shardlog.PutResult, 0, len(records))
	for len(results) < len(records) {
		rest := records[len(results):]
		n, size := 0, 0
		for n < min(len(rest), maxRequestRecords) && (n == 0 || size+rest[n].Size() <= maxRequestBytes) {
			size += rest[n].Size()
			n++
		}
		some, err := l.request(ctx, rest[:n])
		if err != nil {
			if len(results) == 0 && n == len(records) {
				return nil, err
			}
			// Earlier requests are stored, so the error is set for each record.
			for i := range rest {
				if i == n {
					err = shardlog.ErrNotTried
				}
				results = append(results, shardlog.PutResult{Err: err})
			}
			break
		}
		results = append(results, some...)
	}
	return results, nil
}

// explicit returns a record's explicit hash key, nil if it has none.
func explicit(r *shardlog.Record) *string {
	if r.ExplicitHashKey == (shardlog.HashKey{}) {
		return nil
	}
	return aws.String(r.ExplicitHashKey.String())
}

// request puts as many records as fit into one request.
func (l *log) request(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	if len(records) == 1 {
		r := &records[0]
		out, err := l.target.client.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: l.name, PartitionKey: &r.PartitionKey, ExplicitHashKey: explicit(r), Data: r.Data})
		if err != nil {
			return nil, l.translate("put", "", err)
		}
		return []shardlog.PutResult{placed(out.ShardId, out.SequenceNumber)}, nil
	}
	in := &kinesis.PutRecordsInput{StreamName: l.name, Records: make([]types.PutRecordsRequestEntry, len(records))}
	for i := range records {
		in.Records[i] = types.PutRecordsRequestEntry{PartitionKey: &records[i].PartitionKey, ExplicitHashKey: explicit(&records[i]), Data: records[i].Data}
	}
	out, err := l.target.client.PutRecords(ctx, in)
	if err != nil {
		return nil, l.translate("put", "", err)
	}
	if len(out.Records) != len(records) {
		return nil, fmt.Errorf("%w: %d results for %d records", shardlog.ErrUnknownOutcome, len(out.Records), len(records))
	}
	results := make([]shardlog.PutResult, len(records))
	for i, r := range out.Records {
		if r.ErrorCode == nil {
			results[i] = placed(r.ShardId, r.SequenceNumber)
			continue
		}
		err := shardlog.ErrUnknownOutcome // InternalFailure
		if *r.ErrorCode == "ProvisionedThroughputExceededException" {
			err = shardlog.ErrThroughputExceeded
		}
		results[i].Err = &shardlog.Error{Op: "put", Stream: *l.name, Err: fmt.Errorf("%w: %s: %s", err, *r.ErrorCode, aws.ToString(r.ErrorMessage))}
	}
	return results, nil
}

// placed returns the result of a stored record.
func placed(shard, sequence *string) shardlog.PutResult {
	seq, err := shardlog.ParseSequenceNumber(aws.ToString(sequence))
	if err != nil {
		return shardlog.PutResult{Err: err}
	}
	return shardlog.PutResult{ShardID: aws.ToString(shard), Sequence: seq}
}

// Shards implements shardlog.Sink and shardlog.Source.
func (l *log) Shards(ctx context.Context) ([]shardlog.ShardInfo, error) {
	var all []shardlog.ShardInfo
	in := &kinesis.ListShardsInput{StreamName: l.name}
	for {
		out, err := l.target.client.ListShards(ctx, in)
		if isThrottle(err) {
			if err := pause(ctx, 100*time.Millisecond); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, l.translate("list shards", "", err)
		}
		for i := range out.Shards {
			info, err := shardInfo(&out.Shards[i])
			if err != nil {
				return nil, err
			}
			all = append(all, info)
		}
		if out.NextToken == nil {
			return all, nil
		}
		in = &kinesis.ListShardsInput{NextToken: out.NextToken}
	}
}

func shardInfo(s *types.Shard) (info shardlog.ShardInfo, err error) {
	info = shardlog.ShardInfo{ID: *s.ShardId, Closed: s.SequenceNumberRange.EndingSequenceNumber != nil}
	for _, p := range []*string{s.ParentShardId, s.AdjacentParentShardId} {
		if p != nil {
			info.Parents = append(info.Parents, *p)
		}
	}
	var errs [4]error
	info.HashStart, errs[0] = shardlog.ParseHashKey(*s.HashKeyRange.StartingHashKey)
	info.HashEnd, errs[1] = shardlog.ParseHashKey(*s.HashKeyRange.EndingHashKey)
	info.First, errs[2] = shardlog.ParseSequenceNumber(*s.SequenceNumberRange.StartingSequenceNumber)
	if info.Closed {
		info.Last, errs[3] = shardlog.ParseSequenceNumber(*s.SequenceNumberRange.EndingSequenceNumber)
	}
	return info, errors.Join(errs[:]...)
}
