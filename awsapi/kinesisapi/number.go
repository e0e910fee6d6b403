package kinesisapi

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
)

// awsNumber is a sequence number as AWS reads it. AWS has had three forms: the log
// gives out version 2, and requests may have any of them.
type awsNumber struct {
	version int
	// text is how errors name it.
	text    string
	created int64 // second of the shard's creation
	arrival int64 // second of the record's arrival; 0 in version 0
	shard   int32 // index of the shard, which is negative if its first bit is set
	counter string
}

// maxCreated bounds the creation in numbers, which AWS refuses from then on. It
// is in the year 2477.
const maxCreated = 16_025_175_000

var (
	numberBit = new(big.Int).Lsh(big.NewInt(1), 124) // of version 0
	numberTop = new(big.Int).Lsh(big.NewInt(1), 129) // versions 1 and 2 are above
)

// numberDigits is how many hexadecimal digits numbers of version 1 and 2 have.
const numberDigits = 47

// readNumber reads a number that matches shapeSequence. AWS calls those for which
// ok is false invalid.
func readNumber(text string) (n awsNumber, ok bool) {
	n.text = text
	v, ok := new(big.Int).SetString(text, 10)
	if !ok || v.Sign() < 0 {
		return n, false
	}
	if v.Cmp(numberTop) < 0 {
		return readOldNumber(v)
	}
	hex := v.Text(16)
	if len(hex) != numberDigits || hex[0] != '2' {
		return n, false
	}
	n.created = digits(hex[1:10])
	n.shard = int32(uint32(digits(hex[38:46])))
	switch hex[46] {
	case '1':
		n.version, n.arrival = 1, digits(hex[13:22])
		return n, true
	case '2':
		n.version, n.arrival, n.counter = 2, digits(hex[29:38]), hex[11:27]
		return n, n.counter[0] < '8' && n.created < maxCreated
	}
	return n, false
}

// readOldNumber reads a number of version 0, of which AWS keeps 124 bits behind
// one that is set.
func readOldNumber(v *big.Int) (n awsNumber, ok bool) {
	v.Mod(v, numberBit).Add(v, numberBit)
	n.text = v.String()
	hex := v.Text(16) // 32 digits, the first is 1
	n.created = digits(hex[1:10])
	n.shard = int32(digits(hex[28:]))
	return n, n.created < maxCreated
}

// digits reads up to 9 hexadecimal digits.
func digits(hex string) (n int64) {
	for i := range len(hex) {
		n = n<<4 | int64(strings.IndexByte("0123456789abcdef", hex[i]))
	}
	return n
}

// shardName returns the ID of the shard of a number, also if there can be none.
func (n *awsNumber) shardName() string {
	if n.shard >= 0 {
		return shardID(uint32(n.shard))
	}
	return fmt.Sprintf("%s%012d", strings.TrimRight(shardID(0), "0"), n.shard)
}

// orderingFits reports whether a SequenceNumberForOrdering is one that can have
// been given out by now. What the stream itself has given out is, even if the
// machine's clock was ahead then.
func orderingFits(ctx context.Context, s *streamState, text string, latest time.Time) bool {
	n, ok := readNumber(text)
	if !ok || n.arrival <= latest.Unix() {
		return ok
	}
	seq, err := shardlog.ParseSequenceNumber(text)
	if err != nil || n.shard < 0 {
		return false
	}
	sh, err := s.st.Shard(shardID(uint32(n.shard)))
	if err != nil {
		return false
	}
	info, err := sh.Info(ctx)
	return err == nil && createdOf(info.First) == n.created && seq.Compare(info.LastRecord) <= 0
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
