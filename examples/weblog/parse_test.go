package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

const when = "17/May/2015:10:05:03 +0000"

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		line string
		want entry
		path string
	}{
		"combined": {
			`83.149.9.216 - - [` + when + `] "GET /a/b.png?x=1&y=2 HTTP/1.1" 200 203023 "http://example.com/" "Mozilla/5.0 (X11)"`,
			entry{"83.149.9.216", "-", "-", when, "GET /a/b.png?x=1&y=2 HTTP/1.1", 200, 203023, "http://example.com/", "Mozilla/5.0 (X11)"}, "/a/b.png?x=1&y=2",
		},
		"common": {
			`h - - [` + when + `] "GET / HTTP/1.0" 304 -`,
			entry{"h", "-", "-", when, "GET / HTTP/1.0", 304, 0, "", ""}, "/",
		},
		"IPv6 and a user with a space": {
			`2001:db8::1 id frank smith [` + when + `] "POST /x HTTP/2.0" 201 0 "-" "-"`,
			entry{"2001:db8::1", "id", "frank smith", when, "POST /x HTTP/2.0", 201, 0, "-", "-"}, "/x",
		},
		"quotes and backslashes": {
			`h - - [` + when + `] "GET /\"q\"\\ HTTP/1.1" 404 12 "a\"b" "c\\"`,
			entry{"h", "-", "-", when, `GET /\"q\"\\ HTTP/1.1`, 404, 12, `a\"b`, `c\\`}, `/\"q\"\\`,
		},
		"no request": {
			`h - - [` + when + `] "-" 408 - "-" "-"`,
			entry{"h", "-", "-", when, "-", 408, 0, "-", "-"}, "-",
		},
		"empty request": {
			`h - - [` + when + `] "" 400 226 "-" "-"`,
			entry{"h", "-", "-", when, "", 400, 226, "-", "-"}, "-",
		},
		"a TLS handshake as request": {
			`h - - [` + when + `] "\x16\x03\x01" 400 226 "-" "-"`,
			entry{"h", "-", "-", when, `\x16\x03\x01`, 400, 226, "-", "-"}, "-",
		},
		"no protocol": {
			`h - - [` + when + `] "GET /old" 200 5 "-" "-"`,
			entry{"h", "-", "-", when, "GET /old", 200, 5, "-", "-"}, "/old",
		},
		"a space in the path": {
			`h - - [` + when + `] "GET /a b HTTP/1.1" 404 5 "-" "-"`,
			entry{"h", "-", "-", when, "GET /a b HTTP/1.1", 404, 5, "-", "-"}, "/a b",
		},
		"only a method": {
			`h - - [` + when + `] "GET  HTTP/1.1" 400 5 "-" "-"`,
			entry{"h", "-", "-", when, "GET  HTTP/1.1", 400, 5, "-", "-"}, "-",
		},
		"the agent is cut off": {
			`h - - [` + when + `] "GET / HTTP/1.1" 200 5 "-" "Mozilla/5.0 (compat`,
			entry{"h", "-", "-", when, "GET / HTTP/1.1", 200, 5, "-", "Mozilla/5.0 (compat"}, "/",
		},
		"the agent is cut off in an escape": {
			`h - - [` + when + `] "GET / HTTP/1.1" 200 5 "-" "Moz\`,
			entry{"h", "-", "-", when, "GET / HTTP/1.1", 200, 5, "-", "Moz"}, "/",
		},
		"the referer is cut off": {
			`h - - [` + when + `] "GET / HTTP/1.1" 200 5 "http://ex`,
			entry{"h", "-", "-", when, "GET / HTTP/1.1", 200, 5, "http://ex", ""}, "/",
		},
		"more fields": {
			`h - - [` + when + `] "GET / HTTP/1.1" 200 5 "-" "a" 0.004 "10.0.0.1"`,
			entry{"h", "-", "-", when, "GET / HTTP/1.1", 200, 5, "-", "a"}, "/",
		},
		"bytes that are no text": {
			"h - - [" + when + "] \"GET /\xff\xfe HTTP/1.1\" 200 5 \"\xe4\" \"\x00\"",
			entry{"h", "-", "-", when, "GET /\xff\xfe HTTP/1.1", 200, 5, "\xe4", "\x00"}, "/\xff\xfe",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := parse(c.line)
			assert.True(t, ok)
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.path, got.path())
		})
	}
}

