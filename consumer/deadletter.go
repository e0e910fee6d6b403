package consumer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer/internal/lease"
	"github.com/shardlog/shardlog/internal/kpl"
)

// DeadLetter is a record that could not be handled.
type DeadLetter struct {
	// Record is the record as the handler got it.
	Record shardlog.Record
	// Err is the last error of the handler.
	Err error
	// Attempts is how often it was tried, 1 or more.
	Attempts int
	// Stream, Group and Epoch are where it was tried, and by which worker.
	Stream, Group string
	Epoch         uint64
}

// Headers that DeadLettersTo adds to a record.
const (
	HeaderError    = "shardlog-error"
	HeaderOrigin   = "shardlog-origin"
	HeaderAttempts = "shardlog-attempts"
	// HeaderTruncated has the length of the record's data, in bytes, where not
	// all of them had room.
	HeaderTruncated = "shardlog-truncated"
)

// maxErrorHeader bounds the text of an error in a header, in bytes.
const maxErrorHeader = 1000

// DeadLettersTo returns a function for Options.DeadLetter that puts the records
// into a stream: with their own keys, data and headers, and headers that tell
// the error, the place that they come from as "stream/shard/number/index" and
// the number of attempts. A record may be put twice when the worker ends
// before the checkpoint. Where the sink has the capability, the DedupID is the
// origin, so that a stream with a window stores it once.
//
// A sink that stores headers only inside aggregates (Capabilities.KeyRanges and
// not Headers) gets an aggregate of one record, from which a Consumer makes the
// record with its headers, and other readers of aggregates the data. For a sink
// that has neither capability the function returns an error that matches
// shardlog.ErrUnsupported, because nothing would say why the record is there.
//
// A record that the sink refuses with shardlog.ErrInvalid, because these
// headers make it too large or too many, is put without them; if it is refused
// again, without its own headers; and then with only the beginning of its data
// and HeaderTruncated. What is refused even so is an error, which
// Options.OnRefused decides about.
func DeadLettersTo(sink shardlog.Sink) func(ctx context.Context, d DeadLetter) error {
	caps := shardlog.CapabilitiesOf(sink)
	return func(ctx context.Context, d DeadLetter) error {
		origin := fmt.Sprintf("%s/%s/%s/%d", d.Stream, d.Record.ShardID, d.Record.Sequence, d.Record.SubSequence)
		if !caps.Headers && !caps.KeyRanges {
			return fmt.Errorf("%w: dead letters need a sink that stores headers (Headers, or KeyRanges for aggregates); this one is a %T", shardlog.ErrUnsupported, sink)
		}
		var first error
		for rec := range d.forms(origin) {
			if !caps.Headers && len(rec.Headers) > 0 {
				rec = wrapped(rec)
			}
			if caps.DedupID && len(origin) <= shardlog.MaxDedupIDLength {
				rec.DedupID = origin
			}
			err := putOne(ctx, sink, rec)
			if !errors.Is(err, shardlog.ErrInvalid) && !errors.Is(err, shardlog.ErrUnsupported) {
				return err
			}
			if first == nil {
				first = err // about the record as it is; the others only follow from it
			}
		}
		return first
	}
}

// wrapped is an aggregate of one record, which has room for its headers.
func wrapped(rec shardlog.Record) shardlog.Record {
	var b kpl.Builder
	b.Add(kpl.UserRecord{PartitionKey: rec.PartitionKey, HashKey: rec.ExplicitHashKey, Data: rec.Data, Headers: rec.Headers}, math.MaxInt)
	rec.Data, rec.Headers = b.Append(nil), nil
	return rec
}

func putOne(ctx context.Context, sink shardlog.Sink, rec shardlog.Record) error {
	results, err := sink.PutRecords(ctx, []shardlog.Record{rec})
	if err != nil {
		return err
	}
	return results[0].Err
}

// forms yields the record as it is to be put, from the complete form to
// smaller ones. The limits of a sink are not known here, so the data are halved
// until they fit.
func (d *DeadLetter) forms(origin string) func(yield func(shardlog.Record) bool) {
	added := []shardlog.Header{
		{Key: HeaderError, Value: shortened(d.Err.Error())},
		{Key: HeaderOrigin, Value: origin},
		{Key: HeaderAttempts, Value: fmt.Sprint(d.Attempts)},
	}
	own, data := d.Record.Headers, d.Record.Data
	return func(yield func(shardlog.Record) bool) {
		put := func(data []byte, headers ...shardlog.Header) bool {
			return yield(shardlog.Record{PartitionKey: d.Record.PartitionKey, ExplicitHashKey: d.Record.ExplicitHashKey, Data: data, Headers: headers})
		}
		if !put(data, append(own[:len(own):len(own)], added...)...) || !put(data, own...) {
			return
		}
		if len(own) > 0 && (!put(data, added...) || !put(data)) {
			return
		}
		marked := append(added, shardlog.Header{Key: HeaderTruncated, Value: fmt.Sprint(len(data))})
		for n := len(data) / 2; n > 0; n /= 2 {
			if !put(data[:n], marked...) {
				return
			}
		}
		put(nil, marked...)
	}
}

// shortened bounds a text for a header.
func shortened(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > maxErrorHeader {
		s = strings.ToValidUTF8(s[:maxErrorHeader-3], "") + "..."
	}
	return s
}

// refusedForGood reports whether the dead letters will never take a record. An
// error that is not known is taken to heal, as that of a network does.
func refusedForGood(err error) bool {
	var fatal *permanentError
	return lease.Permanent(err) || errors.As(err, &fatal)
}
