package iam

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep a document may nest. The deepest that the grammar has is
// five: document, statements, statement, condition, operator, values.
const maxDepth = 8

// kind is the type of a value of JSON.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindText
	kindList
	kindObject
)

// String returns what an error calls the kind.
func (k kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "a list", "an object"}[k]
}

// value is a value of a document.
type value struct {
	kind    kind
	text    string // of a string, decoded; of a number or a boolean, as written
	list    []value
	members []member // in the order of the document
}

type member struct {
	name  string
	value value
}

// reader reads JSON (RFC 8259). Two members of one object with one name are an
// error, and so are bytes that are not UTF-8 and halves of surrogate pairs.
type reader struct {
	text string
	pos  int
}

// readJSON reads a whole document.
func readJSON(text string) (value, error) {
	r := &reader{text: text}
	v, err := r.value(1)
	if err == nil && r.peek() != 0 || err == nil && r.pos < len(text) {
		err = errors.New("something follows the document")
	}
	if err != nil {
		return value{}, fmt.Errorf("at byte %d: %w", r.pos, err)
	}
	return v, nil
}

// compacted goes through the bytes of a document without the white space between
// its values, which AWS does not count.
func compacted(text string) iter.Seq[byte] {
	return func(yield func(byte) bool) {
		inText, escaped := false, false
		for i := range len(text) {
			c := text[i]
			switch {
			case escaped:
				escaped = false
			case inText && c == '\\':
				escaped = true
			case c == '"':
				inText = !inText
			case !inText && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
				continue
			}
			if !yield(c) {
				return
			}
		}
	}
}

// larger reports whether a document has more than most bytes, without the white
// space between its values.
func larger(text string, most int) bool {
	n := 0
	for range compacted(text) {
		if n++; n > most {
			return true
		}
	}
	return false
}

// Compact returns a document without the white space between its values.
func Compact(document string) string {
	b := make([]byte, 0, len(document))
	for c := range compacted(document) {
		b = append(b, c)
	}
	return string(b)
}

// peek skips white space and returns the next byte, 0 at the end.
func (r *reader) peek() byte {
	for r.pos < len(r.text) {
		switch c := r.text[r.pos]; c {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

var errSyntax = errors.New("not valid JSON")

func (r *reader) value(depth int) (v value, err error) {
	if depth > maxDepth {
		return v, fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	switch c := r.peek(); {
	case c == '{':
		return r.object(depth)
	case c == '[':
		return r.array(depth)
	case c == '"':
		v.kind = kindText
		v.text, err = r.str()
		return v, err
	case c == '-' || c-'0' <= 9:
		return r.number()
	}
	for word, k := range map[string]kind{"true": kindBool, "false": kindBool, "null": kindNull} {
		if strings.HasPrefix(r.text[r.pos:], word) {
			r.pos += len(word)
			return value{kind: k, text: word}, nil
		}
	}
	return v, errSyntax
}

// next reports whether another element follows, up to the byte that ends them.
func (r *reader) next(first bool, end byte) (bool, error) {
	c := r.peek()
	switch {
	case c == end && first:
		r.pos++
		return false, nil
	case first:
		return true, nil
	case c == end:
		r.pos++
		return false, nil
	case c == ',':
		r.pos++
		return true, nil
	}
	return false, errSyntax
}

func (r *reader) array(depth int) (value, error) {
	v := value{kind: kindList}
	r.pos++
	for {
		more, err := r.next(len(v.list) == 0, ']')
		if err != nil || !more {
			return v, err
		}
		e, err := r.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.list = append(v.list, e)
	}
}

func (r *reader) object(depth int) (value, error) {
	v := value{kind: kindObject}
	seen := map[string]bool{}
	r.pos++
	for {
		more, err := r.next(len(v.members) == 0, '}')
		if err != nil || !more {
			return v, err
		}
		if r.peek() != '"' {
			return v, errSyntax
		}
		name, err := r.str()
		if err != nil {
			return v, err
		}
		if seen[name] {
			return v, fmt.Errorf("%q is there twice", shorten(name))
		}
		seen[name] = true
		if r.peek() != ':' {
			return v, errSyntax
		}
		r.pos++
		e, err := r.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.members = append(v.members, member{name, e})
	}
}

// digits skips digits and reports whether there were any.
func (r *reader) digits() bool {
	from := r.pos
	for r.pos < len(r.text) && r.text[r.pos]-'0' <= 9 {
		r.pos++
	}
	return r.pos > from
}

// skip skips one byte if it is in set.
func (r *reader) skip(set string) bool {
	if r.pos < len(r.text) && strings.IndexByte(set, r.text[r.pos]) >= 0 {
		r.pos++
		return true
	}
	return false
}

func (r *reader) number() (value, error) {
	from := r.pos
	r.skip("-")
	ok := r.skip("0") || r.digits()
	if ok && r.skip(".") {
		ok = r.digits()
	}
	if ok && r.skip("eE") {
		r.skip("+-")
		ok = r.digits()
	}
	if !ok {
		return value{}, errSyntax
	}
	return value{kind: kindNumber, text: r.text[from:r.pos]}, nil
}

var errText = errors.New("a string is not valid UTF-8")

func (r *reader) str() (string, error) {
	r.pos++
	var b strings.Builder
	for r.pos < len(r.text) {
		c := r.text[r.pos]
		switch {
		case c == '"':
			r.pos++
			return b.String(), nil
		case c < ' ':
			return "", errSyntax
		case c == '\\':
			r.pos++
			if err := r.escape(&b); err != nil {
				return "", err
			}
		case c < utf8.RuneSelf:
			b.WriteByte(c)
			r.pos++
		default:
			u, n := utf8.DecodeRuneInString(r.text[r.pos:])
			if u == utf8.RuneError && n == 1 {
				return "", errText
			}
			b.WriteString(r.text[r.pos : r.pos+n])
			r.pos += n
		}
	}
	return "", errSyntax
}

// escapes are the bytes that follow a backslash, and what they stand for.
const (
	escapes = `"\/bfnrt`
	escaped = "\"\\/\b\f\n\r\t"
)

// escape reads what follows a backslash.
func (r *reader) escape(b *strings.Builder) error {
	if r.pos == len(r.text) {
		return errSyntax
	}
	c := r.text[r.pos]
	r.pos++
	if i := strings.IndexByte(escapes, c); i >= 0 {
		b.WriteByte(escaped[i])
		return nil
	}
	if c != 'u' {
		return errSyntax
	}
	u, ok := r.hex()
	if ok && utf16.IsSurrogate(u) {
		if !strings.HasPrefix(r.text[r.pos:], `\u`) {
			return errText
		}
		r.pos += 2
		var low rune
		if low, ok = r.hex(); ok {
			if u = utf16.DecodeRune(u, low); u == utf8.RuneError {
				return errText
			}
		}
	}
	if !ok {
		return errSyntax
	}
	b.WriteRune(u)
	return nil
}

// hex reads four hexadecimal digits.
func (r *reader) hex() (u rune, ok bool) {
	if len(r.text)-r.pos < 4 {
		return 0, false
	}
	for _, c := range []byte(r.text[r.pos : r.pos+4]) {
		i := strings.IndexByte("0123456789abcdef", c|0x20)
		if c-'0' <= 9 {
			i = int(c - '0')
		}
		if i < 0 || i < 10 && c-'0' > 9 {
			return 0, false
		}
		u = u<<4 | rune(i)
	}
	r.pos += 4
	return u, true
}

// shorten cuts what an error repeats of a document.
func shorten(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
