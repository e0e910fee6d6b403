package stream

import (
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
)

// idRule says whether a call takes dedup IDs.
type idRule uint8

const (
	idsOff       idRule = iota // the stream has no window
	idsOn                      // they are taken
	idsCondition               // the call is PutIf
)

func (m *streamMeta) idRule() idRule {
	if m.DedupWindow > 0 {
		return idsOn
	}
	return idsOff
}

// check returns why a call does not accept a valid ID that is not empty, or nil
// if it does.
func (rule idRule) check(id string) *shardlog.InvalidError {
	switch rule {
	case idsOff:
		return &shardlog.InvalidError{Field: "DedupID", Value: id, Limit: "empty in a stream without Config.DedupWindow"}
	case idsCondition:
		return &shardlog.InvalidError{Field: "DedupID", Value: id, Limit: "empty in PutIf, whose condition keeps copies out"}
	}
	return nil
}

func hasIDs(records []shardlog.Record) bool {
	for i := range records {
		if records[i].DedupID != "" {
			return true
		}
	}
	return false
}

// checkRecords returns the faults of records, at most ten of them.
func checkRecords(records []shardlog.Record, maxSize int, ids idRule) error {
	var errs []error
	for i := range records {
		if err := checkRecord(&records[i], maxSize, ids); err != nil {
			if err.Field = fmt.Sprintf("records[%d].%s", i, err.Field); len(records) == 1 {
				err.Field = err.Field[len("records[0]."):]
			}
			if errs = append(errs, err); len(errs) == 10 {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// checkAndHash returns where a valid record belongs, or what is wrong with it;
// it need not look at the dedup ID.
func checkAndHash(r *shardlog.Record, maxSize int, hash Hash, known *hashCache, ids idRule) (shardlog.HashKey, *shardlog.InvalidError) {
	k := r.PartitionKey
	if r.ExplicitHashKey.IsSet() || hash != MD5 || len(k) > hashCacheKey {
		if err := checkRecord(r, maxSize, ids); err != nil {
			return shardlog.HashKey{}, err
		}
		return hash.hashKey(r), nil
	}
	key, ok := known.keyHash(k)
	if !ok || k == "" || len(r.Headers) > 0 || len(k)+len(r.Data) > maxSize {
		if err := checkRecord(r, maxSize, ids); err != nil {
			return shardlog.HashKey{}, err
		}
	}
	return key, nil
}

// checkRecord returns what is wrong with a record.
func checkRecord(r *shardlog.Record, maxSize int, ids idRule) *shardlog.InvalidError {
	if err := r.Validate(maxSize); err != nil {
		return err.(*shardlog.InvalidError) // as it promises
	}
	if r.DedupID != "" {
		return ids.check(r.DedupID)
	}
	return nil
}
