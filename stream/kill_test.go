package stream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// TestKill kills a process that writes, again and again, and looks at what is
// in the directory: everything acknowledged that retention has not removed,
// exactly once and in order. By default it kills 16 times in all;
//
//	SHARDLOG_KILLS=200 go test -run TestKill ./stream
//
// does so 200 times. The writer is this test binary, started again.

// limit is the bound by bytes of the stream that is written to: some blocks, of which
// those of a writer that is not synced are larger.
func (s killSpec) limit() int64 {
	if s.durability == SyncAlways {
		return 256 << 10
	}
	return 768 << 10
}

// The streams: one that is resharded and trimmed, one that gets what transactions also
// put there, and one whose records are put on the condition of the one before.
const (
	killMain = "s"
	killTx   = "tx"
	killIf   = "if"
)

// killSpec says what a writer has to do.
type killSpec struct {
	run        int
	seed       int64
	durability Durability
	encrypted  bool
	redo       int64 // bytes of the redo log, at most
	dir        string
}

func (s killSpec) String() string {
	return fmt.Sprintf("%d %d %d %t %d %s", s.run, s.seed, s.durability, s.encrypted, s.redo, s.dir)
}

// compression of the stream. What is compressed takes less when it becomes a block, so that
// one cannot say from its size whether retention went too far.
func (s killSpec) compression() Compression {
	if s.durability == SyncNever || s.encrypted {
		return NoCompression
	}
	return S2
}

func (s killSpec) options() *Options {
	o := smallOptions()
	o.Durability, o.SyncInterval, o.RedoLogBytes = s.durability, 5*time.Millisecond, s.redo
	if s.encrypted {
		o.EncryptionKey = bytes.Repeat([]byte("k"), 32)
	}
	return o
}

func TestKill(t *testing.T) {
	kills := envInt(envKills, 16)
	modes := []killSpec{{durability: SyncAlways}, {durability: SyncInterval}, {durability: SyncNever}, {durability: SyncAlways, encrypted: true}, {durability: SyncNever, encrypted: true}}
	for i, spec := range modes {
		name := spec.durability.String()
		if spec.encrypted {
			name += " encrypted"
		}
		t.Run(name, func(t *testing.T) {
			r, _ := newRand(t)
			spec.dir = t.TempDir()
			k := &killed{spec: spec, acked: map[killID]killRecord{}, horizon: map[string]uint64{}, found: map[string]int{}}
			n := (kills + len(modes) - 1 - i) / len(modes)
			for run := range n {
				k.spec.run, k.spec.seed, k.spec.redo = run, r.Int63(), 1<<20<<(4*r.Intn(2))
				k.run(t, time.Duration(5+r.Intn(296))*time.Millisecond, r.Intn(4) == 0)
				// Not always, so that a crash also follows a crash.
				if run == n-1 || r.Intn(4) > 0 {
					k.verify(t)
				}
			}
			t.Logf("%d kills, %d of them before the database was open; %d records and %d checkpoints acknowledged, %d records found that were not; %d shards; last horizons of %d shards above the first record; %d records in transactions, %d on conditions",
				n, k.early, len(k.acked)-k.unacked, k.beats, k.unacked, k.shards, len(k.horizon), k.found[killTx], k.found[killIf])
		})
	}
}

// killRecord is what a record's data say of it.
type killRecord struct {
	key string
	n   uint32 // grows along the key
}

func killData(key string, n uint32, size int) []byte {
	b := binary.BigEndian.AppendUint32(nil, n)
	b = append(append(b, byte(len(key))), key...)
	for i := range size {
		b = append(b, byte(n)+byte(i)*3)
	}
	return b
}

func parseKillData(r *shardlog.Record) (killRecord, error) {
	if len(r.Data) < 5 {
		return killRecord{}, io.ErrUnexpectedEOF
	}
	rec := killRecord{key: r.PartitionKey, n: binary.BigEndian.Uint32(r.Data)}
	if want := killData(rec.key, rec.n, len(r.Data)-5-len(rec.key)); !bytes.Equal(want, r.Data) {
		return rec, errors.New("data are not what was written")
	}
	return rec, nil
}

// killID is a number of a record; it must never name two.
type killID struct {
	shard   string // with the stream
	counter uint64
}

