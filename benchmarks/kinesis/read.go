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

	"github.com/shardlog/shardlog"
)

// pollEvery is the interval at which a waiting read polls: Kinesis admits five
// reads a second for each shard.
const pollEvery = 200 * time.Millisecond

// Read implements shardlog.Source. If it has to wait for records, it polls.
func (l *log) Read(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	for until := time.Now().Add(req.Wait); ; {
		page, err := l.page(ctx, &req)
		left := time.Until(until)
		if err != nil || len(page.Records) > 0 || page.End || left <= 0 {
			return page, err
		}
		req.From = page.Next
		if err := pause(ctx, min(left, pollEvery)); err != nil {
			return shardlog.Page{}, err
		}
	}
}

// start returns the starting position in the endpoint's terms.
func start(from shardlog.Position) (typ types.ShardIteratorType, sequence *string, at *time.Time, err error) {
	switch from.Kind() {
	case shardlog.KindTrimHorizon:
		return types.ShardIteratorTypeTrimHorizon, nil, nil, nil
	case shardlog.KindAt:
		return types.ShardIteratorTypeAtSequenceNumber, aws.String(from.Sequence().String()), nil, nil
	case shardlog.KindAfter:
		// A position inside an aggregate: the reader skips the records before it.
		typ = types.ShardIteratorTypeAfterSequenceNumber
		if from.SubSequence() >= 0 {
			typ = types.ShardIteratorTypeAtSequenceNumber
		}
		return typ, aws.String(from.Sequence().String()), nil, nil
	case shardlog.KindAtTime:
		t := from.Time()
		return types.ShardIteratorTypeAtTimestamp, nil, &t, nil
	}
	return "", nil, nil, fmt.Errorf("%w: reading from %v", shardlog.ErrUnsupported, from)
}

// page makes one call of GetRecords.
func (l *log) page(ctx context.Context, req *shardlog.ReadRequest) (shardlog.Page, error) {
	key := iteratorKey{req.ShardID, req.From}
	l.mu.Lock()
	iterator := l.iterators[key]
	l.mu.Unlock()
	if iterator == "" {
		typ, sequence, at, err := start(req.From)
		if err != nil {
			return shardlog.Page{}, err
		}
		out, err := l.target.client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: l.name, ShardId: &req.ShardID,
			ShardIteratorType: typ, StartingSequenceNumber: sequence, Timestamp: at})
		if err != nil {
			return shardlog.Page{}, l.readError(req, err)
		}
		iterator = *out.ShardIterator
	}
	in := &kinesis.GetRecordsInput{ShardIterator: &iterator}
	if req.MaxRecords > 0 {
		in.Limit = aws.Int32(int32(req.MaxRecords))
	}
	out, err := l.target.client.GetRecords(ctx, in)
	var expired *types.ExpiredIteratorException
	if errors.As(err, &expired) {
		l.keep(key, "")
		return shardlog.Page{Next: req.From}, nil
	}
	if err != nil {
		return shardlog.Page{}, l.readError(req, err)
	}
	page, err := pageOf(req, out.Records, aws.ToInt64(out.MillisBehindLatest))
	if err != nil {
		return page, err
	}
	page.End = out.NextShardIterator == nil
	for _, c := range out.ChildShards {
		page.Children = append(page.Children, *c.ShardId)
	}
	if page.Next != req.From {
		l.keep(key, "")
	}
	l.keep(iteratorKey{req.ShardID, page.Next}, aws.ToString(out.NextShardIterator))
	return page, nil
}

// keep stores the iterator of a position; "" removes it. If another reader still
// needs a removed one, it requests a new iterator.
func (l *log) keep(key iteratorKey, iterator string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if iterator == "" {
		delete(l.iterators, key)
	} else {
		l.iterators[key] = iterator
	}
}

// readError translates an error of a read. A read without a response is retryable,
// because reading changes nothing.
func (l *log) readError(req *shardlog.ReadRequest, err error) error {
	err = l.translate("read", req.ShardID, err)
	if errors.Is(err, shardlog.ErrUnknownOutcome) {
		return &shardlog.Error{Op: "read", Stream: *l.name, Shard: req.ShardID, Err: fmt.Errorf("%w: %w", shardlog.ErrThroughputExceeded, err)}
	}
	return err
}

