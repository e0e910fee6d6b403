package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
)

// inputLine is a line of an input without its end.
type inputLine struct {
	number  int // from 1 on
	text    []byte
	tooLong bool // text is not there
}

// lineReader splits an input into lines of any length. It keeps at most `most`
// bytes of a line in memory.
type lineReader struct {
	in     *bufio.Reader
	most   int
	number int
	skip   bool // the rest of a line that is too long is still to be read
}

// next returns the next line, which the caller may keep, or io.EOF. The last line
// needs no newline; "\r\n" ends a line as "\n" does.
func (l *lineReader) next() (inputLine, error) {
	if err := l.skipRest(); err != nil {
		return inputLine{}, err
	}
	var line []byte
	for {
		part, err := l.in.ReadSlice('\n')
		line = append(line, part...)
		full := errors.Is(err, bufio.ErrBufferFull)
		switch {
		case full && len(line) <= l.most+len("\r\n"):
			continue
		case err != nil && !full && (!errors.Is(err, io.EOF) || len(line) == 0):
			return inputLine{}, err
		}
		l.number++
		l.skip = full
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if len(line) > l.most {
			return inputLine{number: l.number, tooLong: true}, nil
		}
		return inputLine{number: l.number, text: line}, nil
	}
}

// skipRest reads to the end of a line that was too long.
func (l *lineReader) skipRest() error {
	for l.skip {
		switch _, err := l.in.ReadSlice('\n'); {
		case err == nil:
			l.skip = false
		case !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
	return nil
}

// hasLine reports whether the end of the next line was read already. Half a line
// does not keep those before it from being handed on.
func (l *lineReader) hasLine() bool {
	ready, _ := l.in.Peek(l.in.Buffered()) // what is buffered is there
	return bytes.IndexByte(ready, '\n') >= 0
}

// Bounds of an inputChunk; its bytes may be exceeded by one line.
const (
	chunkLines = 512
	chunkBytes = 1 << 20
)

// inputChunk is some lines that follow each other. After the last chunk of an
// input that cannot be read to its end, err says why.
type inputChunk struct {
	lines []inputLine
	idle  bool // the input has no more lines at hand
	err   error
}

// readLines reads an input in a goroutine of its own, because neither opening a
// pipe nor reading from it or from a terminal can be interrupted: when ctx ends
// the caller leaves, and the goroutine ends with its call. The channel is closed when
// the input has ended, and stays open when ctx has: the caller must not take the one
// for the other.
func readLines(ctx context.Context, open func() (io.ReadCloser, error), most int) <-chan inputChunk {
	out := make(chan inputChunk, 2)
	go func() {
		if sendLines(ctx, open, most, out) {
			close(out)
		}
	}()
	return out
}

// sendLines sends the lines of an input, and reports whether it got to the end. It hands
// on what it has when the input has no more at hand, so that lines of a slow pipe do not
// wait for each other.
func sendLines(ctx context.Context, open func() (io.ReadCloser, error), most int, out chan<- inputChunk) bool {
	r, err := open()
	if err != nil {
		return sendChunk(ctx, out, inputChunk{err: err})
	}
	defer r.Close()
	in := &lineReader{in: bufio.NewReaderSize(r, 128<<10), most: most}
	for {
		var c inputChunk
		for size := 0; !c.idle && c.err == nil && len(c.lines) < chunkLines && size < chunkBytes; {
			var line inputLine
			if line, c.err = in.next(); c.err == nil {
				c.lines = append(c.lines, line)
				size += len(line.text)
			}
			c.idle = !in.hasLine()
		}
		end := c.err != nil
		if errors.Is(c.err, io.EOF) {
			c.err = nil
		}
		if sent := sendChunk(ctx, out, c); !sent || end {
			return sent
		}
	}
}

func sendChunk(ctx context.Context, out chan<- inputChunk, c inputChunk) bool {
	select {
	case out <- c:
		return true
	case <-ctx.Done():
		return false
	}
}

// input returns what opens a file, or standard input for the name "-".
func (e *env) input(name string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		if name == "-" {
			return io.NopCloser(e.stdin), nil
		}
		return os.Open(name)
	}
}

// readFile reads a small file. Like readLines it returns when the context of the
// command ends, because the file may be a pipe.
func (e *env) readFile(name string) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		b, err := os.ReadFile(name)
		done <- result{b, err}
	}()
	select {
	case r := <-done:
		return r.data, r.err
	case <-e.ctx.Done():
		return nil, context.Cause(e.ctx)
	}
}
