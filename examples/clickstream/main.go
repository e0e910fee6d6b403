// Command clickstream counts the clicks and sessions of a web site's users in
// SQLite, exactly once each.
//
//	go run . -dir ./data -put 100000   # put made-up clicks into the stream
//	go run . -dir ./data               # count what is there, and print the result
//
// What a batch adds to the counts and the consumer's checkpoint are one
// transaction of SQLite. So the counting may be killed at any moment, also with
// SIGKILL, and started again: no click is counted twice and none is missed.
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
	"syscall"
	"time"

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
		fmt.Fprintln(os.Stderr, "clickstream:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	fs := flag.NewFlagSet("clickstream", flag.ContinueOnError)
	dir := fs.String("dir", "clickstream-data", "`directory` of the stream and the counts")
	put := fs.Int("put", 0, "put this many made-up clicks into the stream, and count nothing")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	db, err := stream.Open(filepath.Join(*dir, "stream"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	st, err := db.Ensure(ctx, "clicks", stream.Config{Shards: 4})
	if err != nil {
		return err
	}
	if *put > 0 {
		return putClicks(ctx, st, *put)
	}
	counts, err := sql.Open("sqlite", "file:"+filepath.Join(*dir, "counts.db")+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, counts.Close()) }()
	if err := countAll(ctx, st, counts); err != nil {
		return err
	}
	return report(ctx, counts, out)
}

// countAll consumes the stream until everything that is in it was counted.
func countAll(ctx context.Context, st *stream.Stream, db *sql.DB) error {
	if err := makeTables(ctx, db); err != nil {
		return err
	}
	store, err := sqlcheckpoint.Open(ctx, db, sqlcheckpoint.SQLite, nil)
	if err != nil {
		return err
	}
	c, err := consumer.New(st, &consumer.Options{
		Group: "sessions",
		// With a name that stays, a worker that is started again after a kill
		// need not wait until its old leases have expired.
		WorkerID:        "counter",
		Store:           store,
		MaxBatchRecords: 500,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel() // ends Run in order
		for ctx.Err() == nil && !done(ctx, st, store) {
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return c.Run(ctx, &counter{db: db})
}

// done reports whether the checkpoints have reached the ends of the shards.
func done(ctx context.Context, st *stream.Stream, store *sqlcheckpoint.Store) bool {
	rows, err := store.List(ctx, "sessions", st.Name())
	shards, err2 := st.Shards(ctx)
	if err != nil || err2 != nil || len(rows) < len(shards) {
		return false
	}
	for _, row := range rows {
		page, err := st.Read(ctx, shardlog.ReadRequest{ShardID: row.Shard, From: row.Checkpoint, MaxRecords: 1})
		if err != nil || len(page.Records) > 0 {
			return false
		}
	}
	return true
}
