package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// collect reads all lines; one that is too long becomes "!".
func collect(t *testing.T, r io.Reader) (texts []string, err error) {
	t.Helper()
	number := int64(0)
	for c := range readLines(context.Background(), r) {
		for _, ln := range c.lines {
			number++
			require.Equal(t, number, ln.number)
			if ln.tooLong {
				require.Empty(t, ln.text)
				texts = append(texts, "!")
				continue
			}
			texts = append(texts, string(ln.text))
		}
		err = c.err
	}
	return texts, err
}

func TestLines(t *testing.T) {
	long, longest := strings.Repeat("x", 700_000), strings.Repeat("y", maxLine)
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"nothing":                {"", nil},
		"one":                    {"a\n", []string{"a"}},
		"no newline at the end":  {"a\nb", []string{"a", "b"}},
		"only a newline":         {"\n", []string{""}},
		"empty lines":            {"\n\na\n\n", []string{"", "", "a", ""}},
		"CRLF":                   {"a\r\nb\r\n\r\nc\r", []string{"a", "b", "", "c"}},
		"CR inside":              {"a\rb\r\r\n", []string{"a\rb\r"}},
		"long":                   {"a\n" + long + "\nb\n", []string{"a", long, "b"}},
		"longest":                {longest + "\n" + longest + "\r\n" + longest, []string{longest, longest, longest}},
		"too long":               {longest + "z\nb\n" + longest + long, []string{"!", "b", "!"}},
		"too long by a CR":       {longest + "\r\r\n" + "b", []string{"!", "b"}},
		"more than a chunk":      {strings.Repeat("l\n", 3*chunkLines+1), slicesRepeat("l", 3*chunkLines+1)},
		"bytes that are no text": {"\xff\x00\n\x00", []string{"\xff\x00", "\x00"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.in), iotest.DataErrReader(strings.NewReader(c.in)), iotest.HalfReader(strings.NewReader(c.in))} {
				got, err := collect(t, r)
				require.NoError(t, err)
				require.Equal(t, c.want, got)
			}
		})
	}
}

func slicesRepeat(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func TestLinesBeforeAnError(t *testing.T) {
	boom := errors.New("boom")
	got, err := collect(t, io.MultiReader(strings.NewReader("a\nb\n"), iotest.ErrReader(boom)))
	require.ErrorIs(t, err, boom)
	require.Equal(t, []string{"a", "b"}, got)
}

// An interruption is not taken for the end of the input.
func TestAnInterruptedInputHasNotEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		lines := readLines(ctx, strings.NewReader(strings.Repeat("x\n", 100*chunkLines)))
		synctest.Wait()
		for range cap(lines) + 1 {
			select {
			case _, open := <-lines:
				require.True(t, open)
			default:
			}
		}
	})
}

// Lines of a pipe come when they are there, not when a buffer is full.
func TestLinesOfAPipeAreNotHeldBack(t *testing.T) {
	r, w := io.Pipe()
	lines := readLines(context.Background(), r)
	for _, part := range []string{"now\n", "now\nno", "w\n"} { // half a line holds nothing back
		_, err := w.Write([]byte(part))
		require.NoError(t, err)
		require.Len(t, (<-lines).lines, 1)
	}
	require.NoError(t, w.Close())
	_, open := <-lines
	if open { // the end of the input may come as an empty chunk
		_, open = <-lines
	}
	require.False(t, open)
}

func TestGeneratorIsDeterministic(t *testing.T) {
	read := func(seed uint64, n int64) []byte {
		b, err := io.ReadAll(newGenerator(seed, n))
		require.NoError(t, err)
		return b
	}
	short, long := read(1, 1000), read(1, 3000)
	require.Equal(t, short, read(1, 1000))
	require.True(t, bytes.HasPrefix(long, short), "a longer log begins with the shorter one")
	require.NotEqual(t, short, read(2, 1000))
	bits, err := io.ReadAll(iotest.OneByteReader(newGenerator(1, 1000)))
	require.NoError(t, err)
	require.Equal(t, short, bits, "whatever the sizes of the reads")
	require.Empty(t, read(1, 0))

	status, clients := map[int]int{}, map[string]int{}
	lines := strings.Split(strings.TrimSuffix(string(long), "\n"), "\n")
	require.Len(t, lines, 3000)
	for _, l := range lines {
		e, ok := parse(l)
		require.True(t, ok, l)
		require.Equal(t, l, e.String())
		status[e.Status]++
		clients[e.Client]++
	}
	require.Greater(t, status[200], 2000)
	require.Positive(t, status[404])
	require.Positive(t, status[304])
	most := 0
	for _, n := range clients {
		most = max(most, n)
	}
	require.Greater(t, most, 20*3000/len(clients), "a few clients are far busier than others")
}
