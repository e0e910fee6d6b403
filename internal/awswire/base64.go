package awswire

import "encoding/binary"

// base64Bits are the bits of a character of base64 that is the k-th of four, where
// the three bytes have them as the lower 24 bits of a number, the first one
// lowest; base64Bad for other characters.
var base64Bits = func() (t [4][256]uint32) {
	for k := range t {
		for c := range t[k] {
			t[k][c] = base64Bad
		}
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		v := uint32(i)
		t[0][c] = v << 2
		t[1][c] = v>>4 | v&15<<12
		t[2][c] = v>>2<<8 | v&3<<22
		t[3][c] = v << 16
	}
	return t
}()

const base64Bad = 1 << 31

// base64Quad returns the three bytes of four characters, the lower half of w.
func base64Quad(w uint64) uint32 {
	t := &base64Bits
	return t[0][uint8(w)] | t[1][uint8(w>>8)] | t[2][uint8(w>>16)] | t[3][uint8(w>>24)]
}

const (
	base64Most = 32                 // characters that decodeMost decodes
	base64Room = base64Most/4*3 + 2 // bytes that it writes, of which the last two mean nothing
)

// decodeMost decodes characters and reports whether all of them are of base64.
// Looking at them together is what it is for.
func decodeMost(to *[base64Room]byte, from *[base64Most]byte) bool {
	t, all := &base64Bits, uint32(0)
	for i := 0; i < base64Most; i += 8 {
		f := (*[8]byte)(from[i:])
		low := t[0][f[0]] | t[1][f[1]] | t[2][f[2]] | t[3][f[3]]
		high := t[0][f[4]] | t[1][f[5]] | t[2][f[6]] | t[3][f[7]]
		all |= low | high
		// The last byte keeps the compiler from making four stores of one, since it
		// knows that there is nothing.
		binary.LittleEndian.PutUint64(to[i/4*3:], uint64(low)|uint64(high)<<24|uint64(all)<<56)
	}
	return all&base64Bad == 0
}

// DecodeBase64 decodes base64 that ends with a quote, such as one of JSON, into
// dst: n bytes, of which it has read so many, with the quote. Not ok is what
// base64.StdEncoding.Strict refuses, what has line breaks, and more than dst has
// room for. What dst has behind the n bytes may be overwritten. It is twice as fast
// as package base64, because the end need not be looked for, and what is of no use
// to anybody is not supported.
func DecodeBase64(dst, src []byte) (n, read int, ok bool) {
	to, from := dst, src
	for len(from) >= base64Most && len(to) >= base64Room {
		if !decodeMost((*[base64Room]byte)(to), (*[base64Most]byte)(from)) {
			break
		}
		from, to = from[base64Most:], to[base64Most/4*3:]
	}
	for len(from) >= 8 && len(to) >= 8 {
		w := binary.LittleEndian.Uint64(from)
		low, high := base64Quad(w), base64Quad(w>>32)
		if (low|high)&base64Bad != 0 {
			break
		}
		binary.LittleEndian.PutUint64(to, uint64(low)|uint64(high)<<24)
		from, to = from[8:], to[6:]
	}
	for len(from) >= 4 && len(to) >= 3 {
		v := base64Quad(uint64(binary.LittleEndian.Uint32(from)))
		if v&base64Bad != 0 {
			break
		}
		to[0], to[1], to[2] = byte(v), byte(v>>8), byte(v>>16)
		from, to = from[4:], to[3:]
	}
	n, read = len(dst)-len(to), len(src)-len(from)
	if len(from) > 0 && from[0] == '"' {
		return n, read + 1, true
	}
	if len(from) < 5 || from[3] != '=' || from[4] != '"' {
		return 0, 0, false
	}
	// The last one or two bytes. The bits that are too many have to be zero.
	v, more := base64Bits[0][from[0]]|base64Bits[1][from[1]], 1
	if from[2] != '=' {
		v, more = v|base64Bits[2][from[2]], 2
	}
	if v&base64Bad != 0 || v>>(8*more) != 0 || len(to) < more {
		return 0, 0, false
	}
	for i := range more {
		to[i] = byte(v >> (8 * i))
	}
	return n + more, read + 5, true
}
