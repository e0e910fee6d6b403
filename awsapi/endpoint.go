package awsapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// Service is one AWS service. The packages below awsapi make them, such as
// kinesisapi.Service. One belongs to one endpoint. The services are those of
// this module: what one is made of is internal, so that it can still change,
// and no other module can make one.
type Service = awswire.Service

// Endpoint serves AWS APIs. It is an http.Handler for any net/http server. Use
// New. Its methods are safe for concurrent use.
type Endpoint struct {
	env      awswire.Env
	opts     Options
	origins  origins
	services []*Service
}

// largestAnswer is what the largest answer of any service takes of the budget
// for large answers, which must be at least that: a page of GetRecords, as
// records and encoded.
const largestAnswer = 30 << 20

// New returns an endpoint of services. Opts may be nil. A request that names
// none of the services is answered by the first. The error matches
// shardlog.ErrInvalid, with all faults of opts.
func New(opts *Options, services ...*Service) (*Endpoint, error) {
	o, err := opts.withDefaults()
	if err == nil {
		err = checkServices(services)
	}
	if err != nil {
		return nil, &shardlog.Error{Op: "new endpoint", Err: err}
	}
	allowed, err := newOrigins(o.AllowOrigins)
	if err != nil {
		return nil, &shardlog.Error{Op: "new endpoint", Err: err}
	}
	return &Endpoint{
		env: awswire.Env{
			Scope:       awswire.Scope{Account: o.Account, Region: o.Region},
			Credentials: o.Credentials,
			Bodies:      awswire.NewBodies(o.MaxBodyBytes, o.MaxBodiesBytes, o.BodyTimeout),
			Answers:     awswire.NewBudget(max(o.MaxBodiesBytes, largestAnswer)),
			Lifetime:    awswire.NewLifetime(),
			Logger:      o.Logger,
		},
		opts: o, origins: allowed, services: services,
	}, nil
}

func checkServices(services []*Service) error {
	invalid := func(value any, limit string) error {
		return &shardlog.InvalidError{Field: "services", Value: value, Limit: limit}
	}
	if len(services) == 0 {
		return invalid(0, "1 or more")
	}
	for i, s := range services {
		if s == nil {
			return invalid(nil, "not nil")
		}
		if s.Name == "" || len(s.Protocols) == 0 || s.Throttled == nil {
			return invalid(s.Name, "services with Name, Protocols and Throttled")
		}
		for _, t := range services[:i] {
			if s.Name == t.Name || samePrefix(s.TargetPrefix, t.TargetPrefix) {
				return invalid(s.Name, "each service once")
			}
		}
	}
	return nil
}

// samePrefix reports whether a target could begin with both prefixes. An empty
// one is that of a service without targets.
func samePrefix(a, b string) bool {
	return a != "" && b != "" && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a))
}

// Close ends all requests that wait, such as subscriptions, and the work that
// services do in the background, and waits for both. Requests that come later
// are answered with status 503. It is idempotent and returns nil.
func (e *Endpoint) Close() error {
	e.env.Lifetime.Close()
	return nil
}

// SetClockOffset moves the clock of the endpoint: the life of iterators and
// subscriptions, states of streams, and the dates of signatures. The clock by
// which records arrive and expire is the machine's. What was given out or begun
// before stays good: it is over as soon as its time has passed on the clock of
// the endpoint or on that of the machine.
func (e *Endpoint) SetClockOffset(d time.Duration) { e.env.Clock.SetOffset(d) }

// ClockOffset returns what SetClockOffset has set.
func (e *Endpoint) ClockOffset() time.Duration { return e.env.Clock.Offset() }

// Reset deletes the resources that the services keep, such as streams, removes
// all faults and sets the clock right. Settings of accounts stay. The error is that of the first service that fails; the
// services after it are not reset.
func (e *Endpoint) Reset(ctx context.Context) error {
	e.ClearFaults()
	e.SetClockOffset(0)
	for _, s := range e.services {
		if s.Reset == nil {
			continue
		}
		if err := s.Reset(ctx); err != nil {
			return fmt.Errorf("reset of %s: %w", s.Name, err)
		}
	}
	return nil
}

// Memory is how many bytes of the bounds of an endpoint are free.
type Memory struct {
	// Bodies and Beginnings are those of Options.MaxBodiesBytes: for bodies
	// above 16 KiB, and for the first 16 KiB of each.
	Bodies, Beginnings int64
	// Answers are those for large answers.
	Answers int64
}

// FreeMemory returns what is free. With no request under way all of it is.
func (e *Endpoint) FreeMemory() Memory {
	m := Memory{Answers: e.env.Answers.Left()}
	m.Bodies, m.Beginnings = e.env.Bodies.Left()
	return m
}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, adminPrefix) {
		e.serveAdmin(w, r)
		return
	}
	origin, ok := anyOrigin, true
	if !e.env.Verifies() {
		origin, ok = e.origins.permits(r)
	}
	if !ok {
		refuseOrigin(w)
		return
	}
	s, op := e.route(r)
	var c *awswire.Call
	if s.Begin != nil {
		c = s.Begin()
	} else {
		c = &awswire.Call{}
	}
	c.Env, c.Ctx, c.W, c.R, c.Service, c.Op, c.Origin = &e.env, r.Context(), w, r, s, op, origin
	if status := c.ReadBody(); status != 0 {
		w.Header().Set("Connection", "close")
		w.WriteHeader(status)
		return
	}
	defer c.ReleaseBody()
	if !c.Preflight() {
		e.answer(c)
	}
}

// answer carries a request out and sends its answer.
func (e *Endpoint) answer(c *awswire.Call) {
	// A request that begins before Close is carried out as far as it does not
	// wait, so the state at its beginning decides.
	closed := e.env.Lifetime.Closed()
	buf := awswire.Buffers.Get().(*[]byte)
	c.Out.Buf = (*buf)[:0]
	if c.Service.Done != nil {
		defer c.Service.Done(c)
	}
	err := serve(c, closed)
	switch {
	case c.Answered:
	case err != nil:
		c.Fail(err)
	default:
		c.Reply(http.StatusOK)
	}
	if !c.Answered && cap(c.Out.Buf) <= awswire.MaxPooled {
		*buf = c.Out.Buf
	}
	awswire.Buffers.Put(buf)
}
