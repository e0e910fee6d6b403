// Package kinesisapi serves a stream database over the protocol of Amazon
// Kinesis Data Streams, so that any AWS SDK can be pointed at it: all
// operations of the service model but those on channels and queues, in JSON and
// in CBOR, with the answers, the errors and the sequence numbers of AWS.
//
// A Handler serves Kinesis alone, and Service makes it one of several services
// of an awsapi.Endpoint. SubscribeToShard works over HTTP/1.1 and HTTP/2, also
// without TLS, where the server allows it, as that of Handler.Server does. See
// docs/COMPATIBILITY.md for what differs from AWS.
package kinesisapi

import (
	"context"
	"errors"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/awsapi"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/internal/ctxsync"
	"github.com/shardlog/shardlog/stream"
)

// serviceName is what requests are signed for, and stands in ARNs.
const serviceName = "kinesis"

// targetPrefix is that of X-Amz-Target.
const targetPrefix = "Kinesis_20131202."

// Handler is the endpoint of one database, for Kinesis and what NewHandler is given. Use NewHandler.
// Its methods are safe for concurrent use.
type Handler struct {
	*awsapi.Endpoint
	svc *service
}

// NewHandler returns the endpoint of a database, which stays the caller's to
// close, after the handler. Opts may be nil. The error matches
// shardlog.ErrInvalid, with all faults of opts, or is that of the database, in
// which the handler keeps the key that it seals iterators with. More services
// can be served on the same port.
//
// A database is to be served by one handler or service at a time. Each has
// settings, consumers and subscriptions in memory, so two would not see each
// other's changes and could overwrite them. One handler may have several
// servers.
func NewHandler(db *stream.DB, opts *Options, more ...*awsapi.Service) (*Handler, error) {
	fail := func(err error) (*Handler, error) { return nil, &shardlog.Error{Op: "new handler", Err: err} }
	o, err := opts.withDefaults()
	if err = errors.Join(err, opts.endpoint().Validate()); err != nil {
		return fail(err)
	}
	svc, err := newService(db, o)
	if err != nil {
		return fail(err)
	}
	e, err := awsapi.New(opts.endpoint(), append([]*awsapi.Service{svc.describe()}, more...)...)
	if err != nil {
		return fail(err)
	}
	return &Handler{e, svc}, nil
}

// Faults returns the faults that are injected.
func (h *Handler) Faults() []Fault {
	var list []Fault
	for _, f := range h.Endpoint.Faults() {
		list = append(list, faultOf(f))
	}
	return list
}

// Service returns Kinesis over a database as a service for awsapi.New. The
// database stays the caller's to close, after the endpoint. Opts may be nil, and
// has nothing that awsapi.Options has. The error matches shardlog.ErrInvalid,
// with all faults of opts, or is that of the database, which is to be served
// once at a time, as NewHandler says.
func Service(db *stream.DB, opts *Options) (*awsapi.Service, error) {
	o, err := opts.withDefaults()
	if err == nil && opts != nil && opts.forEndpoint() {
		err = &shardlog.InvalidError{Field: "Options", Value: "options of the endpoint", Limit: "those of Kinesis; the others are for awsapi.New"}
	}
	var svc *service
	if err == nil {
		svc, err = newService(db, o)
	}
	if err != nil {
		return nil, &shardlog.Error{Op: "new Kinesis service", Err: err}
	}
	return svc.describe(), nil
}

// newService makes the service; opts are checked.
func newService(db *stream.DB, opts Options) (*service, error) {
	if db == nil {
		return nil, &shardlog.InvalidError{Field: "db", Value: nil, Limit: "not nil"}
	}
	tokens, err := openTokens(context.Background(), db)
	if err != nil {
		return nil, err
	}
	stamps, err := openStamps(context.Background(), db)
	if err != nil {
		return nil, err
	}
	return &service{
		db: db, opts: opts, tokens: tokens, streams: registry{db: db, stamps: stamps, states: map[string]*streamState{}},
		accounts: ctxsync.NewMutex(), growth: ctxsync.NewMutex(),
	}, nil
}

// describe returns the service for an endpoint.
func (svc *service) describe() *awsapi.Service {
	return &awsapi.Service{
		Name:         serviceName,
		TargetPrefix: targetPrefix,
		Protocols:    []*awswire.Protocol{awswire.JSON11, awswire.CBOR11},
		Operations:   operations(),
		Rates:        svc.opts.ControlLimits,
		Begin: func() *awswire.Call {
			c := &call{svc: svc}
			c.Session = c
			return &c.Call
		},
		Authorize: func(c *awswire.Call) error { return c.Session.(*call).authorize() },
		Resource:  func(c *awswire.Call) string { return c.Session.(*call).requestedStream() },
		Throttled: func(c *awswire.Call) error { return throttled(c.Session.(*call), "") },
		Explain:   func(c *awswire.Call, err error) *awswire.Error { return c.Session.(*call).explain(err) },
		Done:      func(c *awswire.Call) { c.Session.(*call).finish() },
		Admin: awswire.Admin{
			Ready: func(ctx context.Context) error {
				_, err := svc.db.Attribute(ctx, attrKey)
				return err
			},
			Reset: svc.streams.removeAll,
			Paths: map[string]func(context.Context, *awswire.Env, func(any) error) error{
				"PUT limits": svc.adminLimits,
			},
			ReadFault: readFault,
			ShowFault: showFault,
		},
	}
}
