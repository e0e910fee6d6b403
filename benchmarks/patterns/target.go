package patterns

import (
	"context"
	"errors"
	"os"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Target is a kind of log that workloads run on.
type Target interface {
	// Name says what it is, for reports.
	Name() string
	// Exact tells whether records are stored once and in the order of their
	// key even when calls fail, so that anything else is a fault.
	Exact() bool
	// Open makes a new and empty log for one run of w, whose defaults are
	// filled in, with w.Shards open shards. What w asks for and the target
	// does not have is a *shardlog.InvalidError, so that no run is taken for
	// what it is not. It may empty fields of w that mean nothing to it.
	Open(ctx context.Context, w *Workload) (Log, error)
}

// Log is what one run puts records on and reads them from. A Log that is a
// shardlog.DedicatedReader or a FanOut can have consumers of ConsumeFanOut. One
// whose Capabilities have Pushes can have those of ConsumeTail. Consumers of
// ConsumeGroup keep their checkpoints in the Log's own store if it is a
// checkpoint.Provider, and in memory if not. All methods but Close are safe for concurrent use.
type Log interface {
	shardlog.Sink
	shardlog.Source
	// Usage returns what is stored; zero if the log does not tell.
	Usage() Usage
	// Close ends the log and removes what is stored. It blocks until that is
	// done.
	Close() error
}

// FanOut is a Log that has to know which consumer it is that reads with a
// throughput of its own.
type FanOut interface {
	Log
	// Dedicated returns the reads of the n-th consumer, from 0 on, which are as
	// those of Source. They are called for different shards at a time.
	Dedicated(ctx context.Context, n int) (func(context.Context, shardlog.ReadRequest) (shardlog.Page, error), error)
}

// Usage is what a log stores.
type Usage struct {
	// DiskBytes is what its files take, LiveBytes what of it is in use.
	DiskBytes, LiveBytes int64
	// Syncs is how often the disk was waited for.
	Syncs int64
}

// InProcess is the Target that is a stream in this process.
type InProcess struct {
	// Dir is where the database's directory is made, which is removed with the
	// log. Defaults to the system's directory for temporary files.
	Dir string
}

// Name implements Target.
func (t *InProcess) Name() string { return "in-process stream" }

// Exact implements Target.
func (t *InProcess) Exact() bool { return true }

// Open implements Target.
func (t *InProcess) Open(ctx context.Context, w *Workload) (Log, error) {
	opts := stream.Options{InMemory: w.Memory, Durability: map[string]stream.Durability{
		"always": stream.SyncAlways, "interval": stream.SyncInterval, "never": stream.SyncNever}[w.Sync]}
	cfg := stream.Config{Shards: w.Shards, Compression: map[string]stream.Compression{
		"none": stream.NoCompression, "s2": stream.S2, "zstd": stream.Zstd}[w.Compression]}
	if w.Limits == "kinesis" {
		cfg.Limits = stream.KinesisLimits()
	}
	dir := ""
	if !w.Memory {
		var err error
		if dir, err = os.MkdirTemp(t.Dir, "shardlog-bench-"); err != nil {
			return nil, err
		}
	}
	l := &streamLog{dir: dir}
	var err error
	if l.db, err = stream.Open(dir, &opts); err != nil {
		return nil, errors.Join(err, l.remove())
	}
	if l.Stream, err = l.db.Create(ctx, "bench", cfg); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// streamLog is a Log of InProcess.
type streamLog struct {
	*stream.Stream
	db  *stream.DB
	dir string
}

// Usage implements Log.
func (l *streamLog) Usage() Usage {
	s := l.db.Stats()
	if l.dir == "" {
		return Usage{}
	}
	return Usage{DiskBytes: s.DiskBytes, LiveBytes: s.LiveBytes, Syncs: s.Syncs}
}

// Close implements Log.
func (l *streamLog) Close() error { return errors.Join(l.db.Close(), l.remove()) }

func (l *streamLog) remove() error {
	if l.dir == "" {
		return nil
	}
	return os.RemoveAll(l.dir)
}
