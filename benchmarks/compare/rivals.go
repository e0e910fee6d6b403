package main

import (
	"bufio"
	"database/sql"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/tidwall/wal"
	"go.etcd.io/bbolt"
	_ "modernc.org/sqlite" // the driver
)

// rival is a system that records are appended to and read from.
type rival interface {
	// append stores the records of one batch and returns when they are
	// acknowledged. Several writers, from 0 to maxWriters-1, call it at the
	// same time.
	append(writer int, batch []record)
	// scan reads all records, in the order of storing if the system has one:
	// their data, or all of record.raw. f must not keep the bytes.
	scan(f func(value []byte))
	close()
}

// system is one of those compared.
type system struct {
	name string
	// unsynced and synced say what an acknowledgement means; "" if the system
	// has no such mode.
	unsynced, synced string
	open             func(dir string, sync bool) rival
}

const (
	inKernel  = "written to the kernel"
	inProcess = "in the process's memory, lost when it is killed"
	fsynced   = "fsync or fdatasync before it"
)

// Names of systems that goals refer to.
const (
	us      = "shardlog"
	usLent  = us + ", by reference"
	pebbles = "Pebble"
	tidwall = "tidwall/wal"
	badgers = "Badger, entry per record"
	plain   = "plain file"
	franz   = "franz-go to kfake"
)

var systems = []system{
	{us, inKernel, fsynced, openOurs},
	{plain, inKernel, fsynced + ", one for each call", openFile},
	{badgers, inKernel, fsynced + ", one for each transaction", openBadger},
	{"bbolt", inKernel, fsynced + ", one for each transaction", openBolt},
	{pebbles, inProcess + " until its buffer is written", fsynced, openPebble},
	{tidwall, inKernel, fsynced + ", one for each call", openTidwall},
	{"raft-wal", "", fsynced + ", one for each call", openRaft},
	{"SQLite (modernc, WAL)", inKernel, fsynced + ", one for each transaction", openSQLite},
	{"JetStream, file", inKernel + ", fsync every 2 minutes", fsynced + " (SyncAlways)", openJetStreamFile},
	{"JetStream, memory", inProcess, "", openJetStreamMemory},
	{franz, inProcess, "", openKafka},
}

// named returns systems by their names.
func named(names ...string) (some []system) {
	for _, n := range names {
		i := slices.IndexFunc(systems, func(s system) bool { return s.name == n })
		some = append(some, systems[i])
	}
	return some
}

// file is a file with a length before each record, and one write call for each
// batch.
type file struct {
	mu    sync.Mutex
	f     *os.File
	buf   []byte
	sync  bool
	grown chan struct{} // one token after an append, for a reader that waits
}

func openFile(dir string, sync bool) rival {
	return &file{f: must(os.Create(filepath.Join(dir, "log"))), sync: sync, grown: make(chan struct{}, 1)}
}

func (l *file) append(_ int, batch []record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = l.buf[:0]
	for _, r := range batch {
		l.buf = binary.LittleEndian.AppendUint32(l.buf, uint32(len(r.raw)))
		l.buf = append(l.buf, r.raw...)
	}
	must(l.f.Write(l.buf))
	if l.sync {
		check(l.f.Sync())
	}
	select {
	case l.grown <- struct{}{}:
	default:
	}
}

func (l *file) scan(f func([]byte)) {
	must(l.f.Seek(0, io.SeekStart))
	in := bufio.NewReaderSize(l.f, 1<<20)
	var size [4]byte
	var buf []byte
	for {
		if _, err := io.ReadFull(in, size[:]); err == io.EOF {
			return
		} else {
			check(err)
		}
		buf = append(buf[:0], make([]byte, binary.LittleEndian.Uint32(size[:]))...)
		must(io.ReadFull(in, buf))
		f(buf)
	}
}

func (l *file) close() { check(l.f.Close()) }

// counter numbers the records of systems that store each record under a key.
type counter struct {
	mu   sync.Mutex
	next uint64
}

func (c *counter) take(n int) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next += uint64(n)
	return c.next - uint64(n)
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

type badgerLog struct {
	counter
	db *badger.DB
}

func openBadger(dir string, sync bool) rival {
	return &badgerLog{db: must(badger.Open(badger.DefaultOptions(dir).WithLogger(nil).WithSyncWrites(sync).WithDetectConflicts(false)))}
}

func (b *badgerLog) append(_ int, batch []record) {
	n := b.take(len(batch))
	check(b.db.Update(func(txn *badger.Txn) error {
		for i, r := range batch {
			if err := txn.Set(number(n+uint64(i)), r.raw); err != nil {
				return err
			}
		}
		return nil
	}))
}

func (b *badgerLog) scan(f func([]byte)) {
	check(b.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if err := it.Item().Value(func(v []byte) error { f(v); return nil }); err != nil {
				return err
			}
		}
		return nil
	}))
}

func (b *badgerLog) close() { check(b.db.Close()) }

type boltLog struct {
	db *bbolt.DB
}

var bucket = []byte("log")

func openBolt(dir string, sync bool) rival {
	db := must(bbolt.Open(filepath.Join(dir, "db"), 0o600, &bbolt.Options{NoSync: !sync, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType}))
	check(db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucketIfNotExists(bucket); return err }))
	return &boltLog{db: db}
}