// killed is what the parent knows of the directory.
type killed struct {
	spec    killSpec
	acked   map[killID]killRecord // acknowledged, or seen when the database was looked at
	unacked int                   // how many of them were only seen
	horizon map[string]uint64
	beats   uint64 // of the checkpoint row, as acknowledged
	early   int
	shards  int
	found   map[string]int // records of streams when they were looked at last
}

// run starts a writer and kills it some time after it was started, which may be
// while it opens the database, or after it has opened it.
func (k *killed) run(t *testing.T, after time.Duration, opening bool) {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), envChild+"="+k.spec.String())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	kill := func() { time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) }
	if opening {
		kill()
	}
	opened := false
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break // what has no end of line was cut off with the writer
		}
		if !opened && !opening {
			kill()
		}
		opened = true
		k.acknowledge(t, strings.TrimSpace(line))
	}
	err = cmd.Wait()
	require.Error(t, err, "the writer ended by itself")
	require.Empty(t, stderr.String())
	if !opened {
		k.early++
	}
}

func (k *killed) acknowledge(t *testing.T, line string) {
	var id killID
	var rec killRecord
	switch line[0] {
	case 'o': // open
	case 'c':
		_, err := fmt.Sscanf(line, "c %d", &k.beats)
		require.NoError(t, err)
	case 'a':
		_, err := fmt.Sscanf(line, "a %s %d %s %d", &id.shard, &id.counter, &rec.key, &rec.n)
		require.NoError(t, err, line)
		k.take(t, id, rec, true)
	default:
		t.Fatalf("unexpected output %q", line)
	}
}

func (k *killed) take(t *testing.T, id killID, rec killRecord, acked bool) {
	if before, ok := k.acked[id]; ok {
		require.Equal(t, before, rec, "number %d of %s is used again", id.counter, id.shard)
		require.False(t, acked, "number %d of %s was acknowledged twice or seen before", id.counter, id.shard)
		return
	}
	k.acked[id] = rec
	if !acked {
		k.unacked++
	}
}

// verify opens the database and compares it with what was acknowledged.
func (k *killed) verify(t *testing.T) {
	ctx := context.Background()
	db, err := Open(k.spec.dir, k.spec.options())
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	present := map[killID]bool{}
	of := map[string]map[killRecord]bool{}
	for _, name := range []string{killMain, killTx, killIf} {
		st, err := db.Stream(ctx, name)
		if errors.Is(err, shardlog.ErrNotFound) {
			continue
		}
		require.NoError(t, err)
		of[name] = k.verifyStream(t, st, present)
		if name == killMain && k.spec.compression() == NoCompression && st.Stats().Bytes < k.spec.limit()/2 {
			require.Empty(t, k.horizon, "retention went too far")
		}
	}
	for id, rec := range k.acked {
		if !present[id] && id.counter >= max(k.horizon[id.shard], 1) {
			t.Fatalf("record %d of %s, %v, is lost; the horizon is %d", id.counter, id.shard, rec, k.horizon[id.shard])
		}
	}
	for rec := range of[killMain] {
		if strings.HasSuffix(rec.key, killTx) {
			require.True(t, of[killTx][rec], "half of a transaction is there: %v", rec)
		}
	}
	for rec := range of[killIf] {
		if rec.n > 1 {
			require.True(t, of[killIf][killRecord{rec.key, rec.n - 1}], "the condition of %v is not there", rec)
		}
	}
	row, err := db.Checkpoints().Get(ctx, checkpoint.Key{Group: "g", Stream: "s", Shard: "x"})
	if k.beats > 0 {
		require.NoError(t, err)
		require.GreaterOrEqual(t, row.Beat, k.beats)
	}
}

