package awswire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// Sealer makes tokens that clients hand back, such as iterators and page
// tokens, so that nobody can make one up or read it. It is safe for concurrent
// use.
type Sealer struct{ aead cipher.AEAD }

// SealKeySize is the length of a key in bytes.
const SealKeySize = 16

// NewSealer returns a sealer with a key of SealKeySize bytes. Sealers with the
// same key open each other's tokens.
func NewSealer(key []byte) (*Sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Sealer{aead}, nil
}

// sealHeader begins tokens, as it does those of AWS.
var sealHeader = []byte{0, 0, 0, 0, 0, 0, 0, 1}

const nonceSize = 12

// Seal returns base64 of a header and of the sealed payload, which is padded to
// at least so many bytes: the length of a token says little about what is in
// it, and what follows the header is a multiple of 16, as on AWS.
func (s *Sealer) Seal(payload []byte, least int) string {
	n := max(least, len(payload)+1)
	for (nonceSize+n+s.aead.Overhead())%16 != 0 {
		n++
	}
	plain := make([]byte, n)
	copy(plain, payload)
	plain[len(payload)] = 0x80 // where the padding begins
	b := make([]byte, len(sealHeader)+nonceSize, len(sealHeader)+nonceSize+n+s.aead.Overhead())
	copy(b, sealHeader)
	nonce := b[len(sealHeader):]
	_, _ = rand.Read(nonce) // never fails
	return base64.StdEncoding.EncodeToString(s.aead.Seal(b, nonce, plain, sealHeader))
}

// Open is the inverse of Seal; ok is false for what Seal has not made. AWS
// takes a token in double quotes as well.
func (s *Sealer) Open(token string) (payload []byte, ok bool) {
	if len(token) > 2 && token[0] == '"' && token[len(token)-1] == '"' {
		token = token[1 : len(token)-1]
	}
	// The decoder skips line breaks, which would give a token many forms.
	b, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil || strings.ContainsAny(token, "\r\n") || len(b) < len(sealHeader)+nonceSize || string(b[:len(sealHeader)]) != string(sealHeader) {
		return nil, false
	}
	b = b[len(sealHeader):]
	plain, err := s.aead.Open(nil, b[:nonceSize], b[nonceSize:], sealHeader)
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

// AppendText appends a text with its length, for Payload.Text.
func AppendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// Payload reads what was appended to a payload. Its bytes are our own, but may
// be those of another version, so every read is checked: after one that failed
// OK is false, and the values are zero.
type Payload struct {
	b  []byte
	ok bool
}

// OpenPayload opens a token as a Payload, whose OK is false if it is not one.
func (s *Sealer) OpenPayload(token string) Payload {
	b, ok := s.Open(token)
	return Payload{b, ok}
}

// NewPayload returns a Payload of bytes that were kept and not sealed.
func NewPayload(b []byte) Payload { return Payload{b, true} }

// Left returns how many bytes have not been read.
func (p *Payload) Left() int { return len(p.b) }

// OK reports whether all reads so far have succeeded.
func (p *Payload) OK() bool { return p.ok }

// Byte reads a byte.
func (p *Payload) Byte() byte {
	if len(p.b) == 0 {
		p.ok = false
		return 0
	}
	v := p.b[0]
	p.b = p.b[1:]
	return v
}

// Uvarint reads what binary.AppendUvarint wrote.
func (p *Payload) Uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.ok = false
		return 0
	}
	p.b = p.b[n:]
	return v
}

// Varint reads what binary.AppendVarint wrote.
func (p *Payload) Varint() int64 {
	v, n := binary.Varint(p.b)
	if n <= 0 {
		p.ok = false
		return 0
	}
	p.b = p.b[n:]
	return v
}

// Text reads what AppendText wrote.
func (p *Payload) Text() string {
	n := p.Uvarint()
	if n > uint64(len(p.b)) {
		p.ok = false
		return ""
	}
	s := string(p.b[:n])
	p.b = p.b[n:]
	return s
}

// Uint64 reads what binary.BigEndian.AppendUint64 wrote.
func (p *Payload) Uint64() uint64 {
	if len(p.b) < 8 {
		p.ok, p.b = false, nil
		return 0
	}
	v := binary.BigEndian.Uint64(p.b)
	p.b = p.b[8:]
	return v
}
