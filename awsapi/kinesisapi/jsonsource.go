package kinesisapi

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonSource reads JSON.
type jsonSource struct {
	data  []byte
	pos   int
	first bool   // a list or map has just begun
	open  []byte // what ends those that are open
}

func (j *jsonSource) space() {
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
func (j *jsonSource) peek() byte {
	j.space()
	if j.pos == len(j.data) {
		return 0
	}
	return j.data[j.pos]
}

func (j *jsonSource) value() (token, error) {
	c := j.peek()
	switch c {
	case '{', '[':
		j.pos++
		j.first = true
		j.open = append(j.open, c+2) // the closing ones come two after
		if c == '{' {
			return token{kind: tokenMap}, nil
		}
		return token{kind: tokenList}, nil
	}
	j.first = false
	switch c {
	case '"':
		s, err := j.str()
		return token{kind: tokenString, text: s}, err
	case 't':
		return token{kind: tokenBool, bool: true}, j.word("true")
	case 'f':
		return token{kind: tokenBool}, j.word("false")
	case 'n':
		return token{}, j.word("null")
	}
	return j.number()
}

func (j *jsonSource) word(w string) error {
	if !bytes.HasPrefix(j.data[j.pos:], []byte(w)) {
		return errSyntax
	}
	j.pos += len(w)
	return nil
}

func (j *jsonSource) more() (bool, error) {
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
		return false, errSyntax
	}
	j.pos++
	return j.peek() != j.open[top], errIf(j.peek() == j.open[top])
}

func errIf(bad bool) error {
	if bad {
		return errSyntax
	}
	return nil
}

func (j *jsonSource) key() ([]byte, error) {
	if j.peek() != '"' {
		return nil, errSyntax
	}
	k, err := j.str()
	if err == nil && j.peek() != ':' {
		err = errSyntax
	}
	j.pos++
	return k, err
}

func (j *jsonSource) end() error {
	if j.space(); j.pos < len(j.data) {
		return errSyntax
	}
	return nil
}

func (j *jsonSource) digits() bool {
	from := j.pos
	for j.pos < len(j.data) && j.data[j.pos]-'0' <= 9 {
		j.pos++
	}
	return j.pos > from
}

func (j *jsonSource) at(set string) bool {
	if j.pos < len(j.data) && bytes.IndexByte([]byte(set), j.data[j.pos]) >= 0 {
		j.pos++
		return true
	}
	return false
}

func (j *jsonSource) number() (token, error) {
	from := j.pos
	j.at("-")
	if !j.at("0") && !j.digits() {
		return token{}, errSyntax
	}
	if j.at(".") && !j.digits() {
		return token{}, errSyntax
	}
	if j.at("eE") {
		j.at("+-")
		if !j.digits() {
			return token{}, errSyntax
		}
	}
	// A number too large for a float64 becomes infinite, which every bound
	// refuses.
	f, _ := strconv.ParseFloat(string(j.data[from:j.pos]), 64)
	return token{kind: tokenNumber, num: f}, nil
}

// str reads a string; without escapes it is a part of the body.
func (j *jsonSource) str() ([]byte, error) {
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
			return nil, errSyntax
		}
		j.pos++
	}
	return nil, errSyntax
}

// escaped reads the rest of a string that began at from.
func (j *jsonSource) escaped(from int) ([]byte, error) {
	s := append(make([]byte, 0, 2*(j.pos-from)+16), j.data[from:j.pos]...)
	for j.pos < len(j.data) {
		c := j.data[j.pos]
		j.pos++
		switch {
		case c == '"':
			return s, nil
		case c < ' ':
			return nil, errSyntax
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
				return nil, errSyntax
			}
			if utf16.IsSurrogate(r) {
				r = j.pair(r)
			}
			s = utf8.AppendRune(s, r)
		default:
			return nil, errSyntax
		}
	}
	return nil, errSyntax
}

// hex reads four hexadecimal digits.
func (j *jsonSource) hex() (rune, bool) {
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

// pair joins the first half of a surrogate pair with the second; a half that
// is alone becomes the replacement character.
func (j *jsonSource) pair(r rune) rune {
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
