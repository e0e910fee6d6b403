package kinesisapi

import (
	"context"
	"errors"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// subscribeToShard carries out SubscribeToShard: it checks everything that can
// still be answered with an error, and leaves the events to a pusher.
func subscribeToShard(c *call) error {
	arn := c.In.Text("ConsumerARN")
	p, ok := parseARN(arn)
	if !ok || p.consumer == "" {
		return invalid("The ARN %s is not that of a consumer.", arn)
	}
	if err := c.enter(p.scope, p.stream); err != nil {
		return err
	}
	c.name = p.stream
	id, index, err := resolveShard(c.Scope, c.In.Text("ShardId"), c.name)
	if err != nil {
		return err
	}
	s, err := c.readable(p.stream, "")
	if err != nil {
		return err
	}
	con := s.consumers.findSuffix(p.consumer, c.Clock())
	if con == nil {
		return noConsumer(arn)
	}
	if con.status(c.Clock()) != statusActive {
		return consumerNotActive(c.Scope, c.name, con)
	}
	at := awswire.Get[awswire.Params](c.In, "StartingPosition")
	from, err := resolveStart(c, s, id, index, startPosition{kind: at.Text("Type"), number: at.Text("SequenceNumber"), at: awswire.Get[time.Time](at, "Timestamp"), hasAt: at.Has("Timestamp")})
	if err != nil {
		return err
	}
	if err := injectShard(c, s, id); err != nil {
		return err
	}
	// An expired position and similar errors are answered as such: once the
	// event stream has begun, the status is sent.
	if from, err = s.st.Resolve(c.Ctx, id, from); err != nil && !errors.Is(err, shardlog.ErrCorrupt) {
		return err
	}
	if err := dryRun(c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(c.Ctx)
	defer cancel(nil)
	key := subscriptionKey{p.consumer, index}
	sub, ok := s.subscriptions.enter(key, c.Clock(), cancel)
	if !ok {
		return awswire.Errorf(codeInUse, "Another active subscription exists for this consumer: %s:%s:%s:%s", c.Scope.Account, c.name, id, con.Name)
	}
	defer func() { s.subscriptions.leave(key, sub, c.Clock()) }()
	if !c.Env.Lifetime.Enter() {
		return awswire.Unavailable()
	}
	defer c.Env.Lifetime.Leave()
	stop := context.AfterFunc(c.Env.Lifetime.Context(), func() { cancel(errClosed) })
	defer stop()
	// The input has been read, and a subscription lasts for minutes: the memory
	// of its body is for other requests.
	c.ReleaseBody()
	(&pusher{c: c, s: s, id: id, index: index, from: from, sub: sub}).run(ctx)
	return nil
}
