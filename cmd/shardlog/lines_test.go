package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// collect reads all lines of at most 1 MiB; one that is longer becomes "!".
func collect(t *testing.T, r io.Reader) (texts []string, err error) {
	t.Helper()
	for c := range readLines(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(r), nil }, mib) {
		for _, l := range c.lines {
			require.Equal(t, len(texts)+1, l.number)
			if l.tooLong {
				require.Nil(t, l.text)
				l.text = []byte("!")
			}
			texts = append(texts, string(l.text))
		}
		err = c.err
	}
	return texts, err
}

func TestLines(t *testing.T) {
	longest := strings.Repeat("x", mib)
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"nothing":          {"", nil},
		"no end":           {"a\nb", []string{"a", "b"}},
		"empty lines":      {"\n\r\na\n\n", []string{"", "", "a", ""}},
		"CR":               {"a\rb\r\r\nc\r", []string{"a\rb\r", "c"}},
		"NUL":              {"a\x00\n\x00", []string{"a\x00", "\x00"}},
		"longest":          {longest + "\n" + longest + "\r\n" + longest, []string{longest, longest, longest}},
		"too long":         {longest + "x\na\n" + longest + longest + longest, []string{"!", "a", "!"}},
		"too long at last": {"a\n" + longest + "x", []string{"a", "!"}},
		"many":             {strings.Repeat("l\n", 3*chunkLines), strings.Split(strings.Repeat("l\n", 3*chunkLines-1)+"l", "\n")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.in), iotest.DataErrReader(strings.NewReader(c.in)), iotest.HalfReader(strings.NewReader(c.in))} {
				got, err := collect(t, r)
				require.NoError(t, err)
				require.True(t, strings.Join(c.want, "\n") == strings.Join(got, "\n"), "%.40q", got)
				require.Len(t, got, len(c.want))
			}
		})
	}
}

func TestLinesBeforeAnError(t *testing.T) {
	boom := errors.New("boom")
	got, err := collect(t, io.MultiReader(strings.NewReader("a\nb\n"), iotest.ErrReader(boom)))
	require.ErrorIs(t, err, boom)
	require.Equal(t, []string{"a", "b"}, got)
	for c := range readLines(t.Context(), (&env{}).input(filepath.Join(t.TempDir(), "none")), mib) {
		require.ErrorIs(t, c.err, os.ErrNotExist)
	}
}

// endless is an input of lines without an end, which says when it is closed.
type endless struct{ closed chan struct{} }

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '\n'
	}
	return len(p), nil
}

func (e endless) Close() error {
	close(e.closed)
	return nil
}

// An interruption is not taken for the end of the input.
func TestAnInterruptedInputHasNotEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	in := endless{make(chan struct{})}
	chunks := readLines(ctx, func() (io.ReadCloser, error) { return in, nil }, mib)
	<-chunks
	cancel()
	<-in.closed
	for range cap(chunks) + 1 {
		select {
		case _, open := <-chunks:
			require.True(t, open)
		default:
		}
	}
	require.False(t, sendLines(ctx, func() (io.ReadCloser, error) { return nil, errors.New("none") }, mib, nil))
}

// Lines that are complete do not wait for one that is not.
func TestHalfALineHoldsNothingBack(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	chunks := readLines(t.Context(), func() (io.ReadCloser, error) { return r, nil }, mib)
	_, err := io.WriteString(w, "a\nb\nhalf")
	require.NoError(t, err)
	c := <-chunks
	require.Len(t, c.lines, 2)
	require.True(t, c.idle)
}
