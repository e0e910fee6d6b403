package stream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// TestKillStoresOnce kills a process that sends numbered records, records with
// dedup IDs and transactions, and whose successor sends again whatever may not
// have been answered. In the end everything is there, and once. The number of
// kills is that of TestKill.

// onceKill says what a writer has to do.
type onceKill struct {
	seed       int64
	durability Durability
	dir        string
}

func (s onceKill) options() *Options {
	o := smallOptions()
	o.Durability = s.durability
	return o
}

func TestKillStoresOnce(t *testing.T) {
	for _, d := range []Durability{SyncAlways, SyncNever} {
		t.Run(d.String(), func(t *testing.T) {
			r, _ := newRand(t)
			spec := onceKill{durability: d, dir: t.TempDir()}
			for range (envInt(envKills, 16) + 2) / 3 {
				spec.seed = r.Int63()
				runAndKill(t, spec, time.Duration(20+r.Intn(300))*time.Millisecond)
			}
			verifyOnce(t, spec)
		})
	}
}

func runAndKill(t *testing.T, spec onceKill, after time.Duration) {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=once %d %d %s", envChild, spec.seed, spec.durability, spec.dir))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	if _, err := bufio.NewReader(out).ReadString('\n'); err == nil {
		time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	}
	require.Error(t, cmd.Wait(), "the writer ended by itself")
	require.Empty(t, stderr.String())
}

// How far a writer has got is in files next to the database: what is below the
// number was answered.
func progressFile(dir, name string) string { return filepath.Join(dir, name+".progress") }

func readProgress(dir, name string) (n, epoch uint64) {
	b, err := os.ReadFile(progressFile(dir, name))
	if err == nil {
		_, err = fmt.Sscan(string(b), &n, &epoch)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		panic(err)
	}
	return n, epoch
}

func writeProgress(dir, name string, n, epoch uint64) {
	f := progressFile(dir, name)
	err := os.WriteFile(f+".new", fmt.Appendf(nil, "%d %d", n, epoch), 0o600)
	if err == nil {
		err = os.Rename(f+".new", f)
	}
	if err != nil {
		panic(err)
	}
}

const onceWriters = 3

func verifyOnce(t *testing.T, spec onceKill) {
	db, err := Open(filepath.Join(spec.dir, "db"), spec.options())
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	st, err := db.Stream(t.Context(), "s")
	require.NoError(t, err)
	seen, last := map[string]bool{}, map[string]int{}
	for _, r := range readStream(t, st) {
		data, _, _ := strings.Cut(string(r.Data), " ")
		require.False(t, seen[data], "%s is stored twice", data)
		seen[data] = true
		var kind, n int
		_, err := fmt.Sscanf(data[1:], "%d-%d", &kind, &n)
		require.NoError(t, err)
		require.Greater(t, n, last[r.PartitionKey], "order of %s", r.PartitionKey)
		last[r.PartitionKey] = n
	}
	total := uint64(0)
	for _, kind := range []string{"n", "i"} {
		for w := range onceWriters {
			name := fmt.Sprint(kind, w)
			n, _ := readProgress(spec.dir, name)
			for i := uint64(1); i < n; i++ {
				require.True(t, seen[fmt.Sprint(name, "-", i)], "%s-%d is lost", name, i)
			}
			total += n
		}
	}
	acked, _ := readProgress(spec.dir, "t0")
	row, err := db.Checkpoints().Get(t.Context(), txKey)
	require.NoError(t, err)
	require.GreaterOrEqual(t, row.Beat, acked)
	other, err := db.Stream(t.Context(), "other")
	require.NoError(t, err)
	var want []string
	for n := uint64(1); n <= row.Beat; n++ {
		want = append(want, fmt.Sprint("t0-", n))
		require.True(t, seen[fmt.Sprint("t0-", n)], "half a transaction")
		delete(seen, fmt.Sprint("t0-", n))
	}
	requireOnce(t, other, want...)
	for data := range seen {
		require.NotEqual(t, byte('t'), data[0], "half a transaction: %s", data)
	}
	t.Logf("%d records answered, %d transactions", total, row.Beat)
}

