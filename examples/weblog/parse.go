package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/shardlog/shardlog"
)

// entry is one line of an access log in Apache's combined format,
//
//	client ident user [time] "request" status size "referer" "agent"
//
// or in the common format, which ends before the referer. Text is kept as it
// was logged, with Apache's escapes.
type entry struct {
	Client, Ident, User, Time, Request string
	Status                             int
	Size                               int64 // bytes sent; 0 when logged as "-"
	Referer, Agent                     string
}

// parse reads one line without its end. It is strict about what is counted and
// about the client, which becomes the partition key, and lenient about the
// rest: the referer and the agent may be missing or cut off, as in the last
// line of a log that was copied while it was written, and what follows them is
// ignored.
func parse(line string) (entry, bool) {
	var e entry
	var ok bool
	if e.Client, line, ok = strings.Cut(line, " "); !ok || !validKey(e.Client) {
		return entry{}, false
	}
	if e.Ident, line, ok = strings.Cut(line, " "); !ok || e.Ident == "" {
		return entry{}, false
	}
	// A user's name may have spaces in it.
	if e.User, line, ok = strings.Cut(line, " ["); !ok || e.User == "" {
		return entry{}, false
	}
	if e.Time, line, ok = strings.Cut(line, "] "); !ok || e.Time == "" {
		return entry{}, false
	}
	closed := false
	if e.Request, line, closed = quoted(line); !closed {
		return entry{}, false
	}
	status, size, ok := strings.Cut(strings.TrimPrefix(line, " "), " ")
	if !ok || len(status) != 3 {
		return entry{}, false
	}
	size, line, _ = strings.Cut(size, " ")
	code, err := strconv.ParseUint(status, 10, 16)
	if err != nil || code < 100 {
		return entry{}, false
	}
	e.Status = int(code)
	if size != "-" {
		n, err := strconv.ParseUint(size, 10, 63)
		if err != nil {
			return entry{}, false
		}
		e.Size = int64(n)
	}
	if e.Referer, line, closed = quoted(line); closed {
		e.Agent, _, _ = quoted(strings.TrimPrefix(line, " "))
	}
	return e, true
}

// validKey reports whether a client can be a partition key. Names and addresses
// have no control characters; a file system leaves NUL bytes where a write was
// lost in a power failure.
func validKey(s string) bool {
	return s != "" && !strings.ContainsFunc(s, unicode.IsControl) && utf8.ValidString(s) && utf8.RuneCountInString(s) <= shardlog.MaxPartitionKeyLength
}

// quoted splits s after the quoted field that it begins with; a quote that
// belongs to the field is logged as \". Without the closing quote the field is
// all that is there, without a half escape at its end.
func quoted(s string) (field, rest string, closed bool) {
	if !strings.HasPrefix(s, `"`) {
		return "", s, false
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return s[1:i], s[i+1:], true
		case '\\':
			if i == len(s)-1 {
				return s[1:i], "", false
			}
			i++
		}
	}
	return s[1:], "", false
}

// path is what was asked for: the request without its method and protocol, so
// with the query. A request that is not of that form, such as the "-" of a
// client that sent nothing, has the path "-".
func (e *entry) path() string {
	_, path, ok := strings.Cut(e.Request, " ")
	if i := strings.LastIndex(path, " HTTP/"); i >= 0 {
		path = path[:i]
	}
	if !ok || path == "" {
		return "-"
	}
	return path
}

// String is the line in the combined format.
func (e *entry) String() string {
	size := "-"
	if e.Size > 0 {
		size = strconv.FormatInt(e.Size, 10)
	}
	return fmt.Sprintf(`%s %s %s [%s] "%s" %03d %s "%s" "%s"`,
		e.Client, e.Ident, e.User, e.Time, e.Request, e.Status, size, e.Referer, e.Agent)
}
