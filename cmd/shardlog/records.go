package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/cost"
)

// malformed counts the lines of an input that are no records. A log that was
// copied while it was written, or whose machine lost power, has some.
type malformed struct {
	count, lines int
	line         int    // of the first
	reason       string // why the first is none
}

func (m *malformed) add(line int, reason string) {
	if m.count++; m.count == 1 {
		m.line, m.reason = line, reason
	}
}

// String describes m in one line.
func (m malformed) String() string {
	return fmt.Sprintf("%d of %d lines are malformed and were left out; the first is line %d, which %s", m.count, m.lines, m.line, m.reason)
}

// recordsPattern reads a record from each line of an input. Empty lines do not
// count.
func recordsPattern(ctx context.Context, open func() (io.ReadCloser, error), key int) (p cost.Pattern, bad malformed, err error) {
	var t cost.Trace
	lines := readLines(ctx, open, shardlog.MaxRecordSize)
	for {
		var c inputChunk
		more := true
		select {
		case <-ctx.Done():
			return p, bad, context.Cause(ctx)
		case c, more = <-lines:
		}
		if !more {
			break
		}
		for _, line := range c.lines {
			if err := countLine(&t, &bad, line, key); err != nil {
				return p, bad, err
			}
		}
		if c.err != nil {
			return p, bad, c.err
		}
	}
	if bad.count > 0 && t.Records() == 0 {
		return p, bad, fmt.Errorf("%w: no line is a record: %v", shardlog.ErrInvalid, bad)
	}
	p, err = t.Pattern()
	return p, bad, err
}

// byteOrderMark is what some programs of Windows begin a text with.
var byteOrderMark = []byte("\uFEFF")

// countLine adds a line to the records or to the malformed ones.
func countLine(t *cost.Trace, bad *malformed, line inputLine, key int) error {
	text := line.text
	if line.number == 1 {
		text = bytes.TrimPrefix(text, byteOrderMark)
	}
	if len(text) == 0 && !line.tooLong {
		return nil
	}
	bad.lines++
	if line.tooLong {
		bad.add(line.number, fmt.Sprintf("is longer than %d bytes", shardlog.MaxRecordSize))
		return nil
	}
	at, k, reason := parseLine(string(text), key)
	if reason != "" {
		bad.add(line.number, reason)
		return nil
	}
	err := t.Add(at, k, int64(len(text)+len(k)))
	var invalid *shardlog.InvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Field == "size":
		bad.add(line.number, fmt.Sprintf("has more than %d bytes with its key", shardlog.MaxRecordSize))
	case err != nil:
		return fmt.Errorf("line %d: %w", line.number, err)
	}
	return nil
}

// parseLine returns the time and the key of a line, or why it has none.
func parseLine(line string, key int) (at time.Time, k, reason string) {
	if strings.ContainsRune(line, 0) { // what a file system leaves where a write was lost
		return at, "", "has NUL bytes"
	}
	at, ok := lineTime(line)
	if !ok {
		return at, "", "has no time such as [02/Jan/2006:15:04:05 -0700] or 2006-01-02T15:04:05Z"
	}
	if key == 0 {
		return at, line, ""
	}
	n := 0
	for f := range strings.FieldsSeq(line) {
		if n++; n == key {
			return at, f, ""
		}
	}
	return at, "", fmt.Sprintf("has no field %d", key)
}

// lineTime finds the first time in a line.
func lineTime(line string) (time.Time, bool) {
	for rest, ok := line, true; ok; {
		var s string
		if _, rest, ok = strings.Cut(rest, "["); !ok {
			break
		}
		if s, _, ok = strings.Cut(rest, "]"); !ok {
			break
		}
		if t, err := time.Parse("02/Jan/2006:15:04:05 -0700", s); err == nil {
			return t, true
		}
	}
	for s := range strings.FieldsSeq(line) {
		if t, err := time.Parse(time.RFC3339, strings.Trim(s, `"[],{}`)); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
