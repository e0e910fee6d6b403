package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/kinesistest"
)

// messages is a writer for another goroutine to read from.
type messages chan string

func (m messages) Write(b []byte) (int, error) {
	m <- string(b)
	return len(b), nil
}

// The second signal ends the process. What timeout(1) sends twice, and what
// comes to a command that ends in time, is one signal.
func TestSecondSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 8)
		ctx, cancel := context.WithCancelCause(t.Context())
		said, codes := make(messages, 1), make(chan int, 1)
		go onSignals(signals, cancel, said, func(code int) { codes <- code })
		signals <- syscall.SIGTERM
		signals <- syscall.SIGTERM
		synctest.Wait()
		require.Equal(t, &interrupted{syscall.SIGTERM}, interruption(ctx))
		time.Sleep(quiet - 1)
		synctest.Wait()
		require.Empty(t, said)
		require.Contains(t, <-said, "another interrupt ends it immediately")
		require.Empty(t, codes)
		signals <- os.Interrupt
		require.Equal(t, 130, <-codes)
	})
	synctest.Test(t, func(t *testing.T) { // before the message, but no echo
		signals, codes := make(chan os.Signal, 8), make(chan int, 1)
		go onSignals(signals, func(error) {}, io.Discard, func(code int) { codes <- code })
		signals <- os.Interrupt
		time.Sleep(echo)
		signals <- syscall.SIGTERM
		require.Equal(t, 143, <-codes)
	})
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 8)
		said := &bytes.Buffer{}
		signals <- os.Interrupt
		close(signals) // the command has ended
		onSignals(signals, func(error) {}, said, func(int) { t.Error("ended by a single signal") })
		require.Empty(t, said.String())
	})
}

// TestSecondInterruptEndsServe interrupts a server while a client holds half a
// request, which it would wait for.
func TestSecondInterruptEndsServe(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		exe, err := os.Executable()
		require.NoError(t, err)
		cmd := exec.Command(exe, "serve", "-addr", "127.0.0.1:0", "-drain", "1h")
		cmd.Env = append(os.Environ(), envMain+"=1")
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		errs, err := cmd.StderrPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		first, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		client, err := net.Dial("tcp", strings.TrimSpace(strings.TrimPrefix(first, "listening on http://")))
		require.NoError(t, err)
		defer client.Close()
		_, err = client.Write([]byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"))
		require.NoError(t, err)
		answer, err := bufio.NewReader(client).ReadString('\n') // the server waits for the body
		require.NoError(t, err)
		require.Equal(t, "HTTP/1.1 100 Continue\r\n", answer)
		require.NoError(t, cmd.Process.Signal(sig))
		line, err := bufio.NewReader(errs).ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, "another interrupt ends it")
		require.NoError(t, cmd.Process.Signal(sig))
		var exit *exec.ExitError
		require.ErrorAs(t, cmd.Wait(), &exit)
		require.Equal(t, 128+int(sig), exit.ExitCode())
	}
}

// interruptible runs a command whose standard input is a pipe. It returns the
// pipe, what interrupts the command, and its exit code and messages.
func interruptible(t *testing.T, args ...string) (stdin io.Writer, interrupt func(syscall.Signal), end func() (int, string)) {
	ctx, cancel := context.WithCancelCause(t.Context())
	r, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	var errs bytes.Buffer
	code := make(chan int, 1)
	go func() { code <- run(&env{ctx: ctx, stdin: r, stdout: io.Discard, stderr: &errs}, args) }()
	return w, func(s syscall.Signal) { cancel(&interrupted{s}) }, func() (int, string) {
		c := <-code
		return c, errs.String()
	}
}

func TestInterruptedPutSaysWhatIsStored(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"s": 1}})
	st, err := srv.DB.Stream(t.Context(), "s")
	require.NoError(t, err)
	stdin, interrupt, end := interruptible(t, "put", "s", "-endpoint", srv.URL)
	_, err = io.WriteString(stdin, "one\ntwo\nhalf a li")
	require.NoError(t, err)
	for n := 0; n < 2; { // waits until both are stored
		p, err := st.Read(t.Context(), shardlog.ReadRequest{ShardID: shardlog.ShardID(0), From: shardlog.TrimHorizon(), Wait: time.Minute})
		require.NoError(t, err)
		n = len(p.Records)
	}
	interrupt(syscall.SIGINT)
	code, errs := end()
	require.Equal(t, 130, code)
	require.Equal(t, "shardlog: interrupted; 2 records were stored\n", errs)
}

// A read of an input that never ends does not keep a command from ending.
func TestInterruptedWhileTheInputIsSilent(t *testing.T) {
	stdin, interrupt, end := interruptible(t, "cost", "-records", "-")
	_, err := io.WriteString(stdin, "2026-01-02T03:04:05Z a\n")
	require.NoError(t, err)
	interrupt(syscall.SIGTERM)
	code, errs := end()
	require.Equal(t, 143, code)
	require.Equal(t, "shardlog: terminated\n", errs)
}

func TestExitCodesOfInterruptedCommands(t *testing.T) {
	dir := t.TempDir()
	mustCLI(t, "", "stream", "create", "s", "-dir", dir)
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"s": 1}})
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"stream", "list", "-endpoint", srv.URL}, 130},
		{[]string{"stream", "create", "new", "-endpoint", srv.URL}, 130},
		{[]string{"stream", "describe", "s", "-dir", dir}, 130},
		{[]string{"tail", "s", "-endpoint", srv.URL}, 130},
		{[]string{"tail", "s", "-f", "-endpoint", srv.URL}, exitOK},
		{[]string{"put", "s", "x", "-endpoint", srv.URL}, 130},
		{[]string{"check", dir}, 130},
		{[]string{"bench", "-memory", "-quiet", "-records", "10"}, 130},
		{[]string{"serve", "-addr", "127.0.0.1:0"}, exitOK},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(&interrupted{syscall.SIGINT})
		var errs bytes.Buffer
		require.Equal(t, c.code, run(&env{ctx: ctx, stdin: strings.NewReader(""), stdout: io.Discard, stderr: &errs}, c.args), "%v: %s", c.args, &errs)
	}
}

// A pipe that nobody writes to is opened by the goroutine that reads it.
func TestInterruptedWhileOpening(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	never := make(chan struct{})
	defer close(never)
	cancel(&interrupted{syscall.SIGINT})
	_, _, err := recordsPattern(ctx, func() (io.ReadCloser, error) {
		<-never
		return nil, errors.New("closed")
	}, 1)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "interrupted", fmt.Sprint(err))
}
