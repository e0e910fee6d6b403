package awswire

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"
)

// Format is how an Encoder writes.
type Format uint8

// The formats.
const (
	FormatJSON Format = iota
	FormatCBOR
	FormatXML // of the query protocol: text between elements
)

// Encoder writes an answer. The calls are those of a walk over the answer: Open
// and Close around a structure, List and EndList around a list, Key before each
// member of a structure. It trusts its caller to keep to that. The zero value
// writes JSON. It is not safe for concurrent use.
type Encoder struct {
	// Buf is what has been written.
	Buf    []byte
	Format Format
	comma  bool // JSON: a member was written before
	xml    xmlWriter
}

// separate writes the comma that JSON wants before all but the first structure,
// list or value of a level.
func (e *Encoder) separate() {
	if e.comma && e.Format != FormatCBOR {
		e.Buf = append(e.Buf, ',')
	}
	e.comma = true
}

// Open begins a structure.
func (e *Encoder) Open() {
	if e.Format == FormatXML {
		e.Buf = e.xml.structure(e.Buf)
		return
	}
	e.separate()
	if e.Format == FormatCBOR {
		e.Buf = append(e.Buf, cborMapType<<5|31)
		return
	}
	e.Buf = append(e.Buf, '{')
	e.comma = false
}

// List begins a list.
func (e *Encoder) List() {
	if e.Format == FormatXML {
		e.Buf = e.xml.list(e.Buf)
		return
	}
	e.separate()
	if e.Format == FormatCBOR {
		e.Buf = append(e.Buf, cborArray<<5|31)
		return
	}
	e.Buf = append(e.Buf, '[')
	e.comma = false
}

// Element writes an element of a list that was encoded before, without the comma,
// and returns what was written, for changes that keep its length. It is not for
// XML.
func (e *Encoder) Element(encoded []byte) []byte {
	e.separate()
	n := len(e.Buf)
	e.Buf = append(e.Buf, encoded...)
	return e.Buf[n:]
}

func (e *Encoder) end(json byte) {
	if e.Format == FormatXML {
		e.Buf = e.xml.end(e.Buf)
		return
	}
	if e.Format == FormatCBOR {
		json = cborBreak
	}
	e.Buf = append(e.Buf, json)
	e.comma = true
}

// Close ends a structure.
func (e *Encoder) Close() { e.end('}') }

// EndList ends a list.
func (e *Encoder) EndList() { e.end(']') }

// Key writes the name of a member, which is plain ASCII.
func (e *Encoder) Key(name string) {
	if e.Format == FormatXML {
		e.Buf = e.xml.key(e.Buf, name)
		return
	}
	if e.Format == FormatCBOR {
		e.Buf = append(appendCBORHead(e.Buf, cborText, uint64(len(name))), name...)
		return
	}
	e.separate()
	e.Buf = append(e.Buf, '"')
	e.Buf = append(e.Buf, name...)
	e.Buf = append(e.Buf, '"', ':')
	e.comma = false
}

// Text writes text; bytes that are not UTF-8 become U+FFFD in JSON.
func (e *Encoder) Text(s string) {
	if e.Format == FormatXML {
		e.Buf = e.xml.text(e.Buf, s)
		return
	}
	if e.Format == FormatCBOR {
		e.Buf = append(appendCBORHead(e.Buf, cborText, uint64(len(s))), s...)
		return
	}
	e.separate()
	e.Buf = appendJSONString(e.Buf, s)
}

// Int writes an integer.
func (e *Encoder) Int(n int64) {
	switch {
	case e.Format == FormatXML:
		e.Buf = e.xml.number(e.Buf, n)
	case e.Format != FormatCBOR:
		e.separate()
		e.Buf = strconv.AppendInt(e.Buf, n, 10)
	case n < 0:
		e.Buf = appendCBORHead(e.Buf, cborNegative, uint64(-1-n))
	default:
		e.Buf = appendCBORHead(e.Buf, cborUint, uint64(n))
	}
}

