package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
)

// oddLog is a log with lines of every kind that is not an entry among its n.
func oddLog(t *testing.T, seed uint64, n int) []byte {
	t.Helper()
	made, err := io.ReadAll(newGenerator(seed, int64(n)))
	require.NoError(t, err)
	var b bytes.Buffer
	for i, l := range bytes.SplitAfter(made, []byte("\n")) {
		switch {
		case i%50 == 7:
			b.WriteString("\r\n")
		case i%70 == 9:
			b.WriteString("no entry\n")
		case i%4000 == 11:
			b.WriteString(strings.Repeat("long", 300_000) + "\n")
		}
		b.Write(l)
	}
	return b.Bytes()
}

// TestKilledRunsOfAFile kills runs of a log with odd lines, which read it as a
// file and from a pipe in turn.
func TestKilledRunsOfAFile(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "weblog.exe")
	out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	log := filepath.Join(t.TempDir(), "access.log")
	odd := oddLog(t, seed, 30_000)
	require.NoError(t, os.WriteFile(log, odd, 0o600))

	begin := time.Now()
	want := runJSON(t, "", "-input", log)
	took := time.Since(begin)
	require.Equal(t, 30_000, want.Records)
	require.Positive(t, want.Malformed)
	require.Positive(t, want.Empty)

	dir := t.TempDir()
	run := func(i int) *exec.Cmd {
		cmd := exec.Command(bin, "-dir", dir, "-json", "-input", log)
		if i%2 == 1 {
			cmd = exec.Command(bin, "-dir", dir, "-json", "-input", "-")
			cmd.Stdin = bytes.NewReader(odd)
		}
		return cmd
	}
	for i := range 8 {
		cmd := run(i)
		require.NoError(t, cmd.Start())
		time.Sleep(time.Duration(rnd.Int64N(int64(took))))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for i := range 2 { // and once more, when all is there
		b, err := run(i).Output()
		require.NoError(t, err)
		var got summary
		require.NoError(t, json.Unmarshal(b, &got))
		t.Logf("found %d of %d", got.Resumed, got.Records)
		got.Resumed, got.Produced, got.Consumed = 0, rate{}, rate{}
		exact := want
		exact.Resumed, exact.Produced, exact.Consumed = 0, rate{}, rate{}
		require.Equal(t, exact, got)
	}
}

// Another input is refused before anything of it is stored.
func TestOtherInputStoresNothing(t *testing.T) {
	dir := t.TempDir()
	first, err := io.ReadAll(newGenerator(1, 500))
	require.NoError(t, err)
	want := runJSON(t, string(first), "-input", "-", "-dir", dir)
	lines := strings.SplitAfter(string(first), "\n")
	for name, input := range map[string]string{
		"other":            strings.ReplaceAll(string(first), "GET", "PUT"),
		"shorter":          strings.Join(lines[:400], ""),
		"empty":            "",
		"a line missing":   strings.Join(append(append([]string{}, lines[:3]...), lines[4:]...), ""),
		"malformed line":   strings.Replace(string(first), lines[0], "x\n", 1),
		"a line made long": strings.Replace(string(first), lines[0], strings.Repeat("x", maxLine+1)+"\n", 1),
	} {
		var out, errs bytes.Buffer
		require.Equal(t, 1, mainWith(context.Background(), []string{"-input", "-", "-dir", dir}, strings.NewReader(input), &out, &errs), name)
		require.Contains(t, errs.String(), "belongs to another input", name)
		require.Empty(t, out.String())
	}
	again := runJSON(t, string(first), "-input", "-", "-dir", dir)
	require.Equal(t, want.Clients, again.Clients)
	require.Zero(t, again.Produced.Records)
}

// The files next to the stream are checked, not trusted.
func TestCountsThatDoNotBelong(t *testing.T) {
	dir := t.TempDir()
	runJSON(t, "", "-records", "2000", "-dir", dir)
	files, err := filepath.Glob(filepath.Join(dir, "counts", "*.json"))
	require.NoError(t, err)
	require.Len(t, files, 4)
	good, err := os.ReadFile(files[0])
	require.NoError(t, err)
	fails := func(want string) {
		t.Helper()
		var out, errs bytes.Buffer
		require.Equal(t, 1, mainWith(context.Background(), []string{"-records", "2000", "-dir", dir}, nil, &out, &errs))
		require.Contains(t, errs.String(), want)
	}
	require.NoError(t, os.Remove(files[0]))
	fails("missing or older")
	require.NoError(t, os.WriteFile(files[0], good[:len(good)/2], 0o600))
	fails(filepath.Base(files[0]))
	ahead := fmt.Sprintf(`{"last":"%v"}`, shardlog.NewSequenceNumber(1<<35, 0, 1, 1<<35))
	require.NoError(t, os.WriteFile(files[0], []byte(ahead), 0o600))
	fails("not in the stream")
	require.NoError(t, os.WriteFile(files[0], good, 0o600))
	require.Equal(t, 2000, runJSON(t, "", "-records", "2000", "-dir", dir).Records)
}

// A batch that comes again, in whole or in part, is counted once.
func TestRedeliveryIsNotCounted(t *testing.T) {
	var records []shardlog.Record
	lines := bytes.Split(bytes.TrimSpace(oddLog(t, 5, 5)), []byte("\n"))
	for i, l := range lines {
		records = append(records, shardlog.Record{Data: l, Sequence: shardlog.NewSequenceNumber(1, 0, uint64(i+1), 1)})
	}
	dir := t.TempDir()
	synced := 0
	open := func() *counts {
		c, err := openCounts(dir, func() error { synced++; return nil }, func(error) { t.Error("failed") })
		require.NoError(t, err)
		return c
	}
	c := open()
	handle := func(from, to int) {
		require.NoError(t, c.Handle(context.Background(), &consumer.Batch{ShardID: "s", Records: records[from:to]}))
	}
	handle(0, 3)
	handle(0, 3)
	require.Equal(t, 3, c.total())
	c = open() // as after a kill before the checkpoint
	handle(0, 2)
	handle(1, 5)
	require.Equal(t, 5, c.total())
	require.Equal(t, 4, synced)
}

// An interruption does not wait for an input that gives nothing.
func TestInterruptedWhileTheInputIsSilent(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = w.Write([]byte(`h - - [t] "GET / HTTP/1.1" 200 5` + "\n"))
		cancel()
	}()
	var out, errs bytes.Buffer
	require.Equal(t, 1, mainWith(ctx, []string{"-input", "-"}, r, &out, &errs))
	require.Contains(t, errs.String(), "interrupted")
}
