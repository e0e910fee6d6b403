package kinesisapi

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// consumer is a registered one. It is replaced when it changes.
type consumer struct {
	Name    string            `json:"name"`
	Created int64             `json:"created"` // Unix milliseconds
	Tags    map[string]string `json:"tags,omitempty"`

	change *transition // nil for ACTIVE
}

const (
	attrConsumer = "kinesis.consumer/" // + name
	// maxConsumers is how many consumers a stream has (API reference,
	// RegisterStreamConsumer).
	maxConsumers = 20
)

func (con *consumer) status(now time.Time) string {
	if t := con.change; t != nil && (t.status == statusDeleting || now.Before(t.until)) {
		return t.status
	}
	return statusActive
}

// suffix is how an ARN ends.
func (con *consumer) suffix() string { return fmt.Sprintf("%s:%d", con.Name, con.Created/1000) }

func (s *streamState) loadConsumers() {
	for name, text := range s.st.Attributes() {
		var con consumer
		if strings.HasPrefix(name, attrConsumer) && json.Unmarshal([]byte(text), &con) == nil {
			s.consumers[con.Name] = &con
		}
	}
}

// list returns the consumers that are not gone, by name.
func (s *streamState) list(now time.Time) []*consumer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*consumer
	for _, con := range s.consumers {
		if con.status(now) != statusDeleting || now.Before(con.change.until) {
			all = append(all, con)
		}
	}
	slices.SortFunc(all, func(a, b *consumer) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (s *streamState) byName(name string, now time.Time) *consumer {
	s.mu.Lock()
	defer s.mu.Unlock()
	con := s.consumers[name]
	if con != nil && con.status(now) == statusDeleting && !now.Before(con.change.until) {
		return nil
	}
	return con
}

// byARN finds a consumer by the end of its ARN, which names its creation.
func (s *streamState) byARN(suffix string, now time.Time) *consumer {
	name, _, _ := strings.Cut(suffix, ":")
	if con := s.byName(name, now); con != nil && con.suffix() == suffix {
		return con
	}
	return nil
}

// edit replaces a consumer; control is held.
func (s *streamState) edit(ctx context.Context, con *consumer, change func(*consumer)) error {
	next := *con
	change(&next)
	text, err := json.Marshal(&next)
	if err != nil {
		return err
	}
	if err := s.st.SetAttributes(ctx, map[string]string{attrConsumer + con.Name: string(text)}); err != nil {
		return err
	}
	s.mu.Lock()
	s.consumers[con.Name] = &next
	s.mu.Unlock()
	return nil
}

func (c *call) noConsumer(what string) error {
	return fault(codeNotFound, "Consumer %s not found.", strings.TrimSuffix(what, "."))
}

func (c *call) writeConsumer(con *consumer, withStream bool) {
	e := &c.out
	e.open()
	e.strField("ConsumerName", con.Name)
	e.strField("ConsumerARN", c.scope.consumerARN(c.name, con))
	e.strField("ConsumerStatus", con.status(c.h.now()))
	e.timeField("ConsumerCreationTimestamp", time.UnixMilli(con.Created).Truncate(time.Second))
	if withStream {
		e.strField("StreamARN", c.scope.arn(c.name))
	}
	e.close()
}

func registerStreamConsumer(c *call) error {
	s, err := c.active()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	name, now := c.in.str("ConsumerName"), c.h.now()
	tags, err := c.newTags(nil, "add tags to consumer of stream")
	if err != nil {
		return err
	}
	if s.byName(name, now) != nil {
		return fault(codeInUse, "Consumer %s under stream %s already exists for account %s.", name, c.name, c.scope.account)
	}
	if len(s.list(now)) >= maxConsumers {
		return fault(codeLimit, "Stream %s under account %s already has %d consumers, which is the limit.", c.name, c.scope.account, maxConsumers)
	}
	con := &consumer{Name: name, Created: now.UnixMilli()}
	// One that was registered before has another ARN.
	s.mu.Lock()
	if old := s.consumers[name]; old != nil && old.Created/1000 >= con.Created/1000 {
		con.Created = (old.Created/1000 + 1) * 1000
	}
	s.mu.Unlock()
	shown := *con
	if lasts := c.h.opts.CreateTime; lasts > 0 {
		con.change = &transition{statusCreating, now.Add(lasts)}
	}
	if err := s.edit(c.ctx, con, func(next *consumer) { next.Tags = tags }); err != nil {
		return err
	}
	// AWS answers with CREATING, however soon it is ACTIVE.
	shown.change = &transition{statusCreating, now.Add(time.Hour)}
	c.out.open()
	c.out.key("Consumer")
	c.writeConsumer(&shown, false)
	c.out.close()
	return nil
}

// consumer finds the one that a request names, by ARN or by stream and name.
func (c *call) consumer() (*streamState, *consumer, error) {
	arn, streamARN, name := c.in.str("ConsumerARN"), c.in.str("StreamARN"), c.in.str("ConsumerName")
	if arn == "" && (streamARN == "" || name == "") {
		return nil, nil, invalid("Either ConsumerARN or both StreamARN and ConsumerName must be provided.")
	}
	p := parsed{}
	if arn != "" {
		var ok bool
		if p, ok = parseARN(arn); !ok || p.consumer == "" {
			return nil, nil, invalid("The ARN %s is not that of a consumer.", arn)
		}
		if streamARN != "" && streamARN != p.scope.arn(p.stream) {
			return nil, nil, invalid("The ConsumerARN %s is not one of the stream %s.", arn, streamARN)
		}
		streamARN = p.scope.arn(p.stream)
	}
	s, err := c.streamBy("", streamARN)
	if err != nil {
		return nil, nil, err
	}
	con := s.byARN(p.consumer, c.h.now())
	what := arn
	if arn == "" {
		con = s.byName(name, c.h.now())
		what = name + " under stream " + c.name
	}
	if con == nil {
		return nil, nil, c.noConsumer(what)
	}
	return s, con, nil
}

func deregisterStreamConsumer(c *call) error {
	s, con, err := c.consumer()
	if err != nil {
		return err
	}
	s.control.Lock()
	defer s.control.Unlock()
	now := c.h.now()
	if con = s.byName(con.Name, now); con == nil || con.status(now) == statusDeleting {
		return fault(codeInUse, "The consumer is being deleted.")
	}
	// It is gone when the database is opened again, whatever its state shows
	// until then.
	if err := s.st.SetAttributes(c.ctx, map[string]string{attrConsumer + con.Name: "", attrPolicy + con.suffix(): ""}); err != nil {
		return err
	}
	next := *con
	next.change = &transition{statusDeleting, now.Add(c.h.opts.DeleteTime)}
	s.mu.Lock()
	s.consumers[con.Name] = &next
	s.mu.Unlock()
	s.endConsumer(con.suffix())
	return nil
}

func describeStreamConsumer(c *call) error {
	_, con, err := c.consumer()
	if err != nil {
		return err
	}
	c.out.open()
	c.out.key("ConsumerDescription")
	c.writeConsumer(con, true)
	c.out.close()
	return nil
}

func listStreamConsumers(c *call) error {
	s, err := c.stream()
	if err != nil {
		return err
	}
	after := ""
	if t := c.in.str("NextToken"); t != "" {
		p, err := c.h.openPage(t, pageConsumers)
		if err != nil {
			return err
		}
		if p.stream != c.name {
			return invalid("NextToken is invalid.")
		}
		after = p.after
	}
	if t := get[time.Time](c.in, "StreamCreationTimestamp"); !t.IsZero() && t.Unix() != s.st.Info().Created.Unix() {
		return c.scope.noStream(c.name)
	}
	all := slices.DeleteFunc(s.list(c.h.now()), func(con *consumer) bool { return con.Name <= after })
	limit := int(c.in.integer("MaxResults"))
	if limit == 0 {
		limit = 100
	}
	next := ""
	if len(all) > limit {
		all = all[:limit]
		next = c.h.sealPage(page{kind: pageConsumers, stream: c.name, after: all[limit-1].Name})
	}
	c.out.open()
	c.out.key("Consumers")
	c.out.list()
	for _, con := range all {
		c.writeConsumer(con, false)
	}
	c.out.endList()
	c.out.optional("NextToken", next)
	c.out.close()
	return nil
}
