package kinesisapi

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/shardlog/shardlog/internal/awswire"
)

// maxConsumers is how many consumers a stream has (API reference,
// RegisterStreamConsumer).
const maxConsumers = 20

// replaceConsumer stores a consumer that was changed; control is held.
func replaceConsumer(ctx context.Context, s *streamState, con *consumer, change func(*consumer)) error {
	next := *con
	change(&next)
	text, err := json.Marshal(&next)
	if err != nil {
		return err
	}
	if err := s.st.SetAttributes(ctx, map[string]string{attrConsumer + con.Name: string(text)}); err != nil {
		return err
	}
	s.consumers.put(&next)
	return nil
}

// writeConsumer writes the structure Consumer, or ConsumerDescription, which has
// the stream as well.
func writeConsumer(c *call, con *consumer, withStream bool) {
	e := &c.Out
	e.Open()
	e.TextField("ConsumerName", con.Name)
	e.TextField("ConsumerARN", consumerARN(c.Scope, c.name, con))
	e.TextField("ConsumerStatus", con.status(c.Clock()))
	e.TimeField("ConsumerCreationTimestamp", time.UnixMilli(con.Created).Truncate(time.Second))
	if withStream {
		e.TextField("StreamARN", streamARN(c.Scope, c.name))
	}
	e.Close()
}

// registerStreamConsumer carries out RegisterStreamConsumer. The stream has to be
// ACTIVE, so that a consumer is not left to a stream that is being deleted.
func registerStreamConsumer(c *call) error {
	s, err := c.lockActive()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	name, now := c.In.Text("ConsumerName"), c.Now()
	tags, err := mergeTags(c, nil, "add tags to consumer of stream")
	if err != nil {
		return err
	}
	if s.consumers.find(name, c.Clock()) != nil {
		return awswire.Errorf(codeInUse, "Consumer %s under stream %s already exists for account %s.", name, c.name, c.Scope.Account)
	}
	if len(s.consumers.list(c.Clock())) >= maxConsumers {
		return awswire.Errorf(codeLimit, "Stream %s under account %s already has %d consumers, which is the limit.", c.name, c.Scope.Account, maxConsumers)
	}
	con := &consumer{Name: name, Created: now.UnixMilli()}
	if con.Stamp, err = c.svc.streams.stamps.take(c.Ctx, s, name, now); err != nil {
		return err
	}
	if con.Stamp == now.Unix() {
		con.Stamp = 0
	}
	shown := *con
	if lasts := c.svc.opts.CreateTime; lasts > 0 {
		con.change = &transition{status: statusCreating, began: c.Clock().Moment(), lasts: lasts}
	}
	if err := replaceConsumer(c.Ctx, s, con, func(next *consumer) { next.Tags = tags }); err != nil {
		return err
	}
	// AWS answers with CREATING, even if the consumer is ACTIVE right away.
	shown.change = &transition{status: statusCreating, began: c.Clock().Moment(), lasts: time.Hour}
	c.Out.Open()
	c.Out.Key("Consumer")
	writeConsumer(c, &shown, false)
	c.Out.Close()
	return nil
}

// findConsumer finds the consumer that a request names, by ARN or by stream and
// name.
func findConsumer(c *call) (*streamState, *consumer, error) {
	arn, ofStream, name := c.In.Text("ConsumerARN"), c.In.Text("StreamARN"), c.In.Text("ConsumerName")
	if arn == "" && (ofStream == "" || name == "") {
		return nil, nil, invalid("Either ConsumerARN or both StreamARN and ConsumerName must be provided.")
	}
	p := resourceName{}
	if arn != "" {
		var ok bool
		if p, ok = parseARN(arn); !ok || p.consumer == "" {
			return nil, nil, invalid("The ARN %s is not that of a consumer.", arn)
		}
		if ofStream != "" && ofStream != streamARN(p.scope, p.stream) {
			return nil, nil, invalid("The ConsumerARN %s is not one of the stream %s.", arn, ofStream)
		}
		ofStream = streamARN(p.scope, p.stream)
	}
	s, err := c.streamBy("", ofStream)
	if err != nil {
		return nil, nil, err
	}
	con := s.consumers.findSuffix(p.consumer, c.Clock())
	what := arn
	if arn == "" {
		con = s.consumers.find(name, c.Clock())
		what = name + " under stream " + c.name
	}
	if con == nil {
		return nil, nil, noConsumer(what)
	}
	return s, con, nil
}

// deregisterStreamConsumer carries out DeregisterStreamConsumer, and ends the
// subscriptions of the consumer. It is found again under the lock, because
// another request may have deregistered it meanwhile.
func deregisterStreamConsumer(c *call) error {
	s, con, err := findConsumer(c)
	if err != nil {
		return err
	}
	if err := s.control.Lock(c.Ctx); err != nil {
		return err
	}
	defer s.control.Unlock()
	if con = s.consumers.find(con.Name, c.Clock()); con == nil || con.status(c.Clock()) == statusDeleting {
		return awswire.Errorf(codeInUse, "The consumer is being deleted.")
	}
	// It is stored as gone from now on: DELETING is only shown, and does not
	// outlast the process.
	if err := s.st.SetAttributes(c.Ctx, map[string]string{attrConsumer + con.Name: "", attrPolicy + con.suffix(): ""}); err != nil {
		return err
	}
	next := *con
	next.change = &transition{status: statusDeleting, began: c.Clock().Moment(), lasts: c.svc.opts.DeleteTime}
	s.consumers.put(&next)
	s.subscriptions.endConsumer(con.suffix())
	return nil
}

// describeStreamConsumer carries out DescribeStreamConsumer.
func describeStreamConsumer(c *call) error {
	_, con, err := findConsumer(c)
	if err != nil {
		return err
	}
	c.Out.Open()
	c.Out.Key("ConsumerDescription")
	writeConsumer(c, con, true)
	c.Out.Close()
	return nil
}

// listStreamConsumers carries out ListStreamConsumers. A page continues after a
// name, so consumers that come and go between two pages do no harm.
func listStreamConsumers(c *call) error {
	s, err := c.stream()
	if err != nil {
		return err
	}
	after := ""
	if t := c.In.Text("NextToken"); t != "" {
		p, err := c.openPage(t, pageConsumers)
		if err != nil {
			return err
		}
		if p.stream != c.name {
			return invalid("NextToken is invalid.")
		}
		if p.ofID != s.idHash {
			return noStream(c.Scope, c.name) // that of the token was deleted
		}
		after = p.after
	}
	if t := awswire.Get[time.Time](c.In, "StreamCreationTimestamp"); !t.IsZero() && t.Unix() != s.st.Info().Created.Unix() {
		return noStream(c.Scope, c.name)
	}
	all := slices.DeleteFunc(s.consumers.list(c.Clock()), func(con *consumer) bool { return con.Name <= after })
	limit := int(c.In.Int("MaxResults"))
	if limit == 0 {
		limit = 100
	}
	next := ""
	if len(all) > limit {
		all = all[:limit]
		next = c.svc.tokens.sealPage(pageToken{made: c.Clock().Moment(), kind: pageConsumers, account: c.Scope.Account, region: c.Scope.Region, stream: c.name, ofID: s.idHash, after: all[limit-1].Name})
	}
	c.Out.Open()
	c.Out.Key("Consumers")
	c.Out.List()
	for _, con := range all {
		writeConsumer(c, con, false)
	}
	c.Out.EndList()
	c.Out.OptionalText("NextToken", next)
	c.Out.Close()
	return nil
}
