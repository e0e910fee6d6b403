package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"encoding/json"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

// click is what is in a record.
type click struct {
	User string `json:"user"`
	Page string `json:"page"`
	At   int64  `json:"at"` // seconds
}

// gap ends a session: a click that comes later begins a new one, in seconds.
const gap = 30 * 60

// clicks returns made-up clicks, the same at each call, so that a test knows
// the counts.
func clicks(n int) []click {
	rnd := rand.New(rand.NewPCG(1, 2))
	out := make([]click, n)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	for i := range out {
		at += rnd.Int64N(20)
		out[i] = click{User: fmt.Sprint("user", rnd.IntN(200)), Page: fmt.Sprint("/page/", rnd.IntN(20)), At: at}
	}
	return out
}

// putClicks puts n clicks in. A user's clicks have one key, so they are on one
// shard and in order.
func putClicks(ctx context.Context, st *stream.Stream, n int) error {
	all := clicks(n)
	for len(all) > 0 {
		batch := all[:min(500, len(all))]
		all = all[len(batch):]
		var records []shardlog.Record
		for _, c := range batch {
			data, err := json.Marshal(c)
			if err != nil {
				return err
			}
			records = append(records, shardlog.Record{PartitionKey: c.User, Data: data})
		}
		results, err := st.PutRecords(ctx, records)
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func makeTables(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `
		CREATE TABLE IF NOT EXISTS pages (page TEXT PRIMARY KEY, clicks INTEGER NOT NULL);
		CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, last INTEGER NOT NULL, sessions INTEGER NOT NULL, clicks INTEGER NOT NULL)`)
	return err
}

// counter implements consumer.Handler.
type counter struct{ db *sql.DB }

// Handle counts a batch and checkpoints it, in one transaction.
func (c *counter) Handle(ctx context.Context, b *consumer.Batch) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	for i := range b.Records {
		if err := c.count(ctx, tx, &b.Records[i]); err != nil {
			return err
		}
	}
	last := b.Records[len(b.Records)-1]
	if err := consumer.CheckpointIn(ctx, b, tx, shardlog.After(last.Sequence)); err != nil {
		return err
	}
	return tx.Commit()
}

func (c *counter) count(ctx context.Context, tx *sql.Tx, rec *shardlog.Record) error {
	var k click
	if err := json.Unmarshal(rec.Data, &k); err != nil {
		return consumer.Permanent(err)
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO pages VALUES (?, 1) ON CONFLICT (page) DO UPDATE SET clicks = clicks + 1", k.Page)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO users VALUES (?, ?, 1, 1) ON CONFLICT (name) DO UPDATE SET
		sessions = sessions + (excluded.last - last > ?), clicks = clicks + 1, last = excluded.last`, k.User, k.At, gap)
	return err
}

// totals are the sums of the counts.
type totals struct{ clicks, users, sessions, pageClicks int }

func sums(ctx context.Context, db *sql.DB) (t totals, err error) {
	err = db.QueryRowContext(ctx, "SELECT coalesce(sum(clicks), 0), count(*), coalesce(sum(sessions), 0), (SELECT coalesce(sum(clicks), 0) FROM pages) FROM users").
		Scan(&t.clicks, &t.users, &t.sessions, &t.pageClicks)
	return t, err
}

func report(ctx context.Context, db *sql.DB, out io.Writer) error {
	t, err := sums(ctx, db)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%d clicks of %d users in %d sessions\n", t.clicks, t.users, t.sessions)
	return err
}
