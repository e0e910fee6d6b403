package patterns

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// noLeak fails the test if it leaves goroutines behind.
func noLeak(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
			if time.Now().After(end) {
				stacks := make([]byte, 1<<20)
				t.Fatalf("goroutines are left:\n%s", stacks[:runtime.Stack(stacks, true)])
			}
		}
	})
}

// brief returns a closed loop that ends after a number of records.
func brief(t *testing.T, name string) Workload {
	w, err := Find(name)
	require.NoError(t, err)
	w.Duration, w.WarmUp, w.Records, w.Linger = 0, 0, 600, 0
	if w.Sizes.Bytes > 10_000 {
		w.Sizes.Bytes = 10_000
	}
	return w
}

// sane checks what must hold for every result.
func sane(t *testing.T, res *Result, records int64) {
	t.Helper()
	c := res.Check
	require.Equal(t, Check{Acked: records, Delivered: c.Delivered}, c)
	if n := res.Workload.Consumers.Count; n > 0 {
		require.Equal(t, records, c.Delivered)
		require.Equal(t, records*int64(n), res.Delivery.Count)
		require.LessOrEqual(t, res.Delivered, records*int64(n))
	} else {
		require.Zero(t, res.Delivery.Count)
	}
	require.Zero(t, res.Failed)
	require.Equal(t, records, res.Ack.Count)
	require.Equal(t, records, res.Records)
	require.LessOrEqual(t, res.Ack.P50, res.Ack.P99)
	require.LessOrEqual(t, res.Ack.P999, res.Ack.Max)
	var n, bytes, buckets, shards, seconds int64
	for _, s := range res.Sizes {
		n += s.Records
		bytes += s.Bytes
		require.LessOrEqual(t, s.Bytes, s.Records*s.UpTo)
		require.Greater(t, 2*s.Bytes, s.Records*s.UpTo)
	}
	require.Equal(t, records, n)
	for _, b := range res.Ack.Buckets {
		buckets += b.Count
		require.Less(t, b.From, b.To)
	}
	require.Equal(t, records, buckets)
	require.Len(t, res.Shards, res.Workload.Shards)
	for _, s := range res.Shards {
		shards += s.Records
		require.GreaterOrEqual(t, s.Records, s.WorstSecondRecords)
	}
	require.Equal(t, res.Stored.Records, shards)
	for _, s := range res.PerSecond {
		seconds += s.Records
		require.Len(t, s.StoredRecords, len(res.Shards))
	}
	require.Equal(t, records, seconds)
	require.GreaterOrEqual(t, res.Stored.PutUnits, res.Stored.Records)
	require.Greater(t, res.Bytes, bytes, "with keys")
	if res.Workload.Aggregate {
		require.Less(t, res.Stored.Records, records)
	} else {
		require.Equal(t, records, res.Stored.Records)
		require.Equal(t, res.Bytes, res.Stored.Bytes)
	}
	require.NotEmpty(t, res.Keys)
	require.LessOrEqual(t, res.DistinctKeys, int(records))
}

// TestReadyWorkloads makes a short run of each built-in workload: every record is
// delivered once and in order.
func TestReadyWorkloads(t *testing.T) {
	require.GreaterOrEqual(t, len(Ready()), 12)
	for _, name := range Ready() {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			w := brief(t, name)
			require.Equal(t, name, w.Name)
			require.NotEmpty(t, w.Description)
			dir := t.TempDir()
			res, err := Run(t.Context(), &InProcess{Dir: dir}, w, nil)
			require.NoError(t, err)
			sane(t, res, 600)
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, left)
			require.NotNil(t, res.Disk)
			require.Positive(t, res.Disk.Bytes)
		})
	}
}

// realLines has lines of an access log, some of which are malformed.
func realLines(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "access.log")
	text := strings.Repeat("83.149.9.216 - - [17/May/2015:10:05:03 +0000] \"GET /a HTTP/1.1\" 200 203023\n", 3) +
		"\n\r\nx\n66.249.73.135 - - [17/May/2015:11:05:03 +0000] \"GET /b HTTP/1.1\" 404 12\r\n" +
		strings.Repeat("\u00fc", 300) + " \xff\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestLines(t *testing.T) {
	w := Workload{Records: 60, Memory: true, Batch: 7, Lines: realLines(t), Sizes: Sizes{Kind: SizeLines}, Keys: Keys{Kind: KeyLines},
		Consumers: Consumers{Count: 1}}
	res, err := Run(t.Context(), &InProcess{}, w, nil)
	require.NoError(t, err)
	require.EqualValues(t, 60, res.Check.Delivered)
	require.Equal(t, 4, res.DistinctKeys)
	require.Equal(t, KeyLoad{"83.149.9.216", 30, 0.5}, res.Keys[0])
	require.Nil(t, res.Disk)
	sizes := map[int64]int64{}
	for _, s := range res.Sizes {
		sizes[s.UpTo] = s.Records
	}
	require.Equal(t, map[int64]int64{32: 10, 128: 40, 1024: 10}, sizes)

	// Lines without the field are left out and counted.
	file := filepath.Join(t.TempDir(), "odd.log")
	require.NoError(t, os.WriteFile(file, []byte("\uFEFFa one\nb\n\x00\x00a two\r\n\nc two\nd tw"), 0o600))
	w.Lines, w.Keys.Field, w.Records = file, 2, 6
	res, err = Run(t.Context(), &InProcess{}, w, nil)
	require.NoError(t, err)
	require.EqualValues(t, 2, res.MalformedLines)
	require.Equal(t, 3, res.DistinctKeys)
	var text strings.Builder
	require.NoError(t, NewReport(*res).WriteText(&text))
	require.Contains(t, text.String(), "2 lines of "+file+" are malformed")
	w.Keys.Field = 1
	res, err = Run(t.Context(), &InProcess{}, w, nil)
	require.NoError(t, err)
	require.EqualValues(t, 1, res.MalformedLines)
	require.Equal(t, []string{"a", "b", "c", "d"}, func() (keys []string) {
		for _, k := range res.Keys {
			keys = append(keys, k.Key)
		}
		slices.Sort(keys)
		return keys
	}())
	w.Keys.Field = 9
	_, err = Run(t.Context(), &InProcess{}, w, nil)
	require.ErrorContains(t, err, "5 have none")

	w.Lines = filepath.Join(t.TempDir(), "none")
	_, err = Run(t.Context(), &InProcess{}, w, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(w.Lines, []byte("\n\n"), 0o600))
	_, err = Run(t.Context(), &InProcess{}, w, nil)
	require.ErrorIs(t, err, shardlog.ErrInvalid)
}

