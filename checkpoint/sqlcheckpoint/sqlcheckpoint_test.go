package sqlcheckpoint_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/checkpointtest"
	"github.com/shardlog/shardlog/checkpoint/sqlcheckpoint"
)

func openSQLite(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)&_pragma=synchronous(normal)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestSQLiteConforms(t *testing.T) {
	checkpointtest.Run(t, func(t *testing.T) checkpoint.Store {
		s, err := sqlcheckpoint.Open(t.Context(), openSQLite(t, filepath.Join(t.TempDir(), "db")), sqlcheckpoint.SQLite, nil)
		require.NoError(t, err)
		return s
	})
}

// postgres starts a server for the tests of this process, once.
var postgres = sync.OnceValues(startPostgres)

var stopPostgres = func() {}

func TestMain(m *testing.M) {
	code := m.Run()
	stopPostgres()
	os.Exit(code)
}

// startPostgres makes a database cluster in a temporary directory and starts
// its server on 127.0.0.1, as the user "nobody" when the test runs as root,
// which the server refuses to be run by.
func startPostgres() (dsn string, err error) {
	bin, err := pgBin()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "sqlcheckpoint-")
	if err != nil {
		return "", err
	}
	attr := &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		nobody, err := user.Lookup("nobody")
		if err != nil {
			return "", err
		}
		uid, _ := strconv.Atoi(nobody.Uid)
		gid, _ := strconv.Atoi(nobody.Gid)
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			return "", err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return "", err
	}
	data := filepath.Join(dir, "data")
	cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "tester", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
	cmd.SysProcAttr, cmd.Dir = attr, dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w: %s", err, out)
	}
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-k", dir, "-c", "fsync=off")
	server.SysProcAttr, server.Dir = attr, dir
	if err := server.Start(); err != nil {
		return "", err
	}
	stopPostgres = func() {
		_ = server.Process.Signal(syscall.SIGINT)
		_ = server.Wait()
		_ = os.RemoveAll(dir)
	}
	dsn = fmt.Sprintf("postgres://tester@127.0.0.1:%d/postgres?sslmode=disable", port)
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return "", err
	}
	defer db.Close()
	for range 200 {
		if err = db.Ping(); err == nil {
			return dsn, nil
		}
		time.Sleep(50 * time.Millisecond) // a real server starts in real time
	}
	return "", err
}

// pgBin finds initdb, which is not always in the path.
func pgBin() (string, error) {
	places, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if p, err := exec.LookPath("initdb"); err == nil {
		places = append(places, p)
	}
	if p, err := exec.LookPath("postgres"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			places = append(places, filepath.Join(filepath.Dir(p), "initdb"))
		}
	}
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return filepath.Dir(p), nil
		}
	}
	return "", fmt.Errorf("no initdb found")
}

// databases are the stores that the tests below are run with. PostgreSQL is
// among them when SHARDLOG_POSTGRES is set: to 1 for a server that is started
// for the test, or to the URL of one.
func databases(t *testing.T) map[string]func(t *testing.T) (*sql.DB, *sqlcheckpoint.Store) {
	t.Helper()
	all := map[string]func(t *testing.T) (*sql.DB, *sqlcheckpoint.Store){
		"SQLite": func(t *testing.T) (*sql.DB, *sqlcheckpoint.Store) {
			db := openSQLite(t, filepath.Join(t.TempDir(), "db"))
			s, err := sqlcheckpoint.Open(t.Context(), db, sqlcheckpoint.SQLite, nil)
			require.NoError(t, err)
			return db, s
		},
	}
	dsn := os.Getenv("SHARDLOG_POSTGRES")
	if dsn == "" {
		return all
	}
	if dsn == "1" {
		var err error
		dsn, err = postgres()
		require.NoError(t, err)
	}
	n := 0
	all["PostgreSQL"] = func(t *testing.T) (*sql.DB, *sqlcheckpoint.Store) {
		db, err := sql.Open("pgx", dsn)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		n++
		table := fmt.Sprintf("%.50s_%d", strings.NewReplacer("/", "_", " ", "_").Replace(t.Name()), n)
		table = strings.Map(func(r rune) rune {
			if r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
				return r
			}
			return '_'
		}, table)
		_, err = db.Exec("DROP TABLE IF EXISTS " + table)
		require.NoError(t, err)
		s, err := sqlcheckpoint.Open(t.Context(), db, sqlcheckpoint.PostgreSQL, &sqlcheckpoint.Options{Table: table})
		require.NoError(t, err)
		return db, s
	}
	return all
}

func TestOtherDatabasesConform(t *testing.T) {
	for name, open := range databases(t) {
		if name == "SQLite" {
			continue // above
		}
		t.Run(name, func(t *testing.T) {
			checkpointtest.Run(t, func(t *testing.T) checkpoint.Store {
				_, s := open(t)
				return s
			})
		})
	}
}

func TestManyRows(t *testing.T) {
	for name, open := range databases(t) {
		t.Run(name, func(t *testing.T) {
			checkpointtest.RunMany(t, func(t *testing.T) checkpoint.Store {
				_, s := open(t)
				return s
			})
		})
	}
}

