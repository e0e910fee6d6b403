package kinesisapi

import (
	"fmt"
	"math/big"
	"strings"
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
