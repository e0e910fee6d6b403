package awswire

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"
)

// xmlElement is an element that is open. A list is an element whose values are
// elements too, each called "member".
type xmlElement struct {
	name string
	list bool
}

// xmlWriter writes the walk over an answer as XML. Names are plain ASCII.
type xmlWriter struct {
	open []xmlElement
}

func (x *xmlWriter) key(b []byte, name string) []byte {
	x.open = append(x.open, xmlElement{name: name})
	return append(append(append(b, '<'), name...), '>')
}

// begin begins a value: an element, where it is one of a list.
func (x *xmlWriter) begin(b []byte) []byte {
	if n := len(x.open); n > 0 && x.open[n-1].list {
		return x.key(b, "member")
	}
	return b
}

// structure begins a structure. The first has no element of its own.
func (x *xmlWriter) structure(b []byte) []byte {
	if len(x.open) == 0 {
		x.open = append(x.open, xmlElement{})
		return b
	}
	return x.begin(b)
}

// list begins a list.
func (x *xmlWriter) list(b []byte) []byte {
	b = x.begin(b)
	if n := len(x.open); n > 0 {
		x.open[n-1].list = true
	}
	return b
}

// end ends the element that was opened last.
func (x *xmlWriter) end(b []byte) []byte {
	n := len(x.open) - 1
	name := x.open[n].name
	x.open = x.open[:n]
	if name == "" {
		return b
	}
	return append(append(append(b, '<', '/'), name...), '>')
}

func (x *xmlWriter) text(b []byte, s string) []byte { return x.end(appendXMLText(x.begin(b), s)) }

func (x *xmlWriter) number(b []byte, n int64) []byte {
	return x.end(strconv.AppendInt(x.begin(b), n, 10))
}

func (x *xmlWriter) boolean(b []byte, v bool) []byte {
	return x.end(strconv.AppendBool(x.begin(b), v))
}

// time writes a time as the protocol has them, ISO 8601 in UTC.
func (x *xmlWriter) time(b []byte, t time.Time) []byte {
	return x.end(t.UTC().AppendFormat(x.begin(b), "2006-01-02T15:04:05.999Z"))
}

func (x *xmlWriter) blob(b, data []byte) []byte {
	return x.end(base64.StdEncoding.AppendEncode(x.begin(b), data))
}

// appendXMLText writes text; what XML 1.0 cannot have becomes U+FFFD.
func appendXMLText(b []byte, s string) []byte {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '&':
			b = append(b, "&amp;"...)
		case r == '<':
			b = append(b, "&lt;"...)
		case r == '>':
			b = append(b, "&gt;"...)
		case r == '"':
			b = append(b, "&quot;"...)
		case r == '\r':
			b = append(b, "&#xD;"...) // a reader would take it for the end of a line
		case r == utf8.RuneError && n == 1, r < ' ' && r != '\t' && r != '\n', r == 0xFFFE, r == 0xFFFF:
			b = utf8.AppendRune(b, utf8.RuneError)
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return b
}