// runOnceChild is the writer that is killed.
func runOnceChild(text string) {
	time.AfterFunc(time.Minute, func() { os.Exit(3) }) // should the parent be gone
	var spec onceKill
	if _, err := fmt.Sscan(text, &spec.seed, &spec.durability, &spec.dir); err != nil {
		panic(err)
	}
	db, err := Open(filepath.Join(spec.dir, "db"), spec.options())
	if err != nil {
		panic(err)
	}
	w := &onceWriter{spec: spec, db: db}
	w.st = w.stream("s", Config{Shards: 3, Retention: Forever, DedupWindow: time.Hour})
	w.other = w.stream("other", Config{Shards: 2, Retention: Forever})
	if _, err := os.Stdout.WriteString("open\n"); err != nil {
		os.Exit(2)
	}
	for i := range onceWriters {
		go w.numbers(fmt.Sprint("n", i))
		go w.withIDs(fmt.Sprint("i", i))
	}
	go w.transactions("t0")
	r := rand.New(rand.NewSource(spec.seed))
	for {
		time.Sleep(time.Duration(r.Intn(60)) * time.Millisecond)
		w.must(w.st.Reshard(context.Background(), 1+r.Intn(5)))
	}
}

type onceWriter struct {
	spec      onceKill
	db        *DB
	st, other *Stream
}

func (w *onceWriter) must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (w *onceWriter) stream(name string, cfg Config) *Stream {
	st, err := w.db.Stream(context.Background(), name)
	if errors.Is(err, shardlog.ErrNotFound) {
		st, err = w.db.Create(context.Background(), name, cfg)
	}
	w.must(err)
	return st
}

// record is the n-th of a writer, the same whenever it is made.
func (w *onceWriter) record(name string, n uint64) shardlog.Record {
	size := int(n*2654435761) % 300
	if n%50 == 0 {
		size = 12 << 10
	}
	return shardlog.Record{PartitionKey: fmt.Sprint(name, "-key", n%3), Data: fmt.Appendf(nil, "%s-%d %s", name, n, strings.Repeat("x", size))}
}

// numbers sends requests of several sizes; as long as one is not answered its
// numbers stay the same, also in the next process.
func (w *onceWriter) numbers(name string) {
	n, epoch := readProgress(w.spec.dir, name)
	if epoch == 0 {
		var err error
		epoch, err = w.st.OpenProducer(context.Background(), name)
		w.must(err)
		n = 1
		writeProgress(w.spec.dir, name, n, epoch)
	}
	for {
		next := n + 1 + n%17
		req := &shardlog.PutRequest{Producer: name, Epoch: epoch, Done: n, Numbers: span(n, next)}
		for i := n; i < next; i++ {
			req.Records = append(req.Records, w.record(name, i))
		}
		w.must(firstError(w.st.PutRequest(context.Background(), req)))
		n = next
		writeProgress(w.spec.dir, name, n, epoch)
	}
}

func (w *onceWriter) withIDs(name string) {
	n, _ := readProgress(w.spec.dir, name)
	n = max(n, 1)
	for {
		next := n + 1 + n%11
		var recs []shardlog.Record
		for i := n; i < next; i++ {
			r := w.record(name, i)
			r.DedupID = fmt.Sprint(name, "-", i)
			recs = append(recs, r)
		}
		w.must(firstError(w.st.PutRecords(context.Background(), recs)))
		n = next
		writeProgress(w.spec.dir, name, n, 1)
	}
}

func (w *onceWriter) transactions(name string) {
	ctx := context.Background()
	row, err := w.db.Checkpoints().Get(ctx, txKey)
	if errors.Is(err, shardlog.ErrNotFound) {
		row, err = w.db.Checkpoints().Create(ctx, checkpoint.Lease{Key: txKey})
	}
	w.must(err)
	for {
		row.Beat++
		tx := w.db.Begin()
		tx.Put(w.st, w.record(name, row.Beat))
		tx.Put(w.other, shardlog.Record{PartitionKey: fmt.Sprint(row.Beat), Data: fmt.Append(nil, name, "-", row.Beat)})
		tx.Checkpoint(row)
		res, err := tx.Commit(ctx)
		w.must(err)
		row = res.Checkpoints[0]
		writeProgress(w.spec.dir, name, row.Beat, 1)
	}
}
