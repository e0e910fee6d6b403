package producer

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
	"github.com/shardlog/shardlog/internal/kpl"
)

// encodedSink is a sink in the same module that takes records as they are stored,
// so that a record is copied once on its way there and once into its block.
// *stream.Stream is one.
type encodedSink interface {
	// PutEncoded is shardlog.Sink.PutRecords for the records of run, which are
	// checked. It sets an element of res for each.
	PutEncoded(ctx context.Context, run block.Run, res []shardlog.PutResult) error
	// IsSink reports whether it is sink, rather than a part of it: a struct that
	// embeds it may have a PutRecords of its own.
	IsSink(sink shardlog.Sink) bool
}

// encodedSinkOf returns sink as an encodedSink; nil if it is none.
func encodedSinkOf(sink shardlog.Sink) encodedSink {
	if s, ok := sink.(encodedSink); ok && s.IsSink(sink) {
		return s
	}
	return nil
}

// demand is something that options ask for, and whether the sink has it.
type demand struct {
	asked  bool
	has    bool
	option string
	needs  string
}

// checkCapabilities returns an error that matches shardlog.ErrUnsupported for
// each option that asks for what the sink cannot do.
func (o *Options) checkCapabilities(sink shardlog.Sink) error {
	if sink == nil {
		return nil // which is a fault of its own
	}
	caps := shardlog.CapabilitiesOf(sink)
	_, takesRequests := sink.(shardlog.RequestSink)
	ranges := "a sink that places records by the listed ranges of hash keys (KeyRanges)"
	fits := func(option string, asked, most int) demand {
		return demand{most > 0, asked <= most, option, fmt.Sprintf("a sink that takes %d; this one takes %d", asked, most)}
	}
	var errs []error
	for _, d := range []demand{
		{o.ID != "", takesRequests && caps.Idempotent, "ID", "a sink that stores numbered records once (Idempotent)"},
		{o.Aggregation.Enabled, caps.KeyRanges, "Aggregation", ranges},
		{o.Keyless, caps.KeyRanges, "Keyless", ranges},
		{o.ShardRate != (ShardRate{}), caps.KeyRanges, "ShardRate", ranges},
		fits("MaxBatchRecords", o.MaxBatchRecords, caps.MaxRequestRecords),
		fits("MaxBatchBytes", o.MaxBatchBytes, caps.MaxRequestBytes),
		fits("MaxRecordSize", o.MaxRecordSize, caps.MaxRecord),
		fits("Aggregation.MaxSize", o.Aggregation.MaxSize, caps.MaxRecord),
	} {
		if d.asked && !d.has {
			errs = append(errs, &shardlog.Error{Op: "new producer", Err: fmt.Errorf("%w: Options.%s needs %s", shardlog.ErrUnsupported, d.option, d.needs)})
		}
	}
	return errors.Join(errs...)
}

// atMost returns def, or what the sink takes if that is known to be less.
func atMost(def, sinkTakes int) int {
	if sinkTakes > 0 {
		return min(def, sinkTakes)
	}
	return def
}

// keepsOrderSingly reports whether at most one record of a key may be in a
// request: because the user asks for it, or because the sink may store a later
// record of a key although it refused an earlier one of the same request.
func (o *Options) keepsOrderSingly(caps shardlog.Capabilities) bool {
	return o.Order == OrderStrict || !caps.OrderedRequest
}

// checkHeaders returns an error for headers that the sink would not store.
func (c *config) checkHeaders(r *shardlog.Record) error {
	if len(r.Headers) > 0 && c.wrapsHeaders && !c.Aggregation.Enabled {
		return fmt.Errorf("%w: the sink stores headers only inside aggregates, and Options.Aggregation is off", shardlog.ErrUnsupported)
	}
	return nil
}

// mustWrap reports whether a record goes inside an aggregate even if it is the
// only one there: data that begins as an aggregate does, which readers would
// take for one, and headers that the sink cannot store.
func (c *config) mustWrap(data []byte, headers []shardlog.Header) bool {
	return c.Aggregation.Enabled && (kpl.BeginsAsAggregate(data) || c.wrapsHeaders && len(headers) > 0)
}
