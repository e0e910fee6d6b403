package awswire

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// checkBase64 compares DecodeBase64 with package base64, for text that has room and
// for text that has not.
func checkBase64(t *testing.T, text []byte) {
	t.Helper()
	quote := bytes.IndexByte(text, '"')
	var want []byte
	valid := quote >= 0 && !bytes.ContainsAny(text[:quote], "\r\n") // which package base64 skips
	if valid {
		var err error
		want, err = base64.StdEncoding.Strict().AppendDecode(nil, text[:quote])
		valid = err == nil
	}
	for _, room := range []int{0, 1, 7, 100} {
		dst := make([]byte, len(want)+room)
		n, read, ok := DecodeBase64(dst, text)
		require.Equal(t, valid, ok, "%q", text)
		if ok {
			require.Equal(t, quote+1, read, "%q", text)
			require.Equal(t, string(want), string(dst[:n]), "%q", text)
		}
	}
	for less := 1; less <= len(want) && less < 20; less++ {
		_, _, ok := DecodeBase64(make([]byte, len(want)-less), text)
		require.False(t, ok, "%q", text)
	}
}

func TestDecodeBase64(t *testing.T) {
	data := make([]byte, 256)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for n := range 100 {
		text := base64.StdEncoding.EncodeToString(data[n : 2*n])
		checkBase64(t, []byte(text+`"`))
		checkBase64(t, []byte(text+`","PartitionKey":"k"}`))
		checkBase64(t, []byte(text)) // no end
		// Each character in turn is one that is not allowed there, and each is a
		// place for the end.
		for i := range text {
			for _, c := range "\n\r=\"\\-_ \x00\x80\xff" {
				checkBase64(t, []byte(text[:i]+string(c)+text[i:]+`"      `))
				checkBase64(t, []byte(text[:i]+string(c)+text[i+1:]+`"      `))
			}
		}
	}
	for i := range 256 {
		for k := range 8 { // each character at each place
			b := []byte(`QUJDREVG" `)
			b[k] = byte(i)
			checkBase64(t, b)
		}
	}
	for _, s := range []string{"", "=", `"`, `=="`, `A"`, `AA"`, `AAA"`, `A==="`, `AB=="`, `AA=="`, `AAB="`, `AAA="`, `AA==AAAA"`, `AA=A"`, `AA="`, `====" `, `AAA=`, `AAAA`, strings.Repeat("A", 7)} {
		checkBase64(t, []byte(s))
	}
}

func FuzzDecodeBase64(f *testing.F) {
	f.Add([]byte(`aGVsbG8sIHdvcmxk"`))
	f.Add([]byte(`YQ==",`))
	f.Fuzz(func(t *testing.T, text []byte) { checkBase64(t, text) })
}

func BenchmarkDecodeBase64(b *testing.B) {
	for _, n := range []int{100, 1024} {
		text := []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("abc"), n)[:n]) + `"`)
		dst := make([]byte, n+8)
		b.Run("this", func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				DecodeBase64(dst, text)
			}
		})
		b.Run("package", func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				i := bytes.IndexByte(text, '"')
				_, _ = base64.StdEncoding.Strict().Decode(dst, text[:i])
			}
		})
	}
}