func (b *boltLog) append(_ int, batch []record) {
	check(b.db.Update(func(tx *bbolt.Tx) error {
		bk := tx.Bucket(bucket)
		bk.FillPercent = 1 // as appending wants it
		for _, r := range batch {
			n, err := bk.NextSequence()
			if err != nil {
				return err
			}
			if err := bk.Put(number(n), r.raw); err != nil {
				return err
			}
		}
		return nil
	}))
}

func (b *boltLog) scan(f func([]byte)) {
	check(b.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(_, v []byte) error { f(v); return nil })
	}))
}

func (b *boltLog) close() { check(b.db.Close()) }

type pebbleLog struct {
	counter
	db   *pebble.DB
	opts *pebble.WriteOptions
}

// quiet is a logger that logs only fatal messages.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	pebble.DefaultLogger.Fatalf(format, args...)
}

func openPebble(dir string, sync bool) rival {
	p := &pebbleLog{db: must(pebble.Open(dir, &pebble.Options{Logger: quiet{}})), opts: pebble.NoSync}
	if sync {
		p.opts = pebble.Sync
	}
	return p
}

func (p *pebbleLog) append(_ int, batch []record) {
	n := p.take(len(batch))
	b := p.db.NewBatch()
	for i, r := range batch {
		check(b.Set(number(n+uint64(i)), r.raw, nil))
	}
	check(p.db.Apply(b, p.opts))
	check(b.Close())
}

func (p *pebbleLog) scan(f func([]byte)) {
	it := must(p.db.NewIter(nil))
	for ok := it.First(); ok; ok = it.Next() {
		f(must(it.ValueAndErr()))
	}
	check(it.Close())
}

func (p *pebbleLog) close() { check(p.db.Close()) }

type tidwallLog struct {
	mu    sync.Mutex
	l     *wal.Log
	next  uint64
	batch wal.Batch
}

func openTidwall(dir string, sync bool) rival {
	opts := *wal.DefaultOptions
	opts.NoSync = !sync
	return openWAL(dir, &opts)
}

// openTidwallLent does not copy what is read.
func openTidwallLent(dir string, _ bool) rival {
	opts := *wal.DefaultOptions
	opts.NoSync, opts.NoCopy = true, true
	return openWAL(dir, &opts)
}

func openWAL(dir string, opts *wal.Options) rival {
	l := must(wal.Open(filepath.Join(dir, "wal"), opts))
	return &tidwallLog{l: l, next: must(l.LastIndex())}
}

func (t *tidwallLog) append(_ int, batch []record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(batch) == 1 {
		t.next++
		check(t.l.Write(t.next, batch[0].raw))
		return
	}
	for _, r := range batch {
		t.next++
		t.batch.Write(t.next, r.raw)
	}
	check(t.l.WriteBatch(&t.batch))
}

func (t *tidwallLog) scan(f func([]byte)) {
	for n := uint64(1); n <= t.next; n++ {
		f(must(t.l.Read(n)))
	}
}

func (t *tidwallLog) close() { check(t.l.Close()) }

type raftLog struct {
	mu   sync.Mutex
	w    *raftwal.WAL
	next uint64
}

func openRaft(dir string, _ bool) rival { return &raftLog{w: must(raftwal.Open(dir))} }

func (l *raftLog) append(_ int, batch []record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	logs := make([]*raft.Log, len(batch))
	for i, r := range batch {
		l.next++
		logs[i] = &raft.Log{Index: l.next, Data: r.raw}
	}
	check(l.w.StoreLogs(logs))
}

func (l *raftLog) scan(f func([]byte)) {
	var e raft.Log
	for n := uint64(1); n <= l.next; n++ {
		check(l.w.GetLog(n, &e))
		f(e.Data)
	}
}

func (l *raftLog) close() { check(l.w.Close()) }

type sqliteLog struct{ db *sql.DB }

func openSQLite(dir string, sync bool) rival {
	mode := "OFF"
	if sync {
		mode = "FULL"
	}
	db := must(sql.Open("sqlite", "file:"+filepath.Join(dir, "db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous("+mode+")"))
	db.SetMaxOpenConns(1) // it has one writer at a time
	must(db.Exec("CREATE TABLE log (id INTEGER PRIMARY KEY, value BLOB NOT NULL)"))
	return &sqliteLog{db}
}

func (s *sqliteLog) append(_ int, batch []record) {
	tx := must(s.db.Begin())
	stmt := must(tx.Prepare("INSERT INTO log (value) VALUES (?)"))
	for _, r := range batch {
		must(stmt.Exec(r.raw))
	}
	check(stmt.Close())
	check(tx.Commit())
}

func (s *sqliteLog) scan(f func([]byte)) {
	rows := must(s.db.Query("SELECT value FROM log ORDER BY id"))
	var v sql.RawBytes
	for rows.Next() {
		check(rows.Scan(&v))
		f(v)
	}
	check(rows.Err())
	check(rows.Close())
}

func (s *sqliteLog) close() { check(s.db.Close()) }

const patience = 30 * time.Second
