package kinesisapi

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// cborSource reads CBOR (RFC 8949).
type cborSource struct {
	data []byte
	pos  int
	// left counts for each list or map that is open the members to come,
	// keys and values apart; indefinite until a break.
	left []uint64
}

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
func (c *cborSource) head() (major, info byte, arg uint64, err error) {
	if c.pos >= len(c.data) {
		return 0, 0, 0, errSyntax
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
			return 0, 0, 0, errSyntax
		}
		for _, b := range c.data[c.pos : c.pos+n] {
			arg = arg<<8 | uint64(b)
		}
		c.pos += n
		return major, info, arg, nil
	case info == 31 && major >= cborBytes && major <= cborMapType:
		return major, info, indefinite, nil
	}
	return 0, 0, 0, errSyntax
}

// took notes that a member of the innermost list or map begins.
func (c *cborSource) took() {
	if n := len(c.left); n > 0 && c.left[n-1] != indefinite {
		c.left[n-1]--
	}
}

func (c *cborSource) value() (token, error) {
	c.took()
	return c.tagged(0)
}

// tagged reads a value, with its tags.
func (c *cborSource) tagged(depth int) (token, error) {
	major, info, arg, err := c.head()
	if err != nil {
		return token{}, err
	}
	switch major {
	case cborUint:
		return token{kind: tokenNumber, num: float64(arg)}, nil
	case cborNegative:
		return token{kind: tokenNumber, num: -1 - float64(arg)}, nil
	case cborBytes, cborText:
		kind := tokenString
		if major == cborBytes {
			kind = tokenBytes
		}
		s, err := c.str(major, info, arg)
		return token{kind: kind, text: s}, err
	case cborArray:
		return token{kind: tokenList}, c.open(arg, 1)
	case cborMapType:
		return token{kind: tokenMap}, c.open(arg, 2)
	case cborTag:
		if depth >= 4 {
			return token{}, errSyntax
		}
		t, err := c.tagged(depth + 1)
		if err == nil && arg == 1 && t.kind == tokenNumber {
			t.kind = tokenTime
		}
		return t, err
	}
	return c.simple(info, arg)
}

func (c *cborSource) simple(info byte, arg uint64) (token, error) {
	switch info {
	case 20, 21:
		return token{kind: tokenBool, bool: info == 21}, nil
	case 22, 23: // null, undefined
		return token{}, nil
	case 25:
		return token{kind: tokenNumber, num: half(uint16(arg))}, nil
	case 26:
		return token{kind: tokenNumber, num: float64(math.Float32frombits(uint32(arg)))}, nil
	case 27:
		return token{kind: tokenNumber, num: math.Float64frombits(arg)}, nil
	}
	return token{}, errSyntax
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

func (c *cborSource) open(n, each uint64) error {
	if n != indefinite {
		hi, total := bits.Mul64(n, each)
		// Each member takes a byte at least.
		if hi != 0 || total > uint64(len(c.data)-c.pos) {
			return errSyntax
		}
		n = total
	}
	if len(c.left) > maxDepth {
		return errSyntax
	}
	c.left = append(c.left, n)
	return nil
}

// str reads a string in one piece, which is a part of the body, or in chunks.
func (c *cborSource) str(major, info byte, n uint64) ([]byte, error) {
	if info != 31 {
		if n > uint64(len(c.data)-c.pos) {
			return nil, errSyntax
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
			return nil, errSyntax
		}
		s = append(s, c.data[c.pos:c.pos+int(n)]...)
		c.pos += int(n)
	}
}

func (c *cborSource) more() (bool, error) {
	top := len(c.left) - 1
	switch {
	case c.left[top] == 0:
	case c.left[top] != indefinite:
		return true, nil
	case c.pos >= len(c.data):
		return false, errSyntax
	case c.data[c.pos] != cborBreak:
		return true, nil
	default:
		c.pos++
	}
	c.left = c.left[:top]
	return false, nil
}

func (c *cborSource) key() ([]byte, error) {
	c.took()
	major, info, n, err := c.head()
	if err != nil || major != cborText {
		return nil, errSyntax
	}
	return c.str(major, info, n)
}

func (c *cborSource) end() error {
	if c.pos < len(c.data) {
		return errSyntax
	}
	return nil
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
