package producer

import (
	"errors"
	"fmt"
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
	if r.PartitionKey == "" && p.conf.Keyless {
		return p.checkKeyless(*r)
	}
	if err := r.Validate(p.conf.MaxRecordSize); err != nil {
		return 0, err
	}
	if r.Headers != nil || r.DedupID != "" {
		if err := p.checkExtras(r); err != nil {
			return 0, err
		}
	}
	if p.conf.mustWrap(r.Data, r.Headers) {
		if err := p.checkWrapped(kpl.UserRecord{PartitionKey: r.PartitionKey, HashKey: r.ExplicitHashKey, Data: r.Data, Headers: r.Headers}); err != nil {
			return 0, err
		}
	}
	return r.Size(), nil
}

// checkKeyless is check for a record without partition key, with a key and a
// hash key that are as long as any that will be made up for it.
func (p *Producer) checkKeyless(r shardlog.Record) (int, error) {
	if r.ExplicitHashKey.IsSet() {
		return 0, &shardlog.InvalidError{Field: "ExplicitHashKey", Value: r.ExplicitHashKey, Limit: "unset in a record without partition key"}
	}
	r.PartitionKey, r.ExplicitHashKey = madeUpKey, shardlog.MaxHashKey
	return p.check(&r)
}

// checkExtras checks what few records have.
func (p *Producer) checkExtras(r *shardlog.Record) error {
	for i := range r.Headers {
		// In an aggregate they are strings of a format that has no others.
		if h := &r.Headers[i]; !utf8.ValidString(h.Key) || !utf8.ValidString(h.Value) {
			return &shardlog.InvalidError{Field: fmt.Sprintf("Headers[%d]", i), Value: h.Key, Limit: "valid UTF-8"}
		}
	}
	if err := p.conf.checkHeaders(r); err != nil {
		return err
	}
	if r.DedupID != "" && !shardlog.CapabilitiesOf(p.sink).DedupID { // may be turned on later
		return fmt.Errorf("%w: the sink does not look at DedupID", shardlog.ErrUnsupported)
	}
	return nil
}

// checkWrapped checks the size of a record that is stored as an aggregate of
// one.
func (p *Producer) checkWrapped(u kpl.UserRecord) error {
	if n := kpl.Alone(u) + len(u.PartitionKey); n > p.conf.MaxRecordSize {
		return &shardlog.InvalidError{Field: "Data", Value: fmt.Sprintf("of %d bytes when it is wrapped as an aggregate", n),
			Limit: fmt.Sprintf("at most %d bytes", p.conf.MaxRecordSize)}
	}
	return nil
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
// data, which the core copies, and computes what needs no lock.
func (p *Producer) prepare(r *shardlog.Record, size int) prepared {
	in := prepared{size: size, explicit: r.ExplicitHashKey.IsSet(), keyless: r.PartitionKey == ""}
	small := smallData
	if p.conf.packs {
		small = pageData
	}
	if !p.conf.BorrowData && len(r.Data) > small {
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
	if p.conf.packs {
		return in
	}
	in.hash = p.conf.hashOf(r.PartitionKey)
	if p.conf.needsShards && !in.explicit {
		r.ExplicitHashKey = shardlog.KeyHash(r.PartitionKey)
	}
	return in
}
