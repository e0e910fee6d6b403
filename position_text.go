package shardlog

import (
	"strconv"
	"strings"
	"time"
)

// MarshalText returns a form that UnmarshalText reads back, for checkpoints
// and configuration: "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP:<RFC 3339>",
// "AT_SEQUENCE_NUMBER:<number>", "AFTER_SEQUENCE_NUMBER:<number>" and
// "AFTER_SEQUENCE_NUMBER:<number>:<sub-sequence>". It never fails;
// but an unset number, or a time in a year of more or less than four digits, is
// not read back.
func (p Position) MarshalText() ([]byte, error) {
	switch p.kind {
	case KindTrimHorizon:
		return []byte("TRIM_HORIZON"), nil
	case KindLatest:
		return []byte("LATEST"), nil
	case KindAtTime:
		return p.at.UTC().AppendFormat([]byte("AT_TIMESTAMP:"), time.RFC3339Nano), nil
	case KindAt:
		return []byte("AT_SEQUENCE_NUMBER:" + p.seq.String()), nil
	}
	s := "AFTER_SEQUENCE_NUMBER:" + p.seq.String()
	if p.sub != WholeRecord {
		s += ":" + strconv.FormatInt(p.sub, 10)
	}
	return []byte(s), nil
}

// UnmarshalText reads what MarshalText wrote. The error is an *InvalidError.
func (p *Position) UnmarshalText(text []byte) error {
	bad := &InvalidError{Field: "Position", Value: string(text), Limit: "a position as written by MarshalText"}
	kind, rest, _ := strings.Cut(string(text), ":")
	switch kind {
	case "TRIM_HORIZON", "LATEST":
		if strings.Contains(string(text), ":") {
			return bad
		}
		*p = TrimHorizon()
		if kind == "LATEST" {
			*p = Latest()
		}
		return nil
	case "AT_TIMESTAMP":
		t, err := time.Parse(time.RFC3339Nano, rest)
		if err != nil {
			return bad
		}
		*p = AtTime(t)
		return nil
	case "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER":
	default:
		return bad
	}
	num, subText, hasSub := strings.Cut(rest, ":")
	seq, err := ParseSequenceNumber(num)
	if err != nil || (hasSub && kind == "AT_SEQUENCE_NUMBER") {
		return bad
	}
	switch {
	case kind == "AT_SEQUENCE_NUMBER":
		*p = At(seq)
	case hasSub:
		sub, err := strconv.ParseUint(subText, 10, 32)
		if err != nil {
			return bad
		}
		*p = AfterSub(seq, uint32(sub))
	default:
		*p = After(seq)
	}
	return nil
}
