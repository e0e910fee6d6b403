package kinesisapi

import (
	"errors"
	"fmt"
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

// resolveNumber checks a sequence number against the shard that it is used on.
func resolveNumber(c *call, s *streamState, id string, index uint32, p startPosition) (shardlog.Position, error) {
	var from shardlog.Position
	sh, err := s.st.Shard(id)
	if errors.Is(err, shardlog.ErrNotFound) {
		return from, missingShard(c.Scope, id, c.name)
	}
	if err != nil {
		return from, err
	}
	info, err := sh.Info(c.Ctx)
	if err != nil {
		return from, err
	}
	n, ok := readNumber(p.number)
	where := fmt.Sprintf("StartingSequenceNumber %s used in %s on shard %s in stream %s under account %s is invalid", n.text, c.Op.Name, id, c.name, c.Scope.Account)
	seq, err := shardlog.ParseSequenceNumber(p.number)
	switch {
	case !ok:
		return from, invalid("%s.", where)
	case n.shard < 0 || uint32(n.shard) != index:
		return from, invalid("Invalid StartingSequenceNumber. It encodes %s, while it was used in a call to a shard with %s", n.shardName(), id)
	case err != nil || seq.Compare(info.First) < 0:
		// Those below are of a stream that had the name before, be it within
		// the same second.
		return from, invalid("%s because it did not come from this stream.", where)
	}
	from = shardlog.At(seq)
	if p.kind == "AFTER_SEQUENCE_NUMBER" {
		from = shardlog.After(seq)
	}
	_, err = s.st.Resolve(c.Ctx, id, from)
	switch {
	case errors.Is(err, shardlog.ErrNotFound):
		return from, missingShard(c.Scope, id, c.name)
	case errors.Is(err, shardlog.ErrInvalid):
		return from, invalid("%s because it did not come from this stream.", where)
	case errors.Is(err, shardlog.ErrExpired):
		return shardlog.TrimHorizon(), nil
	case errors.Is(err, shardlog.ErrCorrupt):
		err = nil // reading reports it, at the place where it is
	}
	return from, err
}
