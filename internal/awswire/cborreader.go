package awswire

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// CBORReader reads CBOR (RFC 8949). It is a Reader that can be a part of another
// value, so that a service's own decoder needs no allocation for it. Use
// NewCBORReader.
type CBORReader struct {
	data []byte
	pos  int
	// left has the number of members to come of each list or map that is open.
	// In a map keys and values count separately. It is indefinite where a break
	// ends them.
	left []uint64
}

// NewCBORReader returns a reader of a body, which the tokens refer to.
func NewCBORReader(body []byte) CBORReader { return CBORReader{data: body} }

const (
	indefinite = math.MaxUint64
	cborBreak  = 0xff
)

// The major types.
const (
	cborUint = iota
	cborNegative
	cborBytes
	cborText
	cborArray
	cborMapType
	cborTag
	cborSimple
)

// head reads a major type and its argument; info 31 has none.
func (c *CBORReader) head() (major, info byte, arg uint64, err error) {
	if c.pos >= len(c.data) {
		return 0, 0, 0, ErrSyntax
	}
	b := c.data[c.pos]
	c.pos++
	major, info = b>>5, b&31
	switch {
	case info < 24:
		return major, info, uint64(info), nil
	case info < 28:
		n := 1 << (info - 24)
		if len(c.data)-c.pos < n {
			return 0, 0, 0, ErrSyntax
		}
		for _, b := range c.data[c.pos : c.pos+n] {
			arg = arg<<8 | uint64(b)
		}
		c.pos += n
		return major, info, arg, nil
	case info == 31 && major >= cborBytes && major <= cborMapType:
		return major, info, indefinite, nil
	}
	return 0, 0, 0, ErrSyntax
}

// beginMember counts a member of the innermost list or map.
func (c *CBORReader) beginMember() {
	if n := len(c.left); n > 0 && c.left[n-1] != indefinite {
		c.left[n-1]--
	}
}

// Value implements Reader.
func (c *CBORReader) Value() (Token, error) {
	c.beginMember()
	return c.tagged(0)
}

// tagged reads a value with its tags. Of these only that of a time matters; no
// more than four may nest.
func (c *CBORReader) tagged(depth int) (Token, error) {
	major, info, arg, err := c.head()
	if err != nil {
		return Token{}, err
	}
	switch major {
	case cborUint:
		return Token{Kind: TokenNumber, Num: float64(arg)}, nil
	case cborNegative:
		return Token{Kind: TokenNumber, Num: -1 - float64(arg)}, nil
	case cborBytes, cborText:
		kind := TokenString
		if major == cborBytes {
			kind = TokenBytes
		}
		s, err := c.str(major, info, arg)
		return Token{Kind: kind, Text: s}, err
	case cborArray:
		return Token{Kind: TokenList}, c.open(arg, 1)
	case cborMapType:
		return Token{Kind: TokenMap}, c.open(arg, 2)
	case cborTag:
		if depth >= 4 {
			return Token{}, ErrSyntax
		}
		t, err := c.tagged(depth + 1)
		if err == nil && arg == 1 && t.Kind == TokenNumber {
			t.Kind = TokenTime
		}
		return t, err
	}
	return c.simple(info, arg)
}

func (c *CBORReader) simple(info byte, arg uint64) (Token, error) {
	switch info {
	case 20, 21:
		return Token{Kind: TokenBool, Bool: info == 21}, nil
	case 22, 23: // null, undefined
		return Token{}, nil
	case 25:
		return Token{Kind: TokenNumber, Num: half(uint16(arg))}, nil
	case 26:
		return Token{Kind: TokenNumber, Num: float64(math.Float32frombits(uint32(arg)))}, nil
	case 27:
		return Token{Kind: TokenNumber, Num: math.Float64frombits(arg)}, nil
	}
	return Token{}, ErrSyntax
}

