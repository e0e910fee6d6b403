package kinesisapi

import (
	"encoding/base64"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// params are the members of a structure that a request has: string, int64,
// bool, []byte, time.Time, []any, pairs or params.
type params map[string]any

// pairs are the members of a map, in the order of the body; of equal keys the
// last one counts.
type pairs []pair

type pair struct{ key, value string }

func get[T any](p params, name string) T {
	v, _ := p[name].(T)
	return v
}

func (p params) str(name string) string    { return get[string](p, name) }
func (p params) has(name string) bool      { _, ok := p[name]; return ok }
func (p params) integer(name string) int64 { return get[int64](p, name) }

// object reads a structure. Members that the model does not have are skipped,
// and so are those that are null.
func object(src source, s *shape, depth int) (params, error) {
	p := params{}
	for {
		more, err := src.more()
		if err != nil || !more {
			return p, err
		}
		name, err := src.key()
		if err != nil {
			return nil, err
		}
		f := s.field(name)
		t, err := src.value()
		if err != nil {
			return nil, err
		}
		if f == nil {
			if err := skip(src, t, depth+1); err != nil {
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

// Names of what a body has, in the texts of AWS.
const (
	classBoolean = "class java.lang.Boolean"
	classNumber  = "class com.amazon.coral.value.json.numbers.TruncatingBigNumber"
	classString  = "class java.lang.String"
	startList    = "Start of list found where not expected"
	startMap     = "Start of structure or map found where not expected."
)

// wrongType is a SerializationException.
func wrongType(format string, args ...any) error {
	return &apiError{code: "SerializationException", message: fmt.Sprintf(format, args...), capital: true}
}

// class names what a token is to those who wanted something else.
func class(t token) string {
	switch t.kind {
	case tokenBool:
		return classBoolean
	case tokenNumber, tokenTime:
		return classNumber
	}
	return classString
}

// convert reads a value of a shape that began with t; nil stands for null.
func convert(src source, s *shape, t token, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errSyntax
	}
	switch {
	case t.kind == tokenNull:
		return nil, nil
	case t.kind == tokenList && s.kind != kindList:
		return nil, wrongType(startList)
	case t.kind == tokenMap && s.kind != kindMap && s.kind != kindStructure:
		return nil, wrongType(startMap)
	}
	switch s.kind {
	case kindString:
		if t.kind != tokenString {
			return nil, wrongType("%s can not be converted to an String", class(t))
		}
		return strings.ToValidUTF8(string(t.text), "\ufffd"), nil
	case kindInteger, kindLong:
		return convertNumber(s, t)
	case kindBoolean:
		return convertBool(t)
	case kindBlob:
		return convertBlob(t)
	case kindTimestamp:
		return convertTime(t)
	case kindList:
		if t.kind != tokenList {
			return nil, wrongType("Expected list or null")
		}
		return convertList(src, s, depth)
	case kindMap:
		if t.kind != tokenMap {
			return nil, wrongType("Expected map or null")
		}
		return convertMap(src, s, depth)
	}
	if t.kind != tokenMap {
		return nil, wrongType("Expected null")
	}
	return object(src, s, depth)
}

func convertNumber(s *shape, t token) (any, error) {
	name, limit := "Integer", float64(math.MaxInt32)
	if s.kind == kindLong {
		name, limit = "Long", 1<<62
	}
	if t.kind != tokenNumber || math.IsNaN(t.num) {
		return nil, wrongType("%s can not be converted to an %s", class(t), name)
	}
	return int64(math.Floor(min(max(t.num, -limit-1), limit))), nil
}

func convertBool(t token) (any, error) {
	switch t.kind {
	case tokenBool:
		return t.bool, nil
	case tokenString:
		switch s := strings.ToUpper(strings.ToValidUTF8(string(t.text), "\ufffd")); s {
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

func convertBlob(t token) (any, error) {
	switch t.kind {
	case tokenBytes:
		return append([]byte{}, t.text...), nil
	case tokenString:
		b := make([]byte, base64.StdEncoding.DecodedLen(len(t.text)))
		n, err := base64.StdEncoding.Strict().Decode(b, t.text)
		if err == nil && !strings.ContainsAny(string(t.text), "\r\n") {
			return b[:n], nil
		}
		return nil, badBase64(strings.ToValidUTF8(string(t.text), "\ufffd"))
	}
	return nil, wrongType("%s can not be converted to a Blob", class(t))
}

// badBase64 tells what is wrong with text that is not base64.
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

// convertTime reads seconds since the epoch, or the milliseconds of a tagged
// time of CBOR.
func convertTime(t token) (any, error) {
	us := t.num * 1e6
	switch t.kind {
	case tokenNumber:
	case tokenTime:
		us = t.num * 1e3
		if t.num != math.Trunc(t.num) {
			us = t.num * 1e6 // by the standard, seconds
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

// convertList keeps one member more than are allowed, so that the bound is
// seen to be broken but a long list takes no memory.
func convertList(src source, s *shape, depth int) (any, error) {
	l := []any{}
	for {
		more, err := src.more()
		if err != nil || !more {
			return l, err
		}
		t, err := src.value()
		if err != nil {
			return nil, err
		}
		v, err := convert(src, s.elem, t, depth+1)
		if err != nil {
			return nil, err
		}
		if int64(len(l)) <= s.max {
			l = append(l, v)
		}
	}
}

func convertMap(src source, s *shape, depth int) (any, error) {
	m := pairs{}
	index := map[string]int{}
	for {
		more, err := src.more()
		if err != nil || !more {
			return m, err
		}
		k, err := src.key()
		if err != nil {
			return nil, err
		}
		key := strings.ToValidUTF8(string(k), "\ufffd")
		t, err := src.value()
		if err != nil {
			return nil, err
		}
		v, err := convert(src, s.elem, t, depth+1)
		if err != nil {
			return nil, err
		}
		value, _ := v.(string) // null is as good as nothing
		if i, ok := index[key]; ok {
			m[i].value = value
		} else if int64(len(m)) <= s.max {
			index[key] = len(m)
			m = append(m, pair{key, value})
		}
	}
}
