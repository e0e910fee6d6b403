// Package sqlcheckpoint keeps the checkpoints of consumers in a database/sql
// database: PostgreSQL or SQLite. It is a module of its own, and imports no
// driver; the program that opens the database does.
//
// A checkpoint can be part of the program's own transaction
// (consumer.CheckpointIn with a *sql.Tx): what the handler writes and the
// checkpoint are then there together, or not at all.
//
// A row survives what a commit of the database survives. With SQLite, open the
// database with a busy timeout and immediate transactions ("?_txlock=immediate"
// in modernc.org/sqlite), because others write it too.
package sqlcheckpoint

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// Dialect is the SQL of a database.
type Dialect int

// The dialects.
const (
	PostgreSQL Dialect = iota + 1
	SQLite
)

// String is the name of the database.
func (d Dialect) String() string {
	switch d {
	case PostgreSQL:
		return "PostgreSQL"
	case SQLite:
		return "SQLite"
	}
	return fmt.Sprintf("dialect %d", int(d))
}

// Options say how rows are kept. The zero value of a field means its default.
type Options struct {
	// Table is the name of the table: letters, digits and underscores, up to
	// 63, and not a digit first. Defaults to "shardlog_checkpoints".
	Table string
}

// Store is a checkpoint.Store and a checkpoint.TxStore for *sql.Tx. Its methods
// are safe for concurrent use, also by other processes.
type Store struct {
	db *sql.DB
	// queries, made for the dialect and the table
	create, get, list, listAll, update, remove, exists string
}

var _ checkpoint.TxStore[*sql.Tx] = (*Store)(nil)