// Bool writes a boolean.
func (e *Encoder) Bool(b bool) {
	switch {
	case e.Format == FormatXML:
		e.Buf = e.xml.boolean(e.Buf, b)
	case e.Format != FormatCBOR:
		e.separate()
		e.Buf = strconv.AppendBool(e.Buf, b)
	case b:
		e.Buf = append(e.Buf, cborSimple<<5|21)
	default:
		e.Buf = append(e.Buf, cborSimple<<5|20)
	}
}

// Time writes a time: in JSON seconds with up to three decimals, in CBOR a tag
// and whole milliseconds, because the SDKs refuse the fractions that RFC 8949
// has there.
func (e *Encoder) Time(t time.Time) {
	ms := t.UnixMilli()
	if e.Format == FormatXML {
		e.Buf = e.xml.time(e.Buf, t)
		return
	}
	if e.Format == FormatCBOR {
		e.Buf = append(e.Buf, cborTag<<5|1)
		e.Int(ms)
		return
	}
	e.separate()
	if ms < 0 {
		e.Buf = strconv.AppendFloat(e.Buf, float64(ms)/1000, 'f', -1, 64)
		return
	}
	e.Buf = strconv.AppendInt(e.Buf, ms/1000, 10)
	if ms %= 1000; ms != 0 {
		d := [4]byte{'.', byte('0' + ms/100), byte('0' + ms/10%10), byte('0' + ms%10)}
		n := len(d)
		for d[n-1] == '0' {
			n--
		}
		e.Buf = append(e.Buf, d[:n]...)
	}
}

// Blob writes bytes: base64 in JSON, a byte string in CBOR.
func (e *Encoder) Blob(b []byte) {
	if e.Format == FormatXML {
		e.Buf = e.xml.blob(e.Buf, b)
		return
	}
	if e.Format == FormatCBOR {
		e.Buf = append(appendCBORHead(e.Buf, cborBytes, uint64(len(b))), b...)
		return
	}
	e.separate()
	e.Buf = append(e.Buf, '"')
	e.Buf = base64.StdEncoding.AppendEncode(e.Buf, b)
	e.Buf = append(e.Buf, '"')
}

// Raw writes text that needs no escaping in any format, such as digits. It
// takes bytes, so that a number can be formatted without allocating.
func (e *Encoder) Raw(text []byte) {
	if e.Format == FormatXML {
		e.Buf = e.xml.text(e.Buf, string(text))
		return
	}
	if e.Format == FormatCBOR {
		e.Buf = append(appendCBORHead(e.Buf, cborText, uint64(len(text))), text...)
		return
	}
	e.separate()
	e.Buf = append(e.Buf, '"')
	e.Buf = append(e.Buf, text...)
	e.Buf = append(e.Buf, '"')
}

// TextField writes a member that is text.
func (e *Encoder) TextField(name, s string) { e.Key(name); e.Text(s) }

// OptionalText writes a member that is text, unless it is empty.
func (e *Encoder) OptionalText(name, s string) {
	if s != "" {
		e.TextField(name, s)
	}
}

// IntField writes a member that is an integer.
func (e *Encoder) IntField(name string, n int64) { e.Key(name); e.Int(n) }

// BoolField writes a member that is a boolean.
func (e *Encoder) BoolField(name string, b bool) { e.Key(name); e.Bool(b) }

// TimeField writes a member that is a time.
func (e *Encoder) TimeField(name string, t time.Time) { e.Key(name); e.Time(t) }

// TextsField writes a member that is a list of texts.
func (e *Encoder) TextsField(name string, list []string) {
	e.Key(name)
	e.List()
	for _, s := range list {
		e.Text(s)
	}
	e.EndList()
}

const hexDigits = "0123456789abcdef"

// appendJSONString writes a quoted string; what is not UTF-8 becomes U+FFFD.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[from:i]...), `\ufffd`...)
				from = i + n
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	return append(append(b, s[from:]...), '"')
}
