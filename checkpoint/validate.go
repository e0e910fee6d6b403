package checkpoint

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/shardlog/shardlog"
)

// Validate checks the three parts of k. The error joins one
// *shardlog.InvalidError for each fault.
func (k Key) Validate() error {
	return errors.Join(
		checkName("Group", k.Group, false),
		checkName("Stream", k.Stream, false),
		checkName("Shard", k.Shard, false),
	)
}

// Validate checks that l can be stored and read back: its key, the lengths of
// its names and of its state, and its positions. The error joins one
// *shardlog.InvalidError for each fault.
func (l Lease) Validate() error {
	errs := []error{
		l.Key.Validate(),
		checkName("StreamID", l.StreamID, true),
		checkName("Owner", l.Owner, true),
		checkName("Next", l.Next, true),
		checkPosition("Checkpoint", l.Checkpoint),
		checkLinks("Parents", l.Parents),
		checkLinks("Children", l.Children),
	}
	if l.Prepared != nil {
		errs = append(errs, checkPosition("Prepared", *l.Prepared))
	}
	if len(l.PreparedState) > MaxPreparedState {
		errs = append(errs, &shardlog.InvalidError{
			Field: "PreparedState", Value: fmt.Sprintf("of %d bytes", len(l.PreparedState)),
			Limit: fmt.Sprintf("at most %d bytes", MaxPreparedState),
		})
	}
	return errors.Join(errs...)
}

// checkName returns an error interface and not an *InvalidError, so that a nil
// stays nil for errors.Join.
func checkName(field, s string, emptyAllowed bool) error {
	if len(s) <= MaxNameLength && utf8.ValidString(s) && (s != "" || emptyAllowed) {
		return nil
	}
	least := 1
	if emptyAllowed {
		least = 0
	}
	return &shardlog.InvalidError{
		Field: field, Value: s,
		Limit: fmt.Sprintf("%d to %d bytes of valid UTF-8", least, MaxNameLength),
	}
}

func checkLinks(field string, ids []string) error {
	if len(ids) > MaxLinks {
		return &shardlog.InvalidError{
			Field: field, Value: fmt.Sprintf("of %d shards", len(ids)),
			Limit: fmt.Sprintf("at most %d shards", MaxLinks),
		}
	}
	for _, id := range ids {
		if err := checkName(field, id, false); err != nil {
			return err
		}
	}
	return nil
}

// checkPosition refuses positions whose text form cannot be read back.
func checkPosition(field string, p shardlog.Position) error {
	switch p.Kind() {
	case shardlog.KindTrimHorizon, shardlog.KindLatest:
		return nil
	case shardlog.KindAtTime:
		if y := p.Time().UTC().Year(); y >= 0 && y <= 9999 {
			return nil
		}
	case shardlog.KindAt, shardlog.KindAfter:
		if p.Sequence().IsSet() {
			return nil
		}
	}
	return &shardlog.InvalidError{
		Field: field, Value: p,
		Limit: "a position with a sequence number, or with a time in the years 0 to 9999",
	}
}