// verifyStream returns the records of a stream, and notes those present.
func (k *killed) verifyStream(t *testing.T, st *Stream, present map[killID]bool) map[killRecord]bool {
	all := map[killRecord]bool{}
	infos := shards(t, st)
	requireCovered(t, infos)
	if st.Name() == killMain {
		k.shards = len(infos)
	}
	lastOf := map[string]uint32{}
	for _, info := range infos {
		shard := st.Name() + "/" + info.ID
		horizon := readHorizon(t, st, info)
		require.GreaterOrEqual(t, horizon, k.horizon[shard], "the horizon of %s went back", shard)
		if horizon > counterOf(info.First)+1 {
			k.horizon[shard] = horizon
		}
		var last shardlog.SequenceNumber
		for _, r := range readAll(t, st, info.ID) {
			require.Positive(t, r.Sequence.Compare(last))
			last = r.Sequence
			rec, err := parseKillData(&r)
			require.NoError(t, err)
			require.Greater(t, rec.n, lastOf[rec.key], "order of key %s, or a duplicate", rec.key)
			lastOf[rec.key] = rec.n
			id := killID{shard, counterOf(r.Sequence)}
			require.GreaterOrEqual(t, id.counter, horizon)
			k.take(t, id, rec, false)
			present[id], all[rec] = true, true
		}
		if now := readHorizon(t, st, info); now > horizon {
			k.horizon[shard] = now // retention continues from where it was killed
		}
	}
	k.found[st.Name()] = len(all)
	return all
}

// readHorizon returns the counter of the first record that may be there.
func readHorizon(t testing.TB, st *Stream, info shardlog.ShardInfo) uint64 {
	t.Helper()
	_, err := st.Read(context.Background(), shardlog.ReadRequest{ShardID: info.ID, From: shardlog.At(info.First), MaxRecords: 1})
	var trimmed *shardlog.TrimmedError
	if errors.As(err, &trimmed) {
		return counterOf(trimmed.Oldest.Sequence())
	}
	require.NoError(t, err)
	return counterOf(info.First) + 1
}

// runChild is the writer that is killed.
func runChild(text string) {
	time.AfterFunc(time.Minute, func() { os.Exit(3) }) // should the parent be gone
	var spec killSpec
	if _, err := fmt.Sscan(text, &spec.run, &spec.seed, &spec.durability, &spec.encrypted, &spec.redo, &spec.dir); err != nil {
		panic(err)
	}
	w := &killWriter{spec: spec}
	var err error
	if w.db, err = Open(spec.dir, spec.options()); err != nil {
		panic(err)
	}
	ctx := context.Background()
	for _, name := range []string{killTx, killIf, killMain} {
		w.st, err = w.db.Stream(ctx, name)
		if errors.Is(err, shardlog.ErrNotFound) {
			c := Config{Shards: 1, Retention: Forever}
			if name == killMain {
				c = Config{Shards: 3, Retention: Forever, RetentionBytes: spec.limit(), Compression: spec.compression()}
			}
			w.st, err = w.db.Create(ctx, name, c)
		}
		if err != nil {
			panic(err)
		}
	}
	w.say("open\n")
	for i := range 4 {
		go w.write(i)
	}
	for i := range 3 {
		go w.writeSmall(i)
	}
	go w.transact()
	go w.putIf()
	go w.reshape()
	go w.makeStreams()
	w.checkpoints()
}

type killWriter struct {
	spec killSpec
	db   *DB
	st   *Stream
	mu   sync.Mutex
}

// say writes whole lines.
func (w *killWriter) say(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := os.Stdout.WriteString(s); err != nil {
		os.Exit(2)
	}
}

func (w *killWriter) fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// write appends records of three keys of its own, alone and in batches.
func (w *killWriter) write(i int) {
	r := rand.New(rand.NewSource(w.spec.seed + int64(i)))
	for n := uint32(1); ; {
		recs := make([]shardlog.Record, 1)
		if r.Intn(3) == 0 {
			recs = make([]shardlog.Record, 1+r.Intn(40))
		}
		size := r.Intn(200)
		if r.Intn(10) == 0 {
			size = r.Intn(20 << 10)
		}
		for j := range recs {
			key := fmt.Sprintf("run%d-writer%d-%d", w.spec.run, i, r.Intn(3))
			recs[j] = shardlog.Record{PartitionKey: key, Data: killData(key, n, size/len(recs))}
			n++
		}
		res, err := w.st.PutRecords(context.Background(), recs)
		w.fatal(err)
		var b strings.Builder
		for j := range res {
			w.fatal(res[j].Err)
			b.WriteString(killAck(killMain, &recs[j], res[j]))
		}
		w.say(b.String())
	}
}

// killAck returns the line that says that a record was acknowledged.
func killAck(stream string, r *shardlog.Record, res shardlog.PutResult) string {
	return fmt.Sprintf("a %s/%s %d %s %d\n", stream, res.ShardID, counterOf(res.Sequence), r.PartitionKey, binary.BigEndian.Uint32(r.Data))
}

