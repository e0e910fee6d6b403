package producer

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/shardlog/shardlog"
)

const (
	maxBatchRecords = 10_000
	maxBatchBytes   = 64 << 20
	maxInFlight     = 1024
)

// maxRate bounds ShardRate; it fits the token buckets.
const maxRate = 1 << 40

// resolve returns a copy of opts with its defaults filled in, or all faults.
func resolve(sink shardlog.Sink, opts *Options) (Options, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	caps := shardlog.CapabilitiesOf(sink)
	var errs []error
	invalid := func(field string, value any, limit string) {
		errs = append(errs, &shardlog.InvalidError{Field: field, Value: value, Limit: limit})
	}
	if sink == nil {
		invalid("Sink", nil, "set")
	}
	number := func(field string, v *int, def, most int) {
		if *v < 0 || *v > most {
			invalid(field, *v, fmt.Sprintf("1 to %d, or 0 for the default", most))
		}
		if *v <= 0 {
			*v = def
		}
	}
	number("MaxBatchRecords", &o.MaxBatchRecords, atMost(shardlog.MaxRequestRecords, caps.MaxRequestRecords), maxBatchRecords)
	number("MaxBatchBytes", &o.MaxBatchBytes, atMost(shardlog.MaxRequestBytes, caps.MaxRequestBytes), maxBatchBytes)
	number("MaxInFlight", &o.MaxInFlight, 4, maxInFlight)
	number("BufferRecords", &o.BufferRecords, 100_000, 1<<31-1)
	number("MaxAttempts", &o.MaxAttempts, 0, 1<<31-1)
	if o.BufferBytes < 0 {
		invalid("BufferBytes", o.BufferBytes, "positive, or 0 for the default")
	}
	if o.BufferBytes <= 0 {
		o.BufferBytes = 64 << 20
	}
	most := int(min(shardlog.MaxRecordSize, int64(o.MaxBatchBytes), o.BufferBytes))
	if o.MaxRecordSize < 0 || o.MaxRecordSize > most {
		invalid("MaxRecordSize", o.MaxRecordSize, fmt.Sprintf("1 to %d (no more than a request and the buffer hold), or 0 for the default", most))
	}
	if o.MaxRecordSize == 0 {
		o.MaxRecordSize = atMost(most, caps.MaxRecord)
	}
	duration := func(field string, v *time.Duration, def time.Duration) {
		if *v < 0 {
			invalid(field, *v, "positive, or 0 for the default")
		}
		if *v == 0 {
			*v = def
		}
	}
	duration("Linger", &o.Linger, 0)
	duration("RequestTimeout", &o.RequestTimeout, 0)
	duration("Retry.Initial", &o.Retry.Initial, 50*time.Millisecond)
	duration("Retry.Max", &o.Retry.Max, max(3*time.Second, o.Retry.Initial))
	if o.Retry.Max > 0 && o.Retry.Max < o.Retry.Initial {
		invalid("Retry.Max", o.Retry.Max, "Retry.Initial or more")
	}
	if o.TTL == 0 {
		o.TTL = 30 * time.Second
	}
	if o.WhenFull > Reject {
		invalid("WhenFull", o.WhenFull, "Block or Reject")
	}
	if o.Order > OrderStrict {
		invalid("Order", o.Order, "OrderPerKey or OrderStrict")
	}
	resolveAggregation(&o, caps, invalid)
	o.ShardRate.check(invalid)
	var bad *shardlog.InvalidError
	if o.ID != "" && errors.As(shardlog.ValidateProducerID(o.ID), &bad) {
		invalid("ID", bad.Value, bad.Limit)
	}
	if err := o.checkCapabilities(sink); err != nil {
		errs = append(errs, err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, errors.Join(errs...)
}

func resolveAggregation(o *Options, caps shardlog.Capabilities, invalid func(field string, value any, limit string)) {
	a := &o.Aggregation
	if a.MaxCount < 0 {
		invalid("Aggregation.MaxCount", a.MaxCount, "positive, or 0 for no bound")
	}
	most := min(maxAggregate, o.MaxBatchBytes)
	if a.MaxSize != 0 && (a.MaxSize < minAggregate || a.MaxSize > most) {
		invalid("Aggregation.MaxSize", a.MaxSize, fmt.Sprintf("%d to %d, or 0 for the default", minAggregate, most))
	}
	if a.MaxSize == 0 {
		a.MaxSize = atMost(min(51_200, most), caps.MaxRecord)
	}
}

// The bounds of Aggregation.MaxSize are KPL's.
const (
	minAggregate = 64
	maxAggregate = 10 << 20
)

// check reports rates that are out of their range.
func (r ShardRate) check(invalid func(field string, value any, limit string)) {
	for field, v := range map[string]float64{"ShardRate.Records": r.Records, "ShardRate.Bytes": r.Bytes} {
		if v != 0 && !(v >= 1 && v <= maxRate) { // also no NaN
			invalid(field, v, fmt.Sprintf("1 to %d, or 0 for none", int64(maxRate)))
		}
	}
}