func TestParseRefuses(t *testing.T) {
	good := `h - - [` + when + `] "GET / HTTP/1.1" 200 5 "-" "a"`
	_, ok := parse(good)
	assert.True(t, ok)
	for name, line := range map[string]string{
		"empty":              "",
		"a word":             "hello",
		"prose":              "the quick brown fox jumps over the lazy dog",
		"no client":          good[1:],
		"client too long":    strings.Repeat("c", 256) + good,
		"client not UTF-8":   "\xff" + good,
		"no time":            `h - - "GET / HTTP/1.1" 200 5 "-" "a"`,
		"empty time":         `h - - [] "GET / HTTP/1.1" 200 5`,
		"no user":            `h - [` + when + `] "GET / HTTP/1.1" 200 5`,
		"request not quoted": `h - - [` + when + `] GET 200 5`,
		"request not closed": `h - - [` + when + `] "GET / HTTP/1.1 200 5`,
		"closed by an escape only": `h - - [` + when +
			`] "GET / HTTP/1.1\" 200 5`,
		"no status":         `h - - [` + when + `] "GET / HTTP/1.1"`,
		"status of letters": `h - - [` + when + `] "GET / HTTP/1.1" abc 5`,
		"status of 2":       `h - - [` + when + `] "GET / HTTP/1.1" 20 5`,
		"status below 100":  `h - - [` + when + `] "GET / HTTP/1.1" 099 5`,
		"status signed":     `h - - [` + when + `] "GET / HTTP/1.1" +20 5`,
		"no size":           `h - - [` + when + `] "GET / HTTP/1.1" 200`,
		"empty size":        `h - - [` + when + `] "GET / HTTP/1.1" 200 `,
		"size of letters":   `h - - [` + when + `] "GET / HTTP/1.1" 200 5k`,
		"negative size":     `h - - [` + when + `] "GET / HTTP/1.1" 200 -5`,
		"size of 64 bits":   `h - - [` + when + `] "GET / HTTP/1.1" 200 9223372036854775808`,
	} {
		got, ok := parse(line)
		assert.False(t, ok, name)
		assert.Zero(t, got, name)
	}
	long := strings.Repeat("é", 256)
	e, ok := parse(strings.Replace(good, "h", long, 1))
	assert.True(t, ok, "the limit counts characters")
	assert.Equal(t, long, e.Client)
}

// FuzzParse checks that no line makes parse panic, and that an entry that was
// parsed is the same after printing and parsing it.
func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"", "-", `h - - [` + when + `] "GET / HTTP/1.1" 200 5 "-" "a"`,
		`2001:db8::1 - a b [t] "\"\\" 999 - "\`, `h - - [t] "x" 100 1 "r" "a" more`,
		`h - - [t] [u] "x y" 100 1`, "h - - [t] \"\xff HTTP/\" 200 7 \"\" \"", `h i u [] [t] "-" 200 0`,
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		e, ok := parse(line)
		if !ok {
			if e != (entry{}) {
				t.Fatalf("refused with %+v", e)
			}
			return
		}
		if !validKey(e.Client) || e.Status < 100 || e.Status > 999 || e.Size < 0 || e.path() == "" {
			t.Fatalf("%+v", e)
		}
		again, ok := parse(e.String())
		if !ok || again != e {
			t.Fatalf("%q\nparsed as %#v\nprinted as %q\nparsed as %#v", line, e, e.String(), again)
		}
	})
}
