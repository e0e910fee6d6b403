package kinesisapi

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/shardlog/shardlog"
)

// encoder writes an answer as JSON or CBOR. The calls are those of a walk over
// the answer: open and close around a structure, list and endList around a
// list, key before each member of a structure.
type encoder struct {
	buf   []byte
	cbor  bool
	comma bool // JSON: a member was written before
}

// begin of a structure, list or value in JSON: the comma before it.
func (e *encoder) sep() {
	if e.comma && !e.cbor {
		e.buf = append(e.buf, ',')
	}
	e.comma = true
}

func (e *encoder) open() {
	e.sep()
	if e.cbor {
		e.buf = append(e.buf, cborMapType<<5|31)
		return
	}
	e.buf = append(e.buf, '{')
	e.comma = false
}

func (e *encoder) list() {
	e.sep()
	if e.cbor {
		e.buf = append(e.buf, cborArray<<5|31)
		return
	}
	e.buf = append(e.buf, '[')
	e.comma = false
}

func (e *encoder) end(json byte) {
	if e.cbor {
		json = cborBreak
	}
	e.buf = append(e.buf, json)
	e.comma = true
}

func (e *encoder) close() { e.end('}') }

func (e *encoder) endList() { e.end(']') }

// key writes the name of a member, which is plain ASCII.
func (e *encoder) key(name string) {
	if e.cbor {
		e.buf = append(appendCBORHead(e.buf, cborText, uint64(len(name))), name...)
		return
	}
	e.sep()
	e.buf = append(e.buf, '"')
	e.buf = append(e.buf, name...)
	e.buf = append(e.buf, '"', ':')
	e.comma = false
}

func (e *encoder) str(s string) {
	if e.cbor {
		e.buf = append(appendCBORHead(e.buf, cborText, uint64(len(s))), s...)
		return
	}
	e.sep()
	e.buf = appendJSONString(e.buf, s)
}

func (e *encoder) integer(n int64) {
	switch {
	case !e.cbor:
		e.sep()
		e.buf = strconv.AppendInt(e.buf, n, 10)
	case n < 0:
		e.buf = appendCBORHead(e.buf, cborNegative, uint64(-1-n))
	default:
		e.buf = appendCBORHead(e.buf, cborUint, uint64(n))
	}
}

func (e *encoder) boolean(b bool) {
	switch {
	case !e.cbor:
		e.sep()
		e.buf = strconv.AppendBool(e.buf, b)
	case b:
		e.buf = append(e.buf, cborSimple<<5|21)
	default:
		e.buf = append(e.buf, cborSimple<<5|20)
	}
}

// time writes seconds with three decimals as JSON; a tag and whole milliseconds
// as CBOR, which is what the SDKs read.
func (e *encoder) time(t time.Time) {
	ms := t.UnixMilli()
	if e.cbor {
		e.buf = append(e.buf, cborTag<<5|1)
		e.integer(ms)
		return
	}
	e.sep()
	if ms < 0 {
		e.buf = strconv.AppendFloat(e.buf, float64(ms)/1000, 'f', -1, 64)
		return
	}
	e.buf = strconv.AppendInt(e.buf, ms/1000, 10)
	if ms %= 1000; ms != 0 {
		d := [4]byte{'.', byte('0' + ms/100), byte('0' + ms/10%10), byte('0' + ms%10)}
		n := len(d)
		for d[n-1] == '0' {
			n--
		}
		e.buf = append(e.buf, d[:n]...)
	}
}

func (e *encoder) blob(b []byte) {
	if e.cbor {
		e.buf = append(appendCBORHead(e.buf, cborBytes, uint64(len(b))), b...)
		return
	}
	e.sep()
	e.buf = append(e.buf, '"')
	e.buf = base64.StdEncoding.AppendEncode(e.buf, b)
	e.buf = append(e.buf, '"')
}

// sequence writes a number as decimal text.
func (e *encoder) sequence(n shardlog.SequenceNumber) {
	var digits [57]byte
	d, _ := n.AppendText(digits[:0])
	if e.cbor {
		e.buf = append(appendCBORHead(e.buf, cborText, uint64(len(d))), d...)
		return
	}
	e.sep()
	e.buf = append(e.buf, '"')
	e.buf = append(e.buf, d...)
	e.buf = append(e.buf, '"')
}

// Members with a name.

func (e *encoder) strField(name, s string) { e.key(name); e.str(s) }

func (e *encoder) optional(name, s string) {
	if s != "" {
		e.strField(name, s)
	}
}

func (e *encoder) intField(name string, n int64) { e.key(name); e.integer(n) }

func (e *encoder) boolField(name string, b bool) { e.key(name); e.boolean(b) }

func (e *encoder) timeField(name string, t time.Time) { e.key(name); e.time(t) }

func (e *encoder) strings(name string, list []string) {
	e.key(name)
	e.list()
	for _, s := range list {
		e.str(s)
	}
	e.endList()
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