var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// Open returns a store in db, and makes its table when there is none. It blocks
// for the database. Db stays the caller's, who closes it after the consumers
// have ended. Opts may be nil. The error matches shardlog.ErrInvalid for a bad
// argument, and checkpoint.ErrUnavailable when the database fails.
func Open(ctx context.Context, db *sql.DB, d Dialect, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Table == "" {
		o.Table = "shardlog_checkpoints"
	}
	var errs []error
	if db == nil {
		errs = append(errs, &shardlog.InvalidError{Field: "DB", Value: nil, Limit: "set"})
	}
	if d != PostgreSQL && d != SQLite {
		errs = append(errs, &shardlog.InvalidError{Field: "Dialect", Value: d, Limit: "PostgreSQL or SQLite"})
	}
	if !tableName.MatchString(o.Table) {
		errs = append(errs, &shardlog.InvalidError{Field: "Table", Value: o.Table, Limit: "letters, digits and underscores, up to 63, and not a digit first"})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	s := &Store{db: db}
	s.prepare(d, o.Table)
	if _, err := db.ExecContext(ctx, schema(d, o.Table)); err != nil {
		return nil, fmt.Errorf("checkpoint: make table %s: %w", o.Table, unavailable(ctx, err))
	}
	return s, nil
}

// schema keeps names as bytes: they may have any character, and are compared
// byte by byte. A row that is deleted stays, not live, with its version: no
// version may come back.
func schema(d Dialect, table string) string {
	bytes := map[Dialect]string{PostgreSQL: "BYTEA", SQLite: "BLOB"}[d]
	return fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s (
		grp %[2]s NOT NULL, stream %[2]s NOT NULL, shard %[2]s NOT NULL,
		version BIGINT NOT NULL, live SMALLINT NOT NULL, data %[2]s NOT NULL,
		PRIMARY KEY (grp, stream, shard))`, table, bytes)
}

func (s *Store) prepare(d Dialect, table string) {
	// Numbered parameters, which both databases know in this form.
	sign := map[Dialect]string{PostgreSQL: "$", SQLite: "?"}[d]
	q := func(query string) string {
		return strings.ReplaceAll(strings.ReplaceAll(query, "#", sign), "TABLE", table)
	}
	const key = "grp = #1 AND stream = #2 AND shard = #3"
	s.create = q(`INSERT INTO TABLE (grp, stream, shard, version, live, data) VALUES (#1, #2, #3, 1, 1, #4)
		ON CONFLICT (grp, stream, shard) DO UPDATE SET version = TABLE.version + 1, live = 1, data = excluded.data WHERE TABLE.live = 0
		RETURNING version`)
	s.get = q("SELECT version, data FROM TABLE WHERE " + key + " AND live = 1")
	s.list = q("SELECT version, data FROM TABLE WHERE grp = #1 AND stream = #2 AND live = 1")
	s.listAll = q("SELECT version, data FROM TABLE WHERE grp = #1 AND live = 1")
	s.update = q("UPDATE TABLE SET version = version + 1, data = #4 WHERE " + key + " AND version = #5 AND live = 1")
	s.remove = q("UPDATE TABLE SET live = 0, data = #4 WHERE " + key + " AND version = #5 AND live = 1")
	s.exists = q("SELECT version FROM TABLE WHERE " + key + " AND live = 1")
}

// unavailable marks errors of the database, of which the outcome is not known.
// Those of the context stay what they are.
func unavailable(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return errors.Join(shardlog.ContextError(ctx), err)
	}
	return fmt.Errorf("%w: %w", checkpoint.ErrUnavailable, err)
}

func fault(op string, k checkpoint.Key, err error) error {
	return &shardlog.Error{Op: "checkpoint " + op, Stream: k.Stream, Shard: k.Shard, Err: err}
}

// args are the parameters of a row's key.
func args(k checkpoint.Key, more ...any) []any {
	return append([]any{[]byte(k.Group), []byte(k.Stream), []byte(k.Shard)}, more...)
}

// encode gives the stored form. The version is in a column of its own.
func encode(l checkpoint.Lease) ([]byte, error) {
	l.Version = 0
	return checkpoint.Marshal(l)
}

func decode(version int64, data []byte) (checkpoint.Lease, error) {
	l, err := checkpoint.Unmarshal(data)
	l.Version = uint64(version)
	return l, err
}

// Create implements checkpoint.Store.
func (s *Store) Create(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	data, err := encode(l)
	if err == nil {
		err = shardlog.ContextError(ctx)
	}
	if err != nil {
		return checkpoint.Lease{}, fault("create", l.Key, err)
	}
	var version int64
	err = s.db.QueryRowContext(ctx, s.create, args(l.Key, data)...).Scan(&version)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return checkpoint.Lease{}, fault("create", l.Key, shardlog.ErrExists)
	case err != nil:
		return checkpoint.Lease{}, fault("create", l.Key, unavailable(ctx, err))
	}
	l = l.Clone()
	l.Version = uint64(version)
	return l, nil
}

// Get implements checkpoint.Store.
func (s *Store) Get(ctx context.Context, k checkpoint.Key) (checkpoint.Lease, error) {
	err := k.Validate()
	if err == nil {
		err = shardlog.ContextError(ctx)
	}
	if err != nil {
		return checkpoint.Lease{}, fault("get", k, err)
	}
	var version int64
	var data []byte
	err = s.db.QueryRowContext(ctx, s.get, args(k)...).Scan(&version, &data)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return checkpoint.Lease{}, fault("get", k, shardlog.ErrNotFound)
	case err != nil:
		return checkpoint.Lease{}, fault("get", k, unavailable(ctx, err))
	}
	l, err := decode(version, data)
	if err != nil {
		return checkpoint.Lease{}, fault("get", k, err)
	}
	return l, nil
}

// List implements checkpoint.Store.
func (s *Store) List(ctx context.Context, group, stream string) (out []checkpoint.Lease, err error) {
	k := checkpoint.Key{Group: group, Stream: stream}
	query, params := s.list, []any{[]byte(group), []byte(stream)}
	if stream == "" {
		query, params = s.listAll, params[:1]
	}
	if err := shardlog.ContextError(ctx); err != nil {
		return nil, fault("list", k, err)
	}
	rows, err := s.db.QueryContext(ctx, query, params...)
	if err != nil {
		return nil, fault("list", k, unavailable(ctx, err))
	}
	defer func() {
		if e := rows.Close(); e != nil && err == nil {
			out, err = nil, fault("list", k, unavailable(ctx, e))
		}
	}()
	for rows.Next() {
		var version int64
		var data []byte
		if err := rows.Scan(&version, &data); err != nil {
			return nil, fault("list", k, unavailable(ctx, err))
		}
		l, err := decode(version, data)
		if err != nil {
			return nil, fault("list", k, err)
		}
		out = append(out, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fault("list", k, unavailable(ctx, err))
	}
	slices.SortFunc(out, func(a, b checkpoint.Lease) int { return a.Key.Compare(b.Key) })
	return out, nil
}

// executor is a *sql.DB or a *sql.Tx.
type executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Update implements checkpoint.Store.
func (s *Store) Update(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	return s.replace(ctx, s.db, "update", s.update, l)
}

// UpdateTx implements checkpoint.TxStore. In PostgreSQL it waits for another
// transaction that has changed the row and is not committed yet.
func (s *Store) UpdateTx(ctx context.Context, tx *sql.Tx, l checkpoint.Lease) (checkpoint.Lease, error) {
	if tx == nil {
		return checkpoint.Lease{}, fault("update", l.Key, &shardlog.InvalidError{Field: "Tx", Value: nil, Limit: "set"})
	}
	return s.replace(ctx, tx, "update", s.update, l)
}

// Delete implements checkpoint.Store.
func (s *Store) Delete(ctx context.Context, l checkpoint.Lease) error {
	_, err := s.replace(ctx, s.db, "delete", s.remove, checkpoint.Lease{Key: l.Key, Version: l.Version})
	return err
}

// replace writes a row if its version is that of l.
func (s *Store) replace(ctx context.Context, db executor, op, query string, l checkpoint.Lease) (checkpoint.Lease, error) {
	data, err := encode(l)
	if err == nil {
		err = shardlog.ContextError(ctx)
	}
	if err != nil {
		return checkpoint.Lease{}, fault(op, l.Key, err)
	}
	version := int64(l.Version)
	if l.Version > 1<<62 {
		version = -1 // no row has it, and the column could not hold it
	}
	res, err := db.ExecContext(ctx, query, args(l.Key, data, version)...)
	var n int64
	if err == nil {
		n, err = res.RowsAffected()
	}
	if err != nil {
		return checkpoint.Lease{}, fault(op, l.Key, unavailable(ctx, err))
	}
	if n == 1 {
		l = l.Clone()
		l.Version++
		return l, nil
	}
	var found int64
	switch err := db.QueryRowContext(ctx, s.exists, args(l.Key)...).Scan(&found); {
	case errors.Is(err, sql.ErrNoRows):
		err = shardlog.ErrNotFound
		return checkpoint.Lease{}, fault(op, l.Key, err)
	case err != nil:
		return checkpoint.Lease{}, fault(op, l.Key, unavailable(ctx, err))
	}
	return checkpoint.Lease{}, fault(op, l.Key, fmt.Errorf("%w: version %d given, the row has %d", shardlog.ErrConflict, l.Version, found))
}