// pageOf converts records of the endpoint to a page.
func pageOf(req *shardlog.ReadRequest, records []types.Record, behind int64) (shardlog.Page, error) {
	page := shardlog.Page{Next: req.From, Behind: time.Duration(behind) * time.Millisecond, Records: make([]shardlog.Record, len(records))}
	for i := range records {
		r := &records[i]
		seq, err := shardlog.ParseSequenceNumber(aws.ToString(r.SequenceNumber))
		if err != nil {
			return shardlog.Page{}, err
		}
		page.Records[i] = shardlog.Record{PartitionKey: aws.ToString(r.PartitionKey), Data: r.Data, Sequence: seq, ShardID: req.ShardID, Arrival: aws.ToTime(r.ApproximateArrivalTimestamp)}
		page.Next = shardlog.After(seq)
	}
	return page, nil
}

// Dedicated implements patterns.FanOut: it registers a consumer, which is deleted
// with the stream.
func (l *log) Dedicated(ctx context.Context, n int) (func(context.Context, shardlog.ReadRequest) (shardlog.Page, error), error) {
	out, err := l.target.client.RegisterStreamConsumer(ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: l.arn, ConsumerName: aws.String(fmt.Sprint("bench-", n))})
	if err != nil {
		return nil, l.translate("register consumer", "", err)
	}
	arn := out.Consumer.ConsumerARN
	for {
		d, err := l.target.client.DescribeStreamConsumer(ctx, &kinesis.DescribeStreamConsumerInput{ConsumerARN: arn})
		if err != nil && !isThrottle(err) {
			return nil, l.translate("describe consumer", "", err)
		}
		if err == nil && d.ConsumerDescription.ConsumerStatus == types.ConsumerStatusActive {
			break
		}
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return nil, err
		}
	}
	f := &fanOut{log: l, arn: arn, open: map[string]*kinesis.SubscribeToShardEventStream{}}
	context.AfterFunc(ctx, f.close)
	return f.read, nil
}

// fanOut is a registered consumer with its subscriptions, one for each shard.
type fanOut struct {
	log *log
	arn *string

	mu     sync.Mutex
	open   map[string]*kinesis.SubscribeToShardEventStream
	closed bool
}

// close ends the subscriptions.
func (f *fanOut) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, s := range f.open {
		_ = s.Close() // nobody reads it any more
	}
}

// subscribe returns the subscription of a shard.
func (f *fanOut) subscribe(ctx context.Context, req *shardlog.ReadRequest) (*kinesis.SubscribeToShardEventStream, error) {
	f.mu.Lock()
	s := f.open[req.ShardID]
	f.mu.Unlock()
	if s != nil {
		return s, nil
	}
	typ, sequence, at, err := start(req.From)
	if err != nil {
		return nil, err
	}
	// Its context is the subscription's, and ends with the run. Each subscription
	// has its own client, because those of one client share the buffer that
	// events are decoded from (smithy-go v1.28.8, internal/eventstream.Codec).
	out, err := f.log.target.newClient().SubscribeToShard(ctx, &kinesis.SubscribeToShardInput{ConsumerARN: f.arn, ShardId: &req.ShardID,
		StartingPosition: &types.StartingPosition{Type: typ, SequenceNumber: sequence, Timestamp: at}})
	if err != nil {
		// A subscription that has just ended still counts for some seconds.
		var used *types.ResourceInUseException
		if errors.As(err, &used) {
			err = &shardlog.Error{Op: "subscribe", Stream: *f.log.name, Shard: req.ShardID, RetryAfter: time.Second, Err: fmt.Errorf("%w: %w", shardlog.ErrThroughputExceeded, err)}
			return nil, err
		}
		return nil, f.log.readError(req, err)
	}
	s = out.GetStream()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errors.Join(context.Canceled, s.Close())
	}
	f.open[req.ShardID] = s
	return s, nil
}

// read waits for the next event of a shard's subscription. A subscription lasts
// five minutes and is then opened again.
func (f *fanOut) read(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	s, err := f.subscribe(ctx, &req)
	if err != nil {
		return shardlog.Page{}, err
	}
	t := time.NewTimer(req.Wait)
	defer t.Stop()
	select {
	case ev, ok := <-s.Events():
		if e, is := ev.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent); ok && is {
			page, err := pageOf(&req, e.Value.Records, aws.ToInt64(e.Value.MillisBehindLatest))
			page.End = len(e.Value.ChildShards) > 0
			return page, err
		}
		f.mu.Lock()
		delete(f.open, req.ShardID)
		f.mu.Unlock()
		if err := errors.Join(s.Err(), s.Close()); err != nil && ctx.Err() == nil {
			return shardlog.Page{}, f.log.readError(&req, err)
		}
		return shardlog.Page{Next: req.From}, nil
	case <-t.C:
		return shardlog.Page{Next: req.From}, nil
	case <-ctx.Done():
		return shardlog.Page{}, context.Cause(ctx)
	}
}
