package kinesisapi

import (
	"encoding/binary"
	"math/bits"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// numberText is how long a sequence number of the log is as text.
const numberText = 56

// sequenceText writes sequence numbers of a shard. Most follow the one before:
// only their counter is higher, by one. The text of such a number is that of the
// one before plus a constant, and adding in decimal costs a tenth of converting
// each. The zero value is ready. It is not safe for concurrent use.
type sequenceText struct {
	next shardlog.SequenceNumber // what follows the last one; unset for none

	created, arrival int64
	counter          uint64
	shard            uint32
	// digits are those of the last number: a byte each, without the 48 of ASCII,
	// eight in a word, the first ones in the upper bytes of the first word.
	digits [numberText / 8]uint64
}

// counterStep is what a counter higher by one adds to a number, 2^80, as digits.
var counterStep = [numberText / 8]uint64{
	3: 0x01, 4: 0x02_00_08_09_02_05_08_01, 5: 0x09_06_01_04_06_02_09_01, 6: 0x07_04_07_00_06_01_07_06,
}

const (
	eachDigit = 0x0101010101010101
	// carryBias makes the sum of two digits leave its byte when it is above 9.
	carryBias = 0xf6 * eachDigit
)

// follows takes note of a number and reports whether it follows the one before,
// so that digits are its own.
func (t *sequenceText) follows(n shardlog.SequenceNumber) bool {
	if n != t.next || !n.IsSet() {
		return false
	}
	carry := uint64(0)
	for i := len(t.digits) - 1; i >= 0; i-- {
		if i < 3 && carry == 0 {
			break
		}
		sum, over := bits.Add64(t.digits[i], counterStep[i]+carryBias, carry)
		// The bytes that have no carry still have the bias.
		t.digits[i], carry = sum-(sum>>7&eachDigit)*0xf6, over
	}
	t.expect(t.counter + 1)
	return true
}

// expect sets the counter of the last number, and with it what follows.
func (t *sequenceText) expect(counter uint64) {
	t.counter = counter
	t.next = shardlog.NewSequenceNumber(t.created, t.shard, counter+1, t.arrival)
}

// begin takes note of a number that does not follow, and its text.
func (t *sequenceText) begin(n shardlog.SequenceNumber, text []byte) {
	counter, ok := n.Counter()
	if t.next = (shardlog.SequenceNumber{}); !ok || counter == shardlog.MaxCounter || len(text) != numberText {
		return
	}
	created, _ := n.Created()
	arrival, _ := n.Arrival()
	t.shard, _ = n.Shard()
	t.created, t.arrival = created.Unix(), arrival.Unix()
	for i := range t.digits {
		t.digits[i] = binary.BigEndian.Uint64(text[i*8:]) - '0'*eachDigit
	}
	t.expect(counter)
}

// put writes the digits of the last number into text, which has room for them.
func (t *sequenceText) put(text []byte) {
	for i, d := range t.digits {
		binary.BigEndian.PutUint64(text[i*8:], d+'0'*eachDigit)
	}
}

// write writes a number.
func (t *sequenceText) write(e *awswire.Encoder, n shardlog.SequenceNumber) {
	var memory [numberText + 1]byte
	text := memory[:numberText]
	if t.follows(n) {
		t.put(text)
	} else {
		text, _ = n.AppendText(memory[:0])
		t.begin(n, text)
	}
	e.Raw(text)
}

// storedEntries writes what the answer of PutRecords says of records that are
// stored. Entries of a shard differ in the sequence number alone, so all but the
// first are copies in which it is replaced. The zero value is ready.
type storedEntries [16]struct {
	numbers sequenceText
	shardID string
	entry   [128]byte
	size    int // of the entry; 0 for none
	at      int // where it has the number
}

// write writes the entry of a record.
func (s *storedEntries) write(e *awswire.Encoder, r *shardlog.PutResult) {
	index, _ := r.Sequence.Shard()
	sh := &s[index%uint32(len(s))]
	if sh.size > 0 && sh.shardID == r.ShardID && sh.numbers.follows(r.Sequence) {
		entry := e.Element(sh.entry[:sh.size])
		sh.numbers.put(entry[sh.at:])
		return
	}
	var memory [numberText + 1]byte
	text, _ := r.Sequence.AppendText(memory[:0])
	e.Open()
	from := len(e.Buf) - 1 // Open wrote one byte, behind any comma
	e.Key("SequenceNumber")
	e.Raw(text)
	end := len(e.Buf)
	e.TextField("ShardId", r.ShardID)
	e.Close()
	sh.numbers.begin(r.Sequence, text)
	sh.shardID, sh.size = r.ShardID, copy(sh.entry[:], e.Buf[from:])
	if sh.size < len(e.Buf)-from {
		sh.size = 0
	}
	sh.at = end - from - numberText
	if e.Format == awswire.FormatJSON {
		sh.at-- // the quote
	}
}