// half decodes a floating point number of 16 bits.
func half(v uint16) float64 {
	exp, frac := int(v>>10&31), float64(v&1023)
	var f float64
	switch exp {
	case 0:
		f = math.Ldexp(frac, -24)
	case 31:
		if f = math.Inf(1); frac != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(frac+1024, exp-25)
	}
	if v>>15 != 0 {
		f = -f
	}
	return f
}

func (c *CBORReader) open(n, each uint64) error {
	if n != indefinite {
		hi, total := bits.Mul64(n, each)
		// Each member takes at least a byte, so a larger number is a lie, which
		// must not reach anybody who allocates by it.
		if hi != 0 || total > uint64(len(c.data)-c.pos) {
			return ErrSyntax
		}
		n = total
	}
	if len(c.left) > MaxDepth {
		return ErrSyntax
	}
	c.left = append(c.left, n)
	return nil
}

// str reads a string in one piece, which is a part of the body, or in chunks.
func (c *CBORReader) str(major, info byte, n uint64) ([]byte, error) {
	if info != 31 {
		if n > uint64(len(c.data)-c.pos) {
			return nil, ErrSyntax
		}
		c.pos += int(n)
		return c.data[c.pos-int(n) : c.pos], nil
	}
	s := []byte{}
	for {
		if c.pos < len(c.data) && c.data[c.pos] == cborBreak {
			c.pos++
			return s, nil
		}
		m, i, n, err := c.head()
		if err != nil || m != major || i == 31 || n > uint64(len(c.data)-c.pos) {
			return nil, ErrSyntax
		}
		s = append(s, c.data[c.pos:c.pos+int(n)]...)
		c.pos += int(n)
	}
}

// More implements Reader.
func (c *CBORReader) More() (bool, error) {
	top := len(c.left) - 1
	switch {
	case c.left[top] == 0:
	case c.left[top] != indefinite:
		return true, nil
	case c.pos >= len(c.data):
		return false, ErrSyntax
	case c.data[c.pos] != cborBreak:
		return true, nil
	default:
		c.pos++
	}
	c.left = c.left[:top]
	return false, nil
}

// Key implements Reader.
func (c *CBORReader) Key() ([]byte, error) {
	c.beginMember()
	major, info, n, err := c.head()
	if err != nil || major != cborText {
		return nil, ErrSyntax
	}
	return c.str(major, info, n)
}

// End implements Reader.
func (c *CBORReader) End() error {
	if c.pos < len(c.data) {
		return ErrSyntax
	}
	return nil
}

// Rest returns what was not read yet. It is for callers that look for values of
// which they know how they are usually written.
func (c *CBORReader) Rest() []byte { return c.data[c.pos:] }

// Skip counts a value of so many bytes as read.
func (c *CBORReader) Skip(n int) {
	c.beginMember()
	c.pos += n
}

// CutCBORBytes returns the byte string in one piece that b begins with, and what
// follows it; nil if there is none. It is a part of b.
func CutCBORBytes(b []byte) (s, rest []byte) { return cutCBOR(b, cborBytes) }

// CutCBORText is CutCBORBytes for text, which may not be valid.
func CutCBORText(b []byte) (s, rest []byte) { return cutCBOR(b, cborText) }

func cutCBOR(b []byte, major byte) (s, rest []byte) {
	if len(b) == 0 || b[0]>>5 != major {
		return nil, b
	}
	n, from := uint32(b[0]&31), 1
	switch {
	case n < 24:
	case n == 24 && len(b) >= 2:
		n, from = uint32(b[1]), 2
	case n == 25 && len(b) >= 3:
		n, from = uint32(binary.BigEndian.Uint16(b[1:])), 3
	case n == 26 && len(b) >= 5:
		n, from = binary.BigEndian.Uint32(b[1:]), 5
	default:
		return nil, b
	}
	if uint64(n) > uint64(len(b)-from) {
		return nil, b
	}
	end := from + int(n)
	return b[from:end:end], b[end:]
}

// appendCBORHead writes a major type with its argument.
func appendCBORHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}
