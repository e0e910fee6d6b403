package kinesisapi

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

// tokens seals iterators and page tokens, with a key that is kept in the
// database: they stay valid when it is opened again.
type tokens struct{ *awswire.Sealer }

const attrKey = "kinesis.key"

// keyCreation is held while a key is read or created, so that handlers
// that are opened at the same time on a new database agree on one. One process
// at a time has a database open, so a lock of the process is enough.
var keyCreation sync.Mutex

// openTokens returns the tokens of a database, and creates its key the first
// time.
func openTokens(ctx context.Context, db *stream.DB) (tokens, error) {
	keyCreation.Lock()
	defer keyCreation.Unlock()
	text, err := db.Attribute(ctx, attrKey)
	if err != nil {
		return tokens{}, err
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != awswire.SealKeySize {
		key = make([]byte, awswire.SealKeySize)
		_, _ = rand.Read(key) // never fails
		if err := db.SetAttribute(ctx, attrKey, hex.EncodeToString(key)); err != nil {
			return tokens{}, err
		}
	}
	sealer, err := awswire.NewSealer(key)
	return tokens{sealer}, err
}

// iterator is the content of a shard iterator.
type iterator struct {
	made    awswire.Moment
	account string
	region  string
	stream  string
	ofID    uint64 // streamState.idHash
	shard   uint32
	from    shardlog.Position
}

const (
	tokenIterator = 'i'
	tokenPage     = 'p'
	// iteratorLeast is the size of the content of those of short stream names;
	// they are then as long as those of AWS.
	iteratorLeast = 116
)

// sealIterator returns an iterator. Times in positions keep their nanoseconds: to
// round them would repeat or skip records.
func (t tokens) sealIterator(it *iterator) string {
	b := make([]byte, 0, 256)
	b = append(b, tokenIterator, byte(it.from.Kind()))
	b = awswire.AppendMoment(b, it.made)
	b = awswire.AppendText(b, it.account)
	b = awswire.AppendText(b, it.region)
	b = awswire.AppendText(b, it.stream)
	b = binary.BigEndian.AppendUint64(b, it.ofID)
	b = binary.AppendUvarint(b, uint64(it.shard))
	switch it.from.Kind() {
	case shardlog.KindAtTime:
		b = binary.AppendVarint(b, it.from.Time().Unix())
		b = binary.AppendUvarint(b, uint64(it.from.Time().Nanosecond()))
	case shardlog.KindAt, shardlog.KindAfter:
		seq := it.from.Sequence()
		shard, _ := seq.Shard()
		b = binary.AppendVarint(b, createdOf(seq))
		b = binary.AppendUvarint(b, uint64(shard))
		b = binary.AppendUvarint(b, counterOf(seq))
		b = binary.AppendVarint(b, arrivalOf(seq))
	}
	return t.Seal(b, iteratorLeast)
}

// openIterator is the inverse of sealIterator; ok is false for any other text.
func (t tokens) openIterator(token string) (it iterator, ok bool) {
	r := t.OpenPayload(token)
	if r.Byte() != tokenIterator || !r.OK() {
		return it, false
	}
	kind := shardlog.PositionKind(r.Byte())
	it.made = r.Moment()
	it.account, it.region, it.stream = r.Text(), r.Text(), r.Text()
	it.ofID, it.shard = r.Uint64(), uint32(r.Uvarint())
	switch kind {
	case shardlog.KindAtTime:
		it.from = shardlog.AtTime(time.Unix(r.Varint(), int64(r.Uvarint())))
	case shardlog.KindAt, shardlog.KindAfter:
		created, index, counter := r.Varint(), uint32(r.Uvarint()), r.Uvarint()
		seq := shardlog.NewSequenceNumber(created, index, counter, r.Varint())
		if it.from = shardlog.At(seq); kind == shardlog.KindAfter {
			it.from = shardlog.After(seq)
		}
	}
	return it, r.OK()
}

// The lists that have pages. A token of one is not valid for another.
const (
	pageStreams   = "streams"
	pageShards    = "shards"
	pageConsumers = "consumers"
)

// pageToken is where a list continues.
type pageToken struct {
	kind    string
	account string
	region  string
	stream  string
	ofID    uint64 // streamState.idHash; 0 without a stream
	after   string
	filter  string // from shardFilter.String
	made    awswire.Moment
}

// pageLife is how long a page token is valid (API reference, ListShards).
const pageLife = 300 * time.Second

// sealPage returns a page token.
func (t tokens) sealPage(p pageToken) string {
	b := awswire.AppendMoment([]byte{tokenPage}, p.made)
	b = binary.BigEndian.AppendUint64(b, p.ofID)
	for _, s := range []string{p.kind, p.account, p.region, p.stream, p.after, p.filter} {
		b = awswire.AppendText(b, s)
	}
	return t.Seal(b, 0)
}

// openPage opens a page token of a list.
func (t tokens) openPage(token, kind string, clock *awswire.Clock) (p pageToken, err error) {
	r := t.OpenPayload(strings.TrimSpace(token))
	isPage := r.Byte() == tokenPage
	p.made, p.ofID = r.Moment(), r.Uint64()
	p.kind, p.account, p.region, p.stream, p.after, p.filter = r.Text(), r.Text(), r.Text(), r.Text(), r.Text(), r.Text()
	if !isPage || !r.OK() || p.kind != kind {
		return pageToken{}, invalid("NextToken is invalid.")
	}
	if clock.Since(p.made) > pageLife {
		return pageToken{}, awswire.Errorf("ExpiredNextTokenException", "NextToken has expired.")
	}
	return p, nil
}
