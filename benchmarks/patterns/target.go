package patterns

import (
	"context"
	"errors"
	"os"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Target is a log that workloads run on, such as one in this process or one at
// an endpoint.
type Target interface {
	// Name identifies it in reports.
	Name() string
	// Exact reports whether records are stored once and in the order of their
	// key even when calls fail, so that copies and disorder are faults.
	Exact() bool
	// Open creates an empty log for one run of w, whose defaults are filled in,
	// with w.Shards open shards. If w asks for something that the target does
	// not have, the error is a *shardlog.InvalidError, so that no report
	// claims it. Open may clear fields of w that have no meaning for the
	// target.
	Open(ctx context.Context, w *Workload) (Log, error)
}

// Log is where one run puts records and reads them. A Log that is a
// shardlog.DedicatedReader or a FanOut can have consumers of ConsumeFanOut. One
// whose Capabilities have Pushes can have those of ConsumeTail. Consumers of
// ConsumeGroup keep their checkpoints in the Log's own store if it is a
// checkpoint.Provider, and in memory if not. All methods except Close are safe for
// concurrent use.
type Log interface {
	shardlog.Sink
	shardlog.Source
	// Usage returns the size of what is stored, the zero value if the log does
	// not report it.
	Usage() Usage
	// Close ends the log and removes what is stored. It blocks until that is
	// done.
	Close() error
}

// FanOut is a Log whose consumers with dedicated throughput are registered, so
// that it has to know which of them reads.
type FanOut interface {
	Log
	// Dedicated returns the method by which the n-th consumer, from 0 on, reads.
	// It is like Source.Read, and is called for several shards at the same
	// time.
	Dedicated(ctx context.Context, n int) (func(context.Context, shardlog.ReadRequest) (shardlog.Page, error), error)
}

// Usage is the size of what a log stores.
type Usage struct {
	// DiskBytes is the size of its files, LiveBytes the part that is in use.
	DiskBytes, LiveBytes int64
	// Syncs is the number of syncs to the disk.
	Syncs int64
}

// InProcess is the Target that is a stream in this process.
type InProcess struct {
	// Dir is the directory in which the database's directory is created, which
	// is removed with the log. Defaults to the system's directory for temporary
	// files.
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
