package awswire

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonReader reads JSON (RFC 8259).
type jsonReader struct {
	data  []byte
	pos   int
	first bool   // a list or map has just begun, so that no comma is due
	open  []byte // the closing bytes of the lists and maps that are open
}

func (j *jsonReader) space() {
	for j.pos < len(j.data) {
		switch j.data[j.pos] {
		case ' ', '\n', '\r', '\t':
			j.pos++
		default:
			return
		}
	}
}

// peek skips white space and returns the next byte, 0 at the end.
func (j *jsonReader) peek() byte {
	j.space()
	if j.pos == len(j.data) {
		return 0
	}
	return j.data[j.pos]
}

// Value implements Reader.
func (j *jsonReader) Value() (Token, error) {
	c := j.peek()
	switch c {
	case '{', '[':
		j.pos++
		j.first = true
		j.open = append(j.open, c+2) // in ASCII the closing one comes two after
		if c == '{' {
			return Token{Kind: TokenMap}, nil
		}
		return Token{Kind: TokenList}, nil
	}
	j.first = false
	switch c {
	case '"':
		s, err := j.str()
		return Token{Kind: TokenString, Text: s}, err
	case 't':
		return Token{Kind: TokenBool, Bool: true}, j.word("true")
	case 'f':
		return Token{Kind: TokenBool}, j.word("false")
	case 'n':
		return Token{}, j.word("null")
	}
	return j.number()
}

func (j *jsonReader) word(w string) error {
	if !bytes.HasPrefix(j.data[j.pos:], []byte(w)) {
		return ErrSyntax
	}
	j.pos += len(w)
	return nil
}

// More implements Reader.
func (j *jsonReader) More() (bool, error) {
	c, top := j.peek(), len(j.open)-1
	if c == j.open[top] {
		j.pos++
		j.first = false
		j.open = j.open[:top]
		return false, nil
	}
	if j.first {
		j.first = false
		return true, nil
	}
	if c != ',' {
		return false, ErrSyntax
	}
	j.pos++
	return j.peek() != j.open[top], errIf(j.peek() == j.open[top])
}

func errIf(bad bool) error {
	if bad {
		return ErrSyntax
	}
	return nil
}

// Key implements Reader.
func (j *jsonReader) Key() ([]byte, error) {
	if j.peek() != '"' {
		return nil, ErrSyntax
	}
	k, err := j.str()
	if err == nil && j.peek() != ':' {
		err = ErrSyntax
	}
	j.pos++
	return k, err
}

// End implements Reader.
func (j *jsonReader) End() error {
	if j.space(); j.pos < len(j.data) {
		return ErrSyntax
	}
	return nil
}

func (j *jsonReader) digits() bool {
	from := j.pos
	for j.pos < len(j.data) && j.data[j.pos]-'0' <= 9 {
		j.pos++
	}
	return j.pos > from
}

func (j *jsonReader) at(set string) bool {
	if j.pos < len(j.data) && bytes.IndexByte([]byte(set), j.data[j.pos]) >= 0 {
		j.pos++
		return true
	}
	return false
}

func (j *jsonReader) number() (Token, error) {
	from := j.pos
	j.at("-")
	if !j.at("0") && !j.digits() {
		return Token{}, ErrSyntax
	}
	if j.at(".") && !j.digits() {
		return Token{}, ErrSyntax
	}
	if j.at("eE") {
		j.at("+-")
		if !j.digits() {
			return Token{}, ErrSyntax
		}
	}
	// A number too large for a float64 becomes infinite: its error can be
	// ignored, because every bound refuses it.
	f, _ := strconv.ParseFloat(string(j.data[from:j.pos]), 64)
	return Token{Kind: TokenNumber, Num: f}, nil
}

// str reads a string. One without escapes, which is nearly every one, is a part
// of the body and is not copied.
func (j *jsonReader) str() ([]byte, error) {
	j.pos++
	from := j.pos
	for j.pos < len(j.data) {
		switch c := j.data[j.pos]; {
		case c == '"':
			s := j.data[from:j.pos]
			j.pos++
			return s, nil
		case c == '\\':
			return j.escaped(from)
		case c < ' ':
			return nil, ErrSyntax
		}
		j.pos++
	}
	return nil, ErrSyntax
}

// escaped reads the rest of a string that began at from.
func (j *jsonReader) escaped(from int) ([]byte, error) {
	s := append(make([]byte, 0, 2*(j.pos-from)+16), j.data[from:j.pos]...)
	for j.pos < len(j.data) {
		c := j.data[j.pos]
		j.pos++
		switch {
		case c == '"':
			return s, nil
		case c < ' ':
			return nil, ErrSyntax
		case c != '\\':
			s = append(s, c)
			continue
		}
		if j.pos == len(j.data) {
			break
		}
		c = j.data[j.pos]
		j.pos++
		switch c {
		case '"', '\\', '/':
			s = append(s, c)
		case 'b':
			s = append(s, '\b')
		case 'f':
			s = append(s, '\f')
		case 'n':
			s = append(s, '\n')
		case 'r':
			s = append(s, '\r')
		case 't':
			s = append(s, '\t')
		case 'u':
			r, ok := j.hex()
			if !ok {
				return nil, ErrSyntax
			}
			if utf16.IsSurrogate(r) {
				r = j.joinSurrogates(r)
			}
			s = utf8.AppendRune(s, r)
		default:
			return nil, ErrSyntax
		}
	}
	return nil, ErrSyntax
}

// hex reads four hexadecimal digits.
func (j *jsonReader) hex() (rune, bool) {
	if len(j.data)-j.pos < 4 {
		return 0, false
	}
	var r rune
	for _, c := range j.data[j.pos : j.pos+4] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case (c|0x20)-'a' < 6:
			c = (c | 0x20) - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	j.pos += 4
	return r, true
}

// joinSurrogates joins the first half of a surrogate pair with the second; a half that
// is alone becomes the replacement character.
func (j *jsonReader) joinSurrogates(r rune) rune {
	if !bytes.HasPrefix(j.data[j.pos:], []byte(`\u`)) {
		return utf8.RuneError
	}
	back := j.pos
	j.pos += 2
	low, ok := j.hex()
	if joined := utf16.DecodeRune(r, low); ok && joined != utf8.RuneError {
		return joined
	}
	j.pos = back
	return utf8.RuneError
}