func TestTwoConnectionsToSQLite(t *testing.T) {
	checkpointtest.RunShared(t, func(t *testing.T) (checkpoint.Store, checkpoint.Store) {
		path := filepath.Join(t.TempDir(), "db")
		var stores [2]checkpoint.Store
		for i := range stores {
			s, err := sqlcheckpoint.Open(t.Context(), openSQLite(t, path), sqlcheckpoint.SQLite, nil)
			require.NoError(t, err)
			stores[i] = s
		}
		return stores[0], stores[1]
	})
}

func TestTransactionsConform(t *testing.T) {
	for name, open := range databases(t) {
		t.Run(name, func(t *testing.T) {
			checkpointtest.RunTx(t, func(t *testing.T) checkpointtest.Transactional[*sql.Tx] {
				db, s := open(t)
				return checkpointtest.Transactional[*sql.Tx]{
					Store:    s,
					Begin:    func(ctx context.Context) (*sql.Tx, error) { return db.BeginTx(ctx, nil) },
					Commit:   func(_ context.Context, tx *sql.Tx) error { return tx.Commit() },
					RollBack: func(tx *sql.Tx) { _ = tx.Rollback() },
				}
			})
		})
	}
}

func TestSQLiteOutlastsTheProcess(t *testing.T) {
	checkpointtest.RunReopen(t, func(t *testing.T) (checkpoint.Store, func() checkpoint.Store) {
		path := filepath.Join(t.TempDir(), "db")
		open := func() checkpoint.Store {
			s, err := sqlcheckpoint.Open(t.Context(), openSQLite(t, path), sqlcheckpoint.SQLite, nil)
			require.NoError(t, err)
			return s
		}
		return open(), open
	})
}

func TestUpdateInATransaction(t *testing.T) {
	for name, open := range databases(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			db, s := open(t)
			_, err := db.ExecContext(ctx, "DROP TABLE IF EXISTS mine")
			require.NoError(t, err)
			_, err = db.ExecContext(ctx, "CREATE TABLE mine (n INTEGER)")
			require.NoError(t, err)
			mine := func() (n int) {
				require.NoError(t, db.QueryRowContext(ctx, "SELECT count(*) FROM mine").Scan(&n))
				return n
			}
			k := checkpoint.Key{Group: "g", Stream: "s", Shard: "x"}
			row, err := s.Create(ctx, checkpoint.Lease{Key: k, Owner: "a"})
			require.NoError(t, err)
			inTx := func(l checkpoint.Lease) (*sql.Tx, checkpoint.Lease, error) {
				tx, err := db.BeginTx(ctx, nil)
				require.NoError(t, err)
				_, err = tx.ExecContext(ctx, "INSERT INTO mine VALUES (1)")
				require.NoError(t, err)
				got, err := s.UpdateTx(ctx, tx, l)
				return tx, got, err
			}
			next := row.Clone()
			next.Checkpoint = shardlog.After(shardlog.NewSequenceNumber(1, 2, 3, 4))

			tx, _, err := inTx(next)
			require.NoError(t, err)
			require.NoError(t, tx.Rollback())
			got, err := s.Get(ctx, k)
			require.NoError(t, err)
			assert.Equal(t, row, got, "a rollback leaves no trace")
			assert.Zero(t, mine())

			tx, told, err := inTx(next)
			require.NoError(t, err)
			require.NoError(t, tx.Commit())
			got, err = s.Get(ctx, k)
			require.NoError(t, err)
			assert.Equal(t, told, got)
			assert.Equal(t, next.Checkpoint, got.Checkpoint)
			assert.Equal(t, 1, mine())

			tx, _, err = inTx(next) // with the version of before
			require.ErrorIs(t, err, shardlog.ErrConflict)
			require.NoError(t, tx.Rollback())
			next.Shard = "missing"
			tx, _, err = inTx(next)
			require.ErrorIs(t, err, shardlog.ErrNotFound)
			require.NoError(t, tx.Rollback())
			assert.Equal(t, 1, mine())
			_, err = s.UpdateTx(ctx, nil, next)
			require.ErrorIs(t, err, shardlog.ErrInvalid)
		})
	}
}

func TestErrors(t *testing.T) {
	ctx := t.Context()
	_, err := sqlcheckpoint.Open(ctx, nil, 7, &sqlcheckpoint.Options{Table: "a b"})
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	for _, field := range []string{"DB", "Dialect", "Table"} {
		require.ErrorContains(t, err, "invalid "+field)
	}
	db := openSQLite(t, filepath.Join(t.TempDir(), "db"))
	s, err := sqlcheckpoint.Open(ctx, db, sqlcheckpoint.SQLite, nil)
	require.NoError(t, err)
	_, err = s.Get(ctx, checkpoint.Key{Group: "g", Stream: "s", Shard: "x"})
	var e *shardlog.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "x", e.Shard)
	_, err = db.ExecContext(ctx, "DROP TABLE shardlog_checkpoints")
	require.NoError(t, err)
	_, err = s.List(ctx, "g", "")
	require.ErrorIs(t, err, checkpoint.ErrUnavailable)
	assert.Equal(t, "PostgreSQL SQLite dialect 7", fmt.Sprint(sqlcheckpoint.PostgreSQL, sqlcheckpoint.SQLite, sqlcheckpoint.Dialect(7)))
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = s.List(cancelled, "g", "")
	require.ErrorIs(t, err, context.Canceled)
}
