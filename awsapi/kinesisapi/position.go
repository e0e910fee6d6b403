package kinesisapi

import (
	"errors"
	"time"

	"github.com/shardlog/shardlog"
)

// startPosition is a place in a shard that a request names by type.
type startPosition struct {
	kind   string
	number string
	at     time.Time
	hasAt  bool
}

// resolveStart checks a position, and makes one of it that stays the same
// however much is put meanwhile.
func resolveStart(c *call, s *streamState, id string, index uint32, p startPosition) (shardlog.Position, error) {
	var from shardlog.Position
	stays := true // it is the same place whenever it is looked for
	switch p.kind {
	case "TRIM_HORIZON", "LATEST":
		if p.number != "" {
			return from, invalid("Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and "+
				"no StartingSequenceNumber. Request specified %s and also a StartingSequenceNumber.", p.kind)
		}
		if p.kind == "LATEST" {
			from, stays = shardlog.Latest(), false
		}
	case "AT_TIMESTAMP":
		latest := c.Clock().Latest()
		if !p.hasAt {
			return from, invalid("Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.")
		}
		if p.at.After(latest) {
			return from, invalid("The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: %d, currentTimestampInMillis: %d",
				p.at.UnixMilli(), latest.UnixMilli())
		}
		from = shardlog.AtTime(p.at)
		if now := time.Now(); p.at.After(now) {
			// Records arrive by the machine's clock, so those that come next
			// have earlier times than this one of a clock that is ahead.
			from, stays = shardlog.AtTime(now), false
		}
	default:
		if p.number == "" {
			return from, invalid("Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and "+
				"no StartingSequenceNumber. Request specified %s and no StartingSequenceNumber.", p.kind)
		}
		return resolveNumber(c, s, id, index, p)
	}
	fixed, err := s.st.Resolve(c.Ctx, id, from)
	if errors.Is(err, shardlog.ErrNotFound) {
		return from, missingShard(c.Scope, id, c.name)
	}
	if stays && (err == nil || errors.Is(err, shardlog.ErrCorrupt)) {
		return from, nil // found again when it is read
	}
	return fixed, err
}
