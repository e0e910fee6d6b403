// Command workergroup shows a group of workers that divide the shards of a
// stream, with their checkpoints in PostgreSQL, or in SQLite when there is none.
//
//	go run . -postgres "postgres://user@localhost/db"
//	go run .                                # SQLite in a temporary directory
//
// One worker begins, two more join and get their part of the shards, one leaves
// in order, and one vanishes as if it had been killed: when its leases have
// expired, the others take its shards over. In the end every record was
// handled.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint/sqlcheckpoint"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the program immediately
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "workergroup:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	fs := flag.NewFlagSet("workergroup", flag.ContinueOnError)
	dsn := fs.String("postgres", "", "`URL` of a PostgreSQL database; SQLite if not set")
	shards := fs.Int("shards", 6, "shards of the stream")
	step := fs.Duration("step", time.Second, "time between two changes of the group")
	if err := fs.Parse(args); err != nil {
		return err
	}
	store, closeStore, err := openStore(ctx, *dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeStore()) }()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	// The name is unique, because the store may have rows of other runs.
	st, err := db.Ensure(ctx, fmt.Sprintf("group-%d", time.Now().UnixNano()), stream.Config{Shards: *shards})
	if err != nil {
		return err
	}
	g := &group{st: st, store: store, out: out, handled: map[string]int{}, workers: map[string]*worker{}}
	return g.play(ctx, *step)
}

// openStore opens the checkpoint store.
func openStore(ctx context.Context, dsn string) (s *sqlcheckpoint.Store, closeAll func() error, err error) {
	driver, dialect, dir := "pgx", sqlcheckpoint.PostgreSQL, ""
	if dsn == "" {
		if dir, err = os.MkdirTemp("", "workergroup-"); err != nil {
			return nil, nil, err
		}
		driver, dialect = "sqlite", sqlcheckpoint.SQLite
		dsn = "file:" + filepath.Join(dir, "checkpoints.db") + "?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, nil, err
	}
	closeAll = func() error {
		err := db.Close()
		if dir != "" {
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return err
	}
	if s, err = sqlcheckpoint.Open(ctx, db, dialect, nil); err != nil {
		return nil, nil, errors.Join(err, closeAll())
	}
	return s, closeAll, nil
}

// group is the workers and what they have handled.
type group struct {
	st      *stream.Stream
	store   *sqlcheckpoint.Store
	out     io.Writer
	workers map[string]*worker

	mu      sync.Mutex
	handled map[string]int
}

type worker struct {
	*consumer.Consumer
	done chan error
}

// join starts a worker.
func (g *group) join(ctx context.Context, name string) error {
	c, err := consumer.New(g.st, &consumer.Options{
		Group: "example", WorkerID: name, Store: g.store, LeaseTTL: 2 * time.Second, DiscoverEvery: time.Second,
	})
	if err != nil {
		return err
	}
	w := &worker{c, make(chan error, 1)}
	g.workers[name] = w
	go func() {
		w.done <- c.Run(ctx, consumer.Each(func(_ context.Context, rec shardlog.Record) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.handled[string(rec.Data)]++
			return nil
		}))
	}()
	return nil
}

// play changes the group while records keep coming.
func (g *group) play(ctx context.Context, step time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	total := 0
	next := func(what string, n int) error {
		for end := time.Now().Add(step * time.Duration(n)); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			data := fmt.Append(nil, "record ", total)
			if _, err := g.st.Put(ctx, shardlog.Record{PartitionKey: string(data), Data: data}); err != nil {
				return err
			}
			total++
		}
		g.show(what)
		return nil
	}
	for _, name := range []string{"anna", "boris", "clara"} {
		if err := g.join(ctx, name); err != nil {
			return err
		}
		if err := next(name+" has joined", 2); err != nil {
			return err
		}
	}
	if err := g.workers["anna"].Shutdown(ctx); err != nil {
		return err
	}
	delete(g.workers, "anna")
	if err := next("anna has left", 1); err != nil {
		return err
	}
	if err := g.workers["boris"].Close(); err != nil { // as if killed: the others are not notified
		return err
	}
	delete(g.workers, "boris")
	if err := next("boris has vanished", 4); err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); g.count() < total && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if err := g.workers["clara"].Shutdown(ctx); err != nil {
		return err
	}
	if err := <-g.workers["clara"].done; err != nil {
		return err
	}
	if n := g.count(); n != total {
		return fmt.Errorf("%d of %d records were handled", n, total)
	}
	_, err := fmt.Fprintln(g.out, "every record was handled")
	return err
}

func (g *group) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.handled)
}

// show prints who has how many shards.
func (g *group) show(what string) {
	var parts []string
	for name, w := range g.workers {
		parts = append(parts, fmt.Sprintf("%s %d", name, w.Stats().CurrentLeases))
	}
	slices.Sort(parts)
	fmt.Fprintf(g.out, "%-20s shards: %s\n", what, strings.Join(parts, ", "))
}
