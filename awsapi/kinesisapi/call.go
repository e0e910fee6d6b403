package kinesisapi

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/internal/ctxsync"
	"github.com/shardlog/shardlog/stream"
)

// service is what all requests to one database share.
type service struct {
	db      *stream.DB
	opts    Options
	tokens  tokens
	streams registry
	// accounts is held while the settings of an account are changed.
	accounts ctxsync.Mutex
	// growth is held from the check of the shard limit until the shards are
	// there, so that requests at the same time do not pass it together. It is
	// locked after a stream's control.
	growth ctxsync.Mutex
}

// call is one request. Stream and scope are filled in as they become known.
type call struct {
	awswire.Call
	svc *service
	// name is that of the stream, once it is known.
	name string
	// put is the input of PutRecords and PutRecord if the fast way has read it.
	put *putInput
	// pages is what GetRecords has reserved for its answer.
	pages int64
}

// finish gives back what a request had beyond its answer.
func (c *call) finish() {
	if c.put != nil {
		c.put.run.release()
	}
	if c.pages > 0 {
		c.Env.Answers.Release(c.pages)
	}
}

// streamName returns the name of the stream for errors, as far as it is known.
func (c *call) streamName() string {
	if c.name == "" && c.In != nil {
		return c.In.Text("StreamName")
	}
	return c.name
}

// requestedStream returns the name of the stream that a request asks for,
// before it is looked for, or "".
func (c *call) requestedStream() string {
	name, arn := "", ""
	if c.put != nil {
		name, arn = c.put.name, c.put.arn
	} else {
		name, arn = c.In.Text("StreamName"), cmp.Or(c.In.Text("StreamARN"), c.In.Text("ResourceARN"), c.In.Text("ConsumerARN"))
		if it, ok := c.svc.tokens.openIterator(c.In.Text("ShardIterator")); ok {
			return it.stream
		}
	}
	if p, ok := parseARN(arn); ok {
		return p.stream
	}
	return name
}

// stream finds the stream that a request names, by name or by ARN.
func (c *call) stream() (*streamState, error) {
	return c.streamBy(c.In.Text("StreamName"), c.In.Text("StreamARN"))
}

// streamBy finds a stream by name or by ARN, and sets what the call knows of it.
// An ARN names account and region itself: they replace those of the credential.
func (c *call) streamBy(name, arn string) (*streamState, error) {
	if arn != "" {
		p, ok := parseARN(arn)
		if !ok || p.consumer != "" {
			return nil, invalid("The ARN %s is not that of a stream.", arn)
		}
		if name != "" && name != p.stream {
			return nil, invalid("StreamName %s does not match the StreamARN %s.", name, arn)
		}
		if err := c.enter(p.scope, p.stream); err != nil {
			return nil, err
		}
		name = p.stream
	}
	if name == "" {
		return nil, invalid("Either StreamName or StreamARN must be provided.")
	}
	c.name = name
	return c.svc.streams.find(c.Ctx, c.Scope, name, c.Clock())
}

// lockActive finds the stream and checks that it is ACTIVE. Its control is
// locked when there is no error, and the caller's to unlock.
func (c *call) lockActive() (*streamState, error) {
	s, err := c.stream()
	if err != nil {
		return nil, err
	}
	if err := s.control.Lock(c.Ctx); err != nil {
		return nil, err
	}
	if status := s.status(c.Clock()); status != statusActive {
		s.control.Unlock()
		return nil, notActive(c.Scope, c.name, status)
	}
	return s, nil
}

// readable finds the stream for putting and reading records. Streams that are
// being created or deleted do not allow that, and AWS answers as if they were
// not there.
func (c *call) readable(name, arn string) (*streamState, error) {
	s, err := c.streamBy(name, arn)
	if err != nil {
		return nil, err
	}
	if t := s.change.Load(); t != nil {
		if status := s.status(c.Clock()); status == statusCreating || status == statusDeleting {
			return nil, noStream(c.Scope, c.name)
		}
	}
	return s, nil
}

// lockResource finds what a ResourceARN names; the consumer is nil for a
// stream. The control of the stream is locked when there is no error, and the
// caller's to unlock.
func (c *call) lockResource() (s *streamState, con *consumer, err error) {
	arn := c.In.Text("ResourceARN")
	p, ok := parseARN(arn)
	if !ok {
		return nil, nil, invalid("The ARN %s is not that of a stream or of a consumer.", arn)
	}
	if err := c.enter(p.scope, p.stream); err != nil {
		return nil, nil, err
	}
	c.name = p.stream
	if s, err = c.svc.streams.find(c.Ctx, c.Scope, c.name, c.Clock()); err != nil {
		return nil, nil, err
	}
	if err := s.control.Lock(c.Ctx); err != nil {
		return nil, nil, err
	}
	if p.consumer != "" {
		if con = s.consumers.findSuffix(p.consumer, c.Clock()); con == nil {
			s.control.Unlock()
			return nil, nil, noConsumer(arn)
		}
	}
	return s, con, nil
}

// lockActiveResource is lockResource for operations that change the tags or the
// policy of a stream or of a consumer, which has to be ACTIVE.
func (c *call) lockActiveResource() (s *streamState, con *consumer, err error) {
	if s, con, err = c.lockResource(); err != nil {
		return nil, nil, err
	}
	if con != nil {
		if con.status(c.Clock()) != statusActive {
			err = consumerNotActive(c.Scope, c.name, con)
		}
	} else if status := s.status(c.Clock()); status != statusActive {
		err = notActive(c.Scope, c.name, status)
	}
	if err != nil {
		s.control.Unlock()
		return nil, nil, err
	}
	return s, con, nil
}

// dryRunsPerSecond is how many dry runs a stream allows, of all operations together
// (developer guide, dry run).
const dryRunsPerSecond = 1

// dryRun returns the error of a request that is only to be checked, and has passed
// all checks.
func dryRun(c *call) error {
	if c.In == nil || !awswire.Get[bool](c.In, "DryRun") {
		return nil
	}
	if !c.Allow("DryRun", c.name, dryRunsPerSecond) {
		return awswire.Errorf("ThrottlingException", "Rate exceeded for stream %s under account %s.", c.name, c.Scope.Account)
	}
	return awswire.Errorf("DryRunOperationException", "The request would have succeeded, but DryRun is set.")
}

// explain turns errors of the log into those of Kinesis.
func (c *call) explain(err error) *awswire.Error {
	switch {
	case errors.Is(err, shardlog.ErrClosed):
		return awswire.Unavailable()
	case errors.Is(err, shardlog.ErrThroughputExceeded):
		return shardThrottled(c.Scope, shardOf(err), c.streamName())
	case errors.Is(err, shardlog.ErrNotFound):
		return noStream(c.Scope, c.streamName())
	}
	return nil
}

// deleteLater carries out a deletion when its time has come, or the endpoint is
// closed, even if no request asks for the stream. It reports whether it will: it
// does not once the endpoint is closed.
func (c *call) deleteLater(s *streamState, lasts time.Duration) bool {
	life, logger, streams := c.Env.Lifetime, c.Env.Logger, &c.svc.streams
	if !life.Enter() {
		return false
	}
	go func() {
		defer life.Leave()
		timer := time.NewTimer(lasts)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-life.Context().Done():
		}
		// The client has its answer that the stream goes, so the end of its
		// request does not end this. If the database fails, the stream is there
		// when it is opened again.
		if err := streams.remove(context.Background(), s); err != nil && logger != nil {
			logger.Error("kinesis: a stream was not deleted", "stream", s.st.Name(), "error", err)
		}
	}()
	return true
}