// TestOpenLoop checks that records are put at the rate, in total and in each
// second.
func TestOpenLoop(t *testing.T) {
	noLeak(t)
	for _, put := range []string{PutSingle, PutBatch, PutAsync} {
		t.Run(put, func(t *testing.T) {
			w := Workload{Duration: Duration(400 * time.Millisecond), WarmUp: Duration(100 * time.Millisecond), Rate: 1000, Poisson: put == PutAsync,
				Put: put, Producers: 2, Memory: true, Linger: Duration(5 * time.Millisecond), Consumers: Consumers{Count: 2}}
			var last Progress
			calls := 0
			res, err := Run(t.Context(), &InProcess{}, w, &Options{Progress: func(p Progress) { last = p; calls++ }})
			require.NoError(t, err)
			// 400 records were due; those that a stalled machine did not put are
			// reported as backlog.
			require.InDelta(t, 400, res.Check.Acked+res.Backlog, 80)
			require.Equal(t, Check{Acked: res.Check.Acked, Delivered: res.Check.Acked}, res.Check)
			require.InDelta(t, 0.3, res.Seconds, 1e-9)
			require.LessOrEqual(t, res.Ack.Count, res.Check.Acked)
			require.Equal(t, 2*res.Ack.Count, res.Delivery.Count)
			require.Positive(t, calls)
			require.Equal(t, "draining", last.Phase)
			require.Equal(t, res.Check.Acked, last.Acked)
		})
	}
}

// stuckLog is a log whose calls stall.
type stuckLog struct {
	Log
	delay time.Duration
	calls int
}

func (l *stuckLog) PutRecords(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	if l.calls++; l.calls == 3 {
		sleep(ctx, l.delay)
	}
	return l.Log.PutRecords(ctx, records)
}

// PutRequest fails, so that PutRecords is used.
func (l *stuckLog) Close() error { return l.Log.Close() }

// wrapped is a target whose logs are wrapped by another one.
type wrapped struct {
	InProcess
	wrap func(Log) Log
}

func (t *wrapped) Open(ctx context.Context, w *Workload) (Log, error) {
	l, err := t.InProcess.Open(ctx, w)
	if err != nil {
		return nil, err
	}
	return t.wrap(l), nil
}

// TestNoOmission stalls one call: the latency of all records that were due
// meanwhile has to show it, not only that of the record in the call.
func TestNoOmission(t *testing.T) {
	const stall = 200 * time.Millisecond
	w := Workload{Duration: Duration(600 * time.Millisecond), Rate: 500, Put: PutSingle, Memory: true}
	res, err := Run(t.Context(), &wrapped{wrap: func(l Log) Log { return &stuckLog{Log: l, delay: stall} }}, w, nil)
	require.NoError(t, err)
	// A hundred records were due during the stall, and half of them waited for
	// half of it or longer. A driver that measures from the call would see one.
	slow := int64(0)
	for _, b := range res.Ack.Buckets {
		if b.To > int64(stall/2) {
			slow += b.Count
		}
	}
	require.GreaterOrEqual(t, slow, int64(45))
	require.GreaterOrEqual(t, res.Ack.Max, int64(stall))
}

// A run that is ended from outside reports no losses that are none.
func TestEndedRunHasReceivedWhatItStored(t *testing.T) {
	noLeak(t)
	ctx, cancel := context.WithCancel(t.Context())
	w := Workload{Duration: Duration(time.Hour), Memory: true, Sizes: Sizes{Bytes: 100}, Consumers: Consumers{Count: 2}}
	res, err := Run(ctx, &InProcess{}, w, &Options{Progress: func(Progress) { cancel() }})
	require.NoError(t, err)
	require.Positive(t, res.Check.Acked)
	require.Zero(t, res.Check.Missing)
}
