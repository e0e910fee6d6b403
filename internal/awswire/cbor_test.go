package awswire

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// obj is a JSON object.
type obj = map[string]any

// fromCBOR decodes an answer; times are int64 milliseconds.
func fromCBOR(t testing.TB, b []byte) any {
	src := &CBORReader{data: b}
	tok, err := src.Value()
	require.NoError(t, err)
	v := build(t, src, tok)
	require.NoError(t, src.End())
	return v
}

func build(t testing.TB, src Reader, tok Token) any {
	switch tok.Kind {
	case TokenNull:
		return nil
	case TokenBool:
		return tok.Bool
	case TokenNumber:
		return tok.Num
	case TokenTime:
		return int64(tok.Num)
	case TokenString:
		return string(tok.Text)
	case TokenBytes:
		return append([]byte{}, tok.Text...)
	}
	m, l := obj{}, []any{}
	for {
		more, err := src.More()
		require.NoError(t, err)
		if !more {
			if tok.Kind == TokenMap {
				return m
			}
			return l
		}
		key := []byte(nil)
		if tok.Kind == TokenMap {
			key, err = src.Key()
			require.NoError(t, err)
		}
		k := string(key)
		v, err := src.Value()
		require.NoError(t, err)
		if tok.Kind == TokenMap {
			m[k] = build(t, src, v)
		} else {
			l = append(l, build(t, src, v))
		}
	}
}

// The examples are of RFC 8949, appendix A.
func TestCBORValues(t *testing.T) {
	for text, want := range map[string]any{
		"00": 0.0, "17": 23.0, "1818": 24.0, "1903e8": 1000.0, "1a000f4240": 1e6, "1b000000e8d4a51000": 1e12, "20": -1.0, "3903e7": -1000.0,
		"f90000": 0.0, "f93c00": 1.0, "f93e00": 1.5, "f97bff": 65504.0, "f90001": 5.960464477539063e-8, "f9c400": -4.0, "f97c00": math.Inf(1),
		"fa47c35000": 100000.0, "fb3ff199999999999a": 1.1, "f4": false, "f5": true, "f6": nil, "f7": nil,
		"c11a514b67b0": int64(1363896240), "4401020304": []byte{1, 2, 3, 4}, "60": "", "62c3bc": "ü", "5f42010243030405ff": []byte{1, 2, 3, 4, 5},
		"80": []any{}, "83010203": []any{1.0, 2.0, 3.0}, "9f018202039f0405ffff": []any{1.0, []any{2.0, 3.0}, []any{4.0, 5.0}},
		"a26161016162820203": obj{"a": 1.0, "b": []any{2.0, 3.0}}, "bf6346756ef563416d7421ff": obj{"Fun": true, "Amt": -2.0},
		"7f657374726561646d696e67ff": "streaming", "d82076687474703a2f2f7777772e6578616d706c652e636f6d": "http://www.example.com",
	} {
		b, err := hex.DecodeString(text)
		require.NoError(t, err)
		require.Equal(t, want, fromCBOR(t, b), text)
	}
	for _, text := range []string{"", "18", "19ff", "1c", "3f", "41", "5f4101", "5f6101ff", "5f5f4101ffff", "61", "81", "9f", "9f00", "a1", "a100", "a161", "a16161", "bf6161ff",
		"ff", "f8ff", "fc", "c1", "c1c1c1c1c1c100", "9bffffffffffffffff", "bbffffffffffffffff", "9a7fffffff00"} {
		b, err := hex.DecodeString(text)
		require.NoError(t, err)
		src := &CBORReader{data: b}
		tok, err := src.Value()
		if err == nil {
			err = Skip(src, tok, 0)
		}
		if err == nil {
			err = src.End()
		}
		require.ErrorIs(t, err, ErrSyntax, text)
	}
	var deep []byte
	for range MaxDepth + 10 {
		deep = append(deep, 0x9f)
	}
	require.ErrorIs(t, WellFormed(&CBORReader{data: append([]byte{0xa1, 0x61, 'a'}, deep...)}), ErrSyntax)
}

func TestTimesInBothEncodings(t *testing.T) {
	for ms, want := range map[int64]string{1795407688822: "1795407688.822", 1795407688000: "1795407688", 1795407688820: "1795407688.82", 5: "0.005", -1500: "-1.5"} {
		e := Encoder{}
		e.Time(time.UnixMilli(ms))
		require.Equal(t, want, string(e.Buf))
		v, err := convertTime(Token{Kind: TokenNumber, Num: mustNumber(t, want)})
		require.NoError(t, err)
		require.Equal(t, ms, v.(time.Time).UnixMilli())
		e = Encoder{Format: FormatCBOR}
		e.Time(time.UnixMilli(ms))
		require.Equal(t, ms, fromCBOR(t, e.Buf))
		v, err = convertTime(Token{Kind: TokenTime, Num: float64(ms)})
		require.NoError(t, err)
		require.Equal(t, ms, v.(time.Time).UnixMilli())
	}
	for _, n := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e300} {
		_, err := convertTime(Token{Kind: TokenNumber, Num: n})
		require.NoError(t, err)
	}
}

func mustNumber(t *testing.T, s string) (f float64) {
	require.NoError(t, json.Unmarshal([]byte(s), &f))
	return f
}
