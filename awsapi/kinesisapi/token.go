package kinesisapi

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Iterators and page tokens are sealed, so that nobody makes up one, with a
// key that is kept in the database: they stay valid when it is opened again.

const attrKey = "kinesis.key"

// keyCreation is held while a key is looked for and created, so that handlers
// that are opened at the same time on a new database agree on one. One process
// at a time has a database open, so a lock of the process is enough.
var keyCreation sync.Mutex

// sealer returns the cipher of a database, and creates its key the first time.
func sealer(ctx context.Context, db *stream.DB) (cipher.AEAD, error) {
	keyCreation.Lock()
	defer keyCreation.Unlock()
	text, err := db.Attribute(ctx, attrKey)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != 16 {
		key = make([]byte, 16)
		_, _ = rand.Read(key) // never fails
		if err := db.SetAttribute(ctx, attrKey, hex.EncodeToString(key)); err != nil {
			return nil, err
		}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// tokenHeader begins iterators, as those of AWS do.
var tokenHeader = []byte{0, 0, 0, 0, 0, 0, 0, 1}

const nonceSize = 12

// seal returns base64 of the header and of a sealed payload that is padded so
// that its length tells little and is a multiple of 16.
func (h *Handler) seal(payload []byte, least int) string {
	n := max(least, len(payload)+1)
	for (nonceSize+n+h.tokens.Overhead())%16 != 0 {
		n++
	}
	plain := make([]byte, n)
	copy(plain, payload)
	plain[len(payload)] = 0x80 // where the padding begins
	b := make([]byte, len(tokenHeader)+nonceSize, len(tokenHeader)+nonceSize+n+h.tokens.Overhead())
	copy(b, tokenHeader)
	nonce := b[len(tokenHeader):]
	_, _ = rand.Read(nonce) // never fails
	return base64.StdEncoding.EncodeToString(h.tokens.Seal(b, nonce, plain, tokenHeader))
}

// unseal is the inverse of seal. AWS takes a token in double quotes as well.
func (h *Handler) unseal(token string) ([]byte, bool) {
	if len(token) > 2 && token[0] == '"' && token[len(token)-1] == '"' {
		token = token[1 : len(token)-1]
	}
	b, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil || strings.ContainsAny(token, "\r\n") || len(b) < len(tokenHeader)+nonceSize || string(b[:len(tokenHeader)]) != string(tokenHeader) {
		return nil, false
	}
	b = b[len(tokenHeader):]
	plain, err := h.tokens.Open(nil, b[:nonceSize], b[nonceSize:], tokenHeader)
	if err != nil {
		return nil, false
	}
	for len(plain) > 0 && plain[len(plain)-1] == 0 {
		plain = plain[:len(plain)-1]
	}
	if len(plain) == 0 || plain[len(plain)-1] != 0x80 {
		return nil, false
	}
	return plain[:len(plain)-1], true
}

// iterator is what a shard iterator says.
type iterator struct {
	made    time.Time // in milliseconds
	account string
	region  string
	stream  string
	created int64 // when the stream was, Unix milliseconds
	shard   uint32
	from    shardlog.Position
}

const (
	tokenIterator = 'i'
	tokenPage     = 'p'
	// iteratorLeast makes iterators of short stream names as long as AWS's.
	iteratorLeast = 116
)

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func (h *Handler) sealIterator(it *iterator) string {
	b := make([]byte, 0, 256)
	b = append(b, tokenIterator, byte(it.from.Kind()))
	b = binary.AppendVarint(b, it.made.UnixMilli())
	b = appendText(b, it.account)
	b = appendText(b, it.region)
	b = appendText(b, it.stream)
	b = binary.AppendVarint(b, it.created)
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
	return h.seal(b, iteratorLeast)
}

// reader takes a payload apart. What it reads is our own, so it only has to
// come to an end.
type reader struct {
	b  []byte
	ok bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.ok = false
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.ok = false
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.ok = false
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.ok = false
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (h *Handler) openIterator(token string) (it iterator, ok bool) {
	payload, ok := h.unseal(token)
	r := reader{payload, ok}
	if r.byte() != tokenIterator || !r.ok {
		return it, false
	}
	kind := shardlog.PositionKind(r.byte())
	it.made = time.UnixMilli(r.varint())
	it.account, it.region, it.stream = r.text(), r.text(), r.text()
	it.created, it.shard = r.varint(), uint32(r.uvarint())
	switch kind {
	case shardlog.KindAtTime:
		it.from = shardlog.AtTime(time.Unix(r.varint(), int64(r.uvarint())))
	case shardlog.KindAt, shardlog.KindAfter:
		created, index, counter := r.varint(), uint32(r.uvarint()), r.uvarint()
		seq := shardlog.NewSequenceNumber(created, index, counter, r.varint())
		if it.from = shardlog.At(seq); kind == shardlog.KindAfter {
			it.from = shardlog.After(seq)
		}
	}
	return it, r.ok
}

// The lists that have pages.
const (
	pageStreams   = "streams"
	pageShards    = "shards"
	pageConsumers = "consumers"
)

// page is where a list goes on.
type page struct {
	kind    string
	account string
	region  string
	stream  string
	after   string
	filter  string // as canonical text
	made    time.Time
}

// pageLife is how long a page token is valid (API reference, ListShards).
const pageLife = 300 * time.Second

func (h *Handler) sealPage(p page) string {
	b := binary.AppendVarint([]byte{tokenPage}, h.now().UnixMilli())
	for _, s := range []string{p.kind, p.account, p.region, p.stream, p.after, p.filter} {
		b = appendText(b, s)
	}
	return h.seal(b, 0)
}

func (h *Handler) openPage(token, kind string) (p page, err error) {
	payload, ok := h.unseal(strings.TrimSpace(token))
	r := reader{payload, ok}
	if r.byte() != tokenPage {
		r.ok = false
	}
	p.made = time.UnixMilli(r.varint())
	p.kind, p.account, p.region, p.stream, p.after, p.filter = r.text(), r.text(), r.text(), r.text(), r.text(), r.text()
	if !r.ok || p.kind != kind {
		return page{}, invalid("NextToken is invalid.")
	}
	if h.now().Sub(p.made) > pageLife {
		return page{}, fault("ExpiredNextTokenException", "NextToken has expired.")
	}
	return p, nil
}
