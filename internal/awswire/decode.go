package awswire

import (
	"encoding/base64"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// Params are the members of a structure that a request has: string, int64,
// bool, []byte, time.Time, []any, Pairs or Params.
type Params map[string]any

// Pairs are the members of a map, in the order of the body; of equal keys the
// last one counts.
type Pairs []Pair

// Pair is a key of a map with its value, which has one of the types that
// members of Params have.
type Pair struct {
	Key   string
	Value any
}

// Get returns a member of type T, or the zero value if there is none. The
// type is that of the member's shape, so it cannot be another.
func Get[T any](p Params, name string) T {
	v, _ := p[name].(T)
	return v
}

// Text returns a member that is text, or "".
func (p Params) Text(name string) string { return Get[string](p, name) }

// Int returns a member that is an integer, or 0.
func (p Params) Int(name string) int64 { return Get[int64](p, name) }

// Has reports whether there is a member, which null is not.
func (p Params) Has(name string) bool { _, ok := p[name]; return ok }

// Decode reads the one value of a body as a structure, without checking its
// constraints. The error is ErrSyntax or an *Error.
func Decode(src Reader, input *Shape) (Params, error) {
	if _, err := src.Value(); err != nil {
		return nil, err
	}
	return object(src, input, 0)
}

// object reads a structure. Members that the model does not have are skipped,
// and so are those that are null.
func object(src Reader, s *Shape, depth int) (Params, error) {
	p := Params{}
	for {
		more, err := src.More()
		if err != nil || !more {
			return p, err
		}
		name, err := src.Key()
		if err != nil {
			return nil, err
		}
		f := s.lookup(name)
		t, err := src.Value()
		if err != nil {
			return nil, err
		}
		if f == nil {
			if err := Skip(src, t, depth+1); err != nil {
				return nil, err
			}
			continue
		}
		v, err := convert(src, f.shape, t, depth+1)
		if err != nil {
			return nil, err
		}
		if delete(p, f.name); v != nil {
			p[f.name] = v
		}
	}
}

// What AWS calls the values of a body. Clients see these texts.
const (
	classBoolean = "class java.lang.Boolean"
	classNumber  = "class com.amazon.coral.value.json.numbers.TruncatingBigNumber"
	classString  = "class java.lang.String"
	startList    = "Start of list found where not expected"
	startMap     = "Start of structure or map found where not expected."
)

// wrongType is a SerializationException.
func wrongType(format string, args ...any) error {
	return &Error{Code: CodeSerialization, Message: fmt.Sprintf(format, args...), Capital: true}
}

// class returns what AWS calls a token where another type was expected.
func class(t Token) string {
	switch t.Kind {
	case TokenBool:
		return classBoolean
	case TokenNumber, TokenTime:
		return classNumber
	}
	return classString
}

// convert reads a value of a shape that began with t; nil stands for null.
func convert(src Reader, s *Shape, t Token, depth int) (any, error) {
	if depth > MaxDepth {
		return nil, ErrSyntax
	}
	switch {
	case t.Kind == TokenNull:
		return nil, nil
	case t.Kind == TokenList && s.kind != kindList:
		return nil, wrongType(startList)
	case t.Kind == TokenMap && s.kind != kindMap && s.kind != kindStructure:
		return nil, wrongType(startMap)
	}
	switch s.kind {
	case kindString:
		if t.Kind != TokenString {
			return nil, wrongType("%s can not be converted to an String", class(t))
		}
		return strings.ToValidUTF8(string(t.Text), "\ufffd"), nil
	case kindInteger, kindLong:
		return convertNumber(s, t)
	case kindBoolean:
		return convertBool(t)
	case kindBlob:
		return convertBlob(t)
	case kindTimestamp:
		return convertTime(t)
	case kindList:
		if t.Kind != TokenList {
			return nil, wrongType("Expected list or null")
		}
		return convertList(src, s, depth)
	case kindMap:
		if t.Kind != TokenMap {
			return nil, wrongType("Expected map or null")
		}
		return convertMap(src, s, depth)
	}
	if t.Kind != TokenMap {
		return nil, wrongType("Expected null")
	}
	return object(src, s, depth)
}

func convertNumber(s *Shape, t Token) (any, error) {
	name, limit := "Integer", float64(math.MaxInt32)
	if s.kind == kindLong {
		name, limit = "Long", 1<<62
	}
	if t.Kind != TokenNumber || math.IsNaN(t.Num) {
		return nil, wrongType("%s can not be converted to an %s", class(t), name)
	}
	return int64(math.Floor(min(max(t.Num, -limit-1), limit))), nil
}

func convertBool(t Token) (any, error) {
	switch t.Kind {
	case TokenBool:
		return t.Bool, nil
	case TokenString:
		switch s := strings.ToUpper(strings.ToValidUTF8(string(t.Text), "\ufffd")); s {
		case "TRUE", "YES", "1":
			return true, nil
		case "FALSE", "NO", "0":
			return false, nil
		default:
			return nil, wrongType("'%s' can not be converted to an Boolean", s)
		}
	}
	return nil, wrongType("%s can not be converted to an Boolean", class(t))
}

func convertBlob(t Token) (any, error) {
	switch t.Kind {
	case TokenBytes:
		return append([]byte{}, t.Text...), nil
	case TokenString:
		b := make([]byte, base64.StdEncoding.DecodedLen(len(t.Text)))
		n, err := base64.StdEncoding.Strict().Decode(b, t.Text)
		if err == nil && !strings.ContainsAny(string(t.Text), "\r\n") {
			return b[:n], nil
		}
		return nil, badBase64(strings.ToValidUTF8(string(t.Text), "\ufffd"))
	}
	return nil, wrongType("%s can not be converted to a Blob", class(t))
}

// badBase64 returns the error for text that is not base64, with the reason that
// AWS gives.
func badBase64(s string) error {
	full := s
	s = shorten(s)
	if n := utf8.RuneCountInString(full); n%4 != 0 {
		return wrongType("'%s' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: %d", s, n)
	}
	for i, r := range full {
		alphabet := r == '+' || r == '/' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !alphabet && (r != '=' || strings.Trim(full[i:], "=") != "") {
			return wrongType("'%s' can not be converted to a Blob: Invalid Base64 character: '%c'", s, r)
		}
	}
	return wrongType("'%s' can not be converted to a Blob: Invalid last non-pad Base64 character dectected", s)
}

// convertTime reads seconds since the epoch, or a tagged time of CBOR. Under the
// tag SDKs write whole milliseconds; a fraction can only come from a client
// that writes seconds, as RFC 8949 has them.
func convertTime(t Token) (any, error) {
	us := t.Num * 1e6
	switch t.Kind {
	case TokenNumber:
	case TokenTime:
		us = t.Num * 1e3
		if t.Num != math.Trunc(t.Num) {
			us = t.Num * 1e6
		}
	default:
		return nil, wrongType("%s can not be converted to milliseconds since epoch", class(t))
	}
	const limit = 1 << 60
	if math.IsNaN(us) {
		us = 0
	}
	return time.UnixMicro(int64(math.Round(min(max(us, -limit), limit)))), nil
}

// convertList keeps one member more than are allowed: validation sees that the
// bound is broken, and a list of millions takes no memory.
func convertList(src Reader, s *Shape, depth int) (any, error) {
	l := []any{}
	for {
		more, err := src.More()
		if err != nil || !more {
			return l, err
		}
		t, err := src.Value()
		if err != nil {
			return nil, err
		}
		v, err := convert(src, s.elem, t, depth+1)
		if err != nil {
			return nil, err
		}
		if !s.hasMax || int64(len(l)) <= s.max {
			l = append(l, v)
		}
	}
}

// convertMap keeps one key more than are allowed, as convertList does.
func convertMap(src Reader, s *Shape, depth int) (any, error) {
	m := Pairs{}
	index := map[string]int{}
	for {
		more, err := src.More()
		if err != nil || !more {
			return m, err
		}
		k, err := src.Key()
		if err != nil {
			return nil, err
		}
		key := strings.ToValidUTF8(string(k), "\ufffd")
		t, err := src.Value()
		if err != nil {
			return nil, err
		}
		v, err := convert(src, s.elem, t, depth+1)
		if err != nil {
			return nil, err
		}
		if v == nil && s.elem.kind == kindString {
			v = "" // AWS takes a null for an empty text here
		}
		if i, ok := index[key]; ok {
			m[i].Value = v
		} else if !s.hasMax || int64(len(m)) <= s.max {
			index[key] = len(m)
			m = append(m, Pair{key, v})
		}
	}
}
