package main

import (
	"bytes"
	"crypto/md5" // the checksum of the aggregation format
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// userRecord is one of those that the KPL packs into an aggregated record.
type userRecord struct {
	key  string
	data []byte
}

// aggregateMagic begins an aggregated record; the MD5 of the message between
// ends it (KPL aggregation format).
var aggregateMagic = []byte{0xf3, 0x89, 0x9a, 0xc2}

// deaggregate takes an aggregated record apart; ok is false if it is none.
func deaggregate(b []byte) (users []userRecord, ok bool) {
	if !bytes.HasPrefix(b, aggregateMagic) || len(b) < len(aggregateMagic)+md5.Size {
		return nil, false
	}
	body, sum := b[len(aggregateMagic):len(b)-md5.Size], b[len(b)-md5.Size:]
	if md5.Sum(body) != [md5.Size]byte(sum) {
		return nil, false
	}
	var keys []string
	var packed [][]byte
	good := fields(body, func(num protowire.Number, value []byte, _ uint64) bool {
		switch num {
		case 1: // partition key table
			keys = append(keys, string(value))
			return utf8.Valid(value)
		case 3: // records
			packed = append(packed, value)
		}
		return true
	})
	for _, p := range packed {
		var u userRecord
		index := uint64(len(keys))
		good = good && fields(p, func(num protowire.Number, value []byte, n uint64) bool {
			switch num {
			case 1: // partition key index
				index = n
			case 3: // data
				u.data = value
			}
			return true
		})
		if !good || index >= uint64(len(keys)) {
			return nil, false
		}
		u.key = keys[index]
		users = append(users, u)
	}
	return users, good
}

// fields walks over a message; value is set for fields with a length, n for
// numbers.
func fields(b []byte, f func(num protowire.Number, value []byte, n uint64) bool) bool {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		var value []byte
		var number uint64
		switch typ {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 || !f(num, value, number) {
			return false
		}
		b = b[n:]
	}
	return true
}
