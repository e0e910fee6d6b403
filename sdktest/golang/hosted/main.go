// Command hosted runs a program that writes to a stream of shardlog serve, and
// reads what it wrote with this library's consumer, from the server's directory.
//
//	hosted [-tls] [-ordered] [-stream NAME] [-also NAMES] -records N -keys N PROGRAM ARG...
//
// SHARDLOG names the binary. The program learns where the server is from
// ENDPOINT, HOST and PORT, and what to do from STREAM, RECORDS and KEYS: it has
// to write RECORDS user records whose data is "key-K N" to STREAM, under the
// partition key key-K of KEYS, with N counting from 0 for each. Each has to be
// there once. The order of a key's records has to be that of N with -ordered, for
// programs that promise it, and that of their numbers in any case. If
// the program writes the file ACKED, with the data, a tab and the sequence number
// of each user record as a line, they have to be there under these numbers.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

const (
	patience = 4 * time.Minute  // for a whole run
	quiet    = 3 * time.Second  // without a record, when as many were read as there have to be
	stalled  = 30 * time.Second // without a record, while some are missing
)

type run struct {
	tls, ordered  bool
	stream, also  string
	records, keys int
	command       []string
	dir           string
}

func main() {
	var r run
	flag.BoolVar(&r.tls, "tls", false, "serve https")
	flag.BoolVar(&r.ordered, "ordered", false, "the program keeps the order of each key")
	flag.StringVar(&r.stream, "stream", "orders", "`name` of the stream")
	flag.StringVar(&r.also, "also", "", "`names` of other streams that the program needs, with commas")
	flag.IntVar(&r.records, "records", 0, "`number` of user records")
	flag.IntVar(&r.keys, "keys", 1, "`number` of partition keys")
	flag.Parse()
	r.command = flag.Args()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := r.do(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "hosted:", err)
		os.Exit(1)
	}
}

func (r *run) do(ctx context.Context) (err error) {
	if r.dir, err = os.MkdirTemp("", "hosted"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	if err := r.write(ctx); err != nil {
		return err
	}
	return r.read(ctx)
}

// write runs the program with a server.
func (r *run) write(ctx context.Context) (err error) {
	server := exec.CommandContext(ctx, os.Getenv("SHARDLOG"), "serve", "-dir", r.data(), "-durability", "never", "-addr", "127.0.0.1:0")
	if r.tls {
		server.Args = append(server.Args, "-tls")
	}
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Process.Signal(syscall.SIGTERM), server.Wait()) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server does not say where it is: %w", err)
	}
	endpoint := strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	for _, name := range append(strings.Split(r.also, ","), r.stream) {
		if name == "" {
			continue
		}
		create := exec.CommandContext(ctx, os.Getenv("SHARDLOG"), "stream", "create", name, "-shards", "4", "-endpoint", endpoint)
		if r.tls {
			create.Args = append(create.Args, "-insecure")
		}
		if text, err := create.CombinedOutput(); err != nil {
			return fmt.Errorf("the stream is not created: %w: %s", err, text)
		}
	}
	return r.program(ctx, endpoint)
}

// program runs the program.
func (r *run) program(ctx context.Context, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	p := exec.CommandContext(ctx, r.command[0], r.command[1:]...)
	p.Stdout, p.Stderr = os.Stdout, os.Stderr
	p.Env = append(os.Environ(), "ENDPOINT="+endpoint, "HOST="+u.Hostname(), "PORT="+u.Port(), "STREAM="+r.stream,
		"RECORDS="+strconv.Itoa(r.records), "KEYS="+strconv.Itoa(r.keys), "ACKED="+r.acked(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=us-east-1")
	if err := p.Run(); err != nil {
		return fmt.Errorf("%s: %w", r.command[0], err)
	}
	return nil
}

func (r *run) data() string  { return filepath.Join(r.dir, "data") }
func (r *run) acked() string { return filepath.Join(r.dir, "acked") }

// read consumes the stream up to its present end and checks what is in it.
func (r *run) read(ctx context.Context) (err error) {
	db, err := stream.Open(r.data(), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	st, err := db.Stream(ctx, r.stream)
	if err != nil {
		return err
	}
	var found tally
	c, err := consumer.New(st, &consumer.Options{Group: "check", Store: checkpoint.NewMemory()})
	if err != nil {
		return err
	}
	// Nobody writes any more: what comes in a while is all. The while is long as
	// long as records are missing, because a busy machine may need it.
	go func() {
		n, since := 0, time.Now()
		for ctx.Err() == nil {
			time.Sleep(100 * time.Millisecond)
			if now := found.count(); now != n {
				n, since = now, time.Now()
			}
			if d := time.Since(since); d > stalled || n >= r.records && d > quiet {
				break
			}
		}
		_ = c.Shutdown(ctx) // Run reports it
	}()
	err = c.Run(ctx, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
		found.add(b.Records)
		return nil
	}))
	if err != nil {
		return err
	}
	return r.check(found.got)
}

// got is a record that was read.
type got struct {
	key, data string
	sequence  shardlog.SequenceNumber
	sub       uint32
}

// tally keeps what was read. Handlers of several shards add to it.
type tally struct {
	mu  sync.Mutex
	got []got
}

func (t *tally) add(records []shardlog.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range records {
		t.got = append(t.got, got{r.PartitionKey, string(r.Data), r.Sequence, r.SubSequence})
	}
}

func (t *tally) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.got)
}

// check compares what was read with what was to be written. The error has the
// first few differences.
func (r *run) check(read []got) error {
	wrong := []string{}
	acked, err := r.readAcked()
	if err != nil {
		return err
	}
	missing := map[string]bool{}
	for i := range r.records {
		missing[fmt.Sprintf("key-%d %d", i%r.keys, i/r.keys)] = true
	}
	last, next := map[string]got{}, map[string]int{}
	for _, g := range read {
		before, later := last[g.key]
		n := next[g.key]
		last[g.key], next[g.key] = g, n+1
		switch order := g.sequence.Compare(before.sequence); {
		case !missing[g.data] || !strings.HasPrefix(g.data, g.key+" "):
			wrong = append(wrong, fmt.Sprintf("%q of %s was not written, or is there again", g.data, g.key))
		case later && (order < 0 || order == 0 && g.sub <= before.sub):
			wrong = append(wrong, fmt.Sprintf("%q of %s is after %s", g.data, g.sequence, before.sequence))
		case r.ordered && g.data != fmt.Sprintf("%s %d", g.key, n):
			wrong = append(wrong, fmt.Sprintf("%q is the %dth of its key", g.data, n))
		case acked != nil && acked[g.data] != g.sequence.String():
			wrong = append(wrong, fmt.Sprintf("%q has number %s, its writer got %q", g.data, g.sequence, acked[g.data]))
		}
		delete(missing, g.data)
	}
	if len(read) != r.records || len(missing) > 0 || len(wrong) > 0 {
		return fmt.Errorf("%d records were read of %d, %d are missing, and %d are wrong: %s", len(read), r.records, len(missing), len(wrong),
			strings.Join(wrong[:min(10, len(wrong))], "; "))
	}
	fmt.Printf("%d user records of %d keys were read, each once and in order\n", r.records, len(next))
	return nil
}

// readAcked returns the numbers that the program was given, by the data; nil if
// it has not written any.
func (r *run) readAcked() (map[string]string, error) {
	b, err := os.ReadFile(r.acked())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	acked := map[string]string{}
	for line := range strings.Lines(string(b)) {
		data, number, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		acked[data] = number
	}
	return acked, err
}