// writeSmall appends one small record after the other, and reports some at a time.
func (w *killWriter) writeSmall(i int) {
	key := fmt.Sprintf("run%d-small%d", w.spec.run, i)
	var b strings.Builder
	for n := uint32(1); ; n++ {
		r := shardlog.Record{PartitionKey: key, Data: killData(key, n, int(n%50))}
		res, err := w.st.Put(context.Background(), r)
		w.fatal(err)
		b.WriteString(killAck(killMain, &r, res))
		if n%8 == 0 {
			w.say(b.String())
			b.Reset()
		}
	}
}

// killKept is how many records a run adds to each stream that keeps all of them.
const killKept = 300

// transact puts a record into each of two streams in one transaction.
func (w *killWriter) transact() {
	ctx := context.Background()
	other, err := w.db.Stream(ctx, killTx)
	w.fatal(err)
	key := fmt.Sprintf("run%d-%s", w.spec.run, killTx)
	for n := uint32(1); n <= killKept; n++ {
		r := shardlog.Record{PartitionKey: key, Data: killData(key, n, int(n%300))}
		tx := w.db.Begin()
		tx.Put(w.st, r)
		tx.Put(other, r)
		res, err := tx.Commit(ctx)
		w.fatal(err)
		w.say(killAck(killMain, &r, res.Records[0]) + killAck(killTx, &r, res.Records[1]))
	}
	select {}
}

// putIf puts each record on the condition that the one before is the last.
func (w *killWriter) putIf() {
	ctx := context.Background()
	st, err := w.db.Stream(ctx, killIf)
	w.fatal(err)
	infos, err := st.Shards(ctx)
	w.fatal(err)
	// A conflict says what the last record is.
	_, err = st.PutIf(ctx, infos[0].ID, infos[0].First, []shardlog.Record{{PartitionKey: "k"}})
	var conflict *shardlog.ConflictError
	if !errors.As(err, &conflict) {
		w.fatal(fmt.Errorf("no conflict: %w", err))
	}
	last := conflict.Actual
	key := fmt.Sprintf("run%d-%s", w.spec.run, killIf)
	for n := uint32(1); n <= killKept; n++ {
		r := shardlog.Record{PartitionKey: key, Data: killData(key, n, int(n%300))}
		res, err := st.PutIf(ctx, infos[0].ID, last, []shardlog.Record{r})
		w.fatal(err)
		last = res[0].Sequence
		w.say(killAck(killIf, &r, res[0]))
	}
	select {}
}

func (w *killWriter) reshape() {
	r := rand.New(rand.NewSource(w.spec.seed ^ 77))
	for {
		time.Sleep(time.Duration(r.Intn(150)) * time.Millisecond)
		w.fatal(w.st.Reshard(context.Background(), 1+r.Intn(5)))
	}
}

// makeStreams creates and deletes streams other than the one that is looked at.
func (w *killWriter) makeStreams() {
	ctx := context.Background()
	for i := 0; ; i++ {
		name := fmt.Sprintf("other-%d-%d", w.spec.run, i)
		st, err := w.db.Create(ctx, name, Config{Shards: 4})
		w.fatal(err)
		for j := range 20 {
			_, err := st.Put(ctx, shardlog.Record{PartitionKey: fmt.Sprint(j), Data: make([]byte, 1000*j)})
			w.fatal(err)
		}
		all, err := w.db.Streams(ctx)
		w.fatal(err)
		for _, old := range all {
			if strings.HasPrefix(old.Name(), "other-") {
				w.fatal(w.db.Delete(ctx, old.Name()))
			}
		}
	}
}

func (w *killWriter) checkpoints() {
	ctx, cps := context.Background(), w.db.Checkpoints()
	k := checkpoint.Key{Group: "g", Stream: "s", Shard: "x"}
	row, err := cps.Get(ctx, k)
	if errors.Is(err, shardlog.ErrNotFound) {
		row, err = cps.Create(ctx, checkpoint.Lease{Key: k})
	}
	w.fatal(err)
	for {
		row.Beat++
		row, err = cps.Update(ctx, row)
		w.fatal(err)
		w.say(fmt.Sprintf("c %d\n", row.Beat))
		time.Sleep(time.Millisecond)
	}
}
