package producer

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
)

// madeUpKey is as long as any key that stickyPlace makes up.
var madeUpKey = strings.Repeat("k", madeUpKeyLength)

// check returns the size of a record with its key, or the limit that it breaks.
func (p *Producer) check(r *shardlog.Record) (int, error) {
	v := *r
	if v.PartitionKey == "" && p.conf.Keyless {
		v.PartitionKey = madeUpKey
		if r.ExplicitHashKey.IsSet() {
			return 0, &shardlog.InvalidError{Field: "ExplicitHashKey", Value: r.ExplicitHashKey, Limit: "unset in a record without partition key"}
		}
	}
	if err := v.Validate(p.conf.MaxRecordSize); err != nil {
		return 0, err
	}
	for i := range v.Headers {
		// In an aggregate they are strings of a format that has no others.
		if h := &v.Headers[i]; !utf8.ValidString(h.Key) || !utf8.ValidString(h.Value) {
			return 0, &shardlog.InvalidError{Field: fmt.Sprintf("Headers[%d]", i), Value: h.Key, Limit: "valid UTF-8"}
		}
	}
	if err := p.conf.checkHeaders(&v); err != nil {
		return 0, err
	}
	if v.DedupID != "" && !shardlog.CapabilitiesOf(p.sink).DedupID { // may be turned on later
		return 0, fmt.Errorf("%w: the sink does not look at DedupID", shardlog.ErrUnsupported)
	}
	if p.conf.mustWrap(v.Data, v.Headers) {
		if n := p.wrappedSize(v, r.PartitionKey == ""); n > p.conf.MaxRecordSize {
			return 0, &shardlog.InvalidError{Field: "Data", Value: fmt.Sprintf("of %d bytes when it is wrapped as an aggregate", n),
				Limit: fmt.Sprintf("at most %d bytes", p.conf.MaxRecordSize)}
		}
	}
	return v.Size(), nil
}

// wrappedSize returns the size of a record that is stored as an aggregate of
// one.
func (p *Producer) wrappedSize(r shardlog.Record, keyless bool) int {
	u := kpl.UserRecord{PartitionKey: r.PartitionKey, HashKey: r.ExplicitHashKey, Data: r.Data, Headers: r.Headers}
	if keyless {
		u.HashKey = shardlog.MaxHashKey // as long as any
	}
	return kpl.Alone(u) + len(u.PartitionKey)
}

// checkAll checks the records of a batch and returns their sizes. The error
// joins one for each record that breaks a limit.
func (p *Producer) checkAll(records []shardlog.Record) ([]int, error) {
	sizes := make([]int, len(records))
	var faults []error
	for i := range records {
		var err error
		if sizes[i], err = p.check(&records[i]); err != nil {
			var bad *shardlog.InvalidError
			if errors.As(err, &bad) {
				bad.Field = fmt.Sprintf("records[%d].%s", i, bad.Field)
			}
			faults = append(faults, err)
		}
	}
	return sizes, errors.Join(faults...)
}

// prepare makes r independent of what the caller may change, except for small
// data, which core.enter copies, and computes what needs no lock.
func (p *Producer) prepare(r *shardlog.Record, size int) prepared {
	in := prepared{size: size, explicit: r.ExplicitHashKey.IsSet(), keyless: r.PartitionKey == ""}
	if !p.conf.BorrowData && len(r.Data) > smallData {
		r.Data = slices.Clone(r.Data)
	}
	if r.Headers != nil || r.DedupID != "" {
		in.extras = &extras{headers: r.Headers, dedupID: r.DedupID}
		if !p.conf.BorrowData {
			in.extras.headers = slices.Clone(r.Headers)
		}
	}
	if in.keyless {
		in.hash = rand.Uint64() // it has no order with any other record
		return in
	}
	in.hash = maphash.String(p.seed, r.PartitionKey)
	if p.conf.needsShards && !in.explicit {
		r.ExplicitHashKey = shardlog.KeyHash(r.PartitionKey)
	}
	return in
}
