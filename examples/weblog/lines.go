package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
)

// maxLine is the longest line that is taken, in bytes: what fits into a record
// of the stream together with the longest partition key and a line number.
const maxLine = 1<<20 - 2048

// line is one line of the input without its end.
type line struct {
	number  int64 // from 1 on
	text    []byte
	tooLong bool // more than maxLine, and text is not there
}

// lineReader splits an input into lines of any length: those above maxLine are
// read to their end, but not kept in memory.
type lineReader struct {
	r      *bufio.Reader
	number int64
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 128<<10)}
}

// byteOrderMark is what some programs of Windows begin a text with. It is no part
// of the first client.
var byteOrderMark = []byte("\uFEFF")

// next returns the next line, or io.EOF. The last line needs no newline; "\r\n"
// ends a line as "\n" does.
func (l *lineReader) next() (line, error) {
	var text []byte
	tooLong := false
	for {
		part, err := l.r.ReadSlice('\n')
		if tooLong = tooLong || len(text)+len(part) > maxLine+len("\r\n"); tooLong {
			text = nil
		} else {
			text = append(text, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(part) == 0 && len(text) == 0 && !tooLong:
			return line{}, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return line{}, err
		}
		text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
		if l.number == 0 {
			text = bytes.TrimPrefix(text, byteOrderMark)
		}
		if len(text) > maxLine {
			text, tooLong = nil, true
		}
		l.number++
		return line{l.number, text, tooLong}, nil
	}
}

// hasLine reports whether the end of the next line was read already. Half a line
// does not keep those before it from being handed on.
func (l *lineReader) hasLine() bool {
	ready, _ := l.r.Peek(l.r.Buffered()) // what is buffered is there
	return bytes.IndexByte(ready, '\n') >= 0
}

// chunkLines is how many lines are handed on together, at most.
const chunkLines = 512

// chunk is some lines that follow each other; the last chunk may have an error.
type chunk struct {
	lines []line
	err   error
}

// readLines reads r in a goroutine of its own, because a read of a terminal or
// pipe cannot be interrupted: when ctx ends the caller continues, and the
// goroutine ends with its read. Lines are handed on when the input has no more
// of them at hand, so those of a slow pipe are not held back. The channel is closed when
// the input has ended, and stays open when ctx has.
func readLines(ctx context.Context, r io.Reader) <-chan chunk {
	out := make(chan chunk, 4)
	go func() {
		in := newLineReader(r)
		for {
			var c chunk
			for size := 0; len(c.lines) < chunkLines && size < maxLine; {
				ln, err := in.next()
				if err != nil {
					if c.err = err; errors.Is(err, io.EOF) {
						c.err = nil
					}
					if send(ctx, out, c) {
						close(out)
					}
					return
				}
				c.lines = append(c.lines, ln)
				size += len(ln.text)
				if !in.hasLine() {
					break
				}
			}
			if !send(ctx, out, c) {
				return
			}
		}
	}()
	return out
}

func send(ctx context.Context, out chan<- chunk, c chunk) bool {
	select {
	case out <- c:
		return true
	case <-ctx.Done():
		return false
	}
}
