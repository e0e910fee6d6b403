package consumer_test

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
)

// complete is a source that has everything that Options may leave out.
type complete struct {
	*source
	store checkpoint.Store
}

func (c complete) Checkpoints() checkpoint.Store { return c.store }

func TestDefaults(t *testing.T) {
	st := newStore()
	c, err := consumer.New(complete{newSource(1), st}, nil)
	require.NoError(t, err)
	o := c.Resolved()
	host, err := os.Hostname()
	require.NoError(t, err)
	assert.Equal(t, "default", o.Group)
	assert.Equal(t, "orders", o.Stream)
	assert.Same(t, st, o.Store)
	assert.Regexp(t, "^"+regexp.QuoteMeta(host)+`-\d+-[A-Z2-7]{26}$`, o.WorkerID)
	assert.Equal(t, shardlog.TrimHorizon(), o.Start)
	assert.Nil(t, o.OnTrimmed)
	assert.Nil(t, o.OnEvent)
	assert.False(t, o.Logger.Enabled(context.Background(), slog.LevelError))

	// What the comments say is what the code does.
	documented := docs(t, "Options", "Retry")
	for field, got := range map[string]any{
		"Group": o.Group, "MaxBatchRecords": o.MaxBatchRecords, "MaxBatchBytes": o.MaxBatchBytes, "PollWait": o.PollWait,
		"CheckpointEvery": o.CheckpointEvery, "DiscoverEvery": o.DiscoverEvery, "ShutdownTimeout": o.ShutdownTimeout,
		"LeaseTTL": o.LeaseTTL, "HandOff": o.HandOff, "PrefetchBytes": o.PrefetchBytes, "PerKey": o.PerKey, "Lanes": o.Lanes,
		"MaxLeases": time.Duration(o.MaxLeases), "MaxAttempts": time.Duration(o.MaxAttempts), "MaxAge": o.MaxAge, "BatchWindow": o.BatchWindow,
		"Initial": o.Retry.Initial, "Max": o.Retry.Max,
	} {
		want := map[any]string{
			"default": `"default"`, 1: "1:", int64(4 << 20): "4 MiB", 1000: "1,000", 1 << 20: "1 MiB", 20 * time.Second: "20 s", time.Duration(0): "0:",
			10 * time.Second: "10 s", 30 * time.Second: "30 s", 100 * time.Millisecond: "100 ms",
		}[got]
		require.NotEmpty(t, want, field)
		assert.Contains(t, documented[field], "Defaults to "+want, field)
	}
	for field, text := range documented {
		if field != "Retry" {
			assert.Contains(t, text, "Defaults to ", field)
		}
	}
}

// docs returns the comments of the fields of some types.
func docs(t *testing.T, types ...string) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "options.go", nil, parser.ParseComments)
	require.NoError(t, err)
	out := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		for _, name := range types {
			if s, ok := spec.Type.(*ast.StructType); ok && spec.Name.Name == name {
				for _, field := range s.Fields.List {
					out[field.Names[0].Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
				}
			}
		}
		return true
	})
	require.NotEmpty(t, out)
	return out
}

func TestEveryFaultIsReportedAtOnce(t *testing.T) {
	_, err := consumer.New(nil, &consumer.Options{
		Group: "\xff", WorkerID: strings.Repeat("x", 256), Start: shardlog.After(seq(0, 1)),
		MaxBatchRecords: 10_001, MaxBatchBytes: -1, PollWait: -1, CheckpointEvery: -1, DiscoverEvery: -1, ShutdownTimeout: -1,
		Retry: consumer.Retry{Initial: time.Hour, Max: time.Minute},
	})
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	for _, field := range []string{
		"Source", "Store", "Group", "Stream", "WorkerID", "Start", "MaxBatchRecords", "MaxBatchBytes",
		"PollWait", "CheckpointEvery", "DiscoverEvery", "ShutdownTimeout", "Retry.Max",
	} {
		assert.ErrorContains(t, err, "invalid "+field+" ")
	}
}

func TestInvalidOptions(t *testing.T) {
	for field, o := range map[string]consumer.Options{
		"Start":               {Start: shardlog.AtTime(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))},
		"WorkerID":            {WorkerID: "\xff"},
		"Group":               {Group: strings.Repeat("x", 256)},
		"MaxBatchRecords":     {MaxBatchRecords: -1},
		"MaxBatchBytes":       {MaxBatchBytes: 10<<20 + 1},
		"Lanes":               {Lanes: 2, PerKey: 2},
		"ExplicitCheckpoints": {Lanes: 2, ExplicitCheckpoints: true},
		"BatchWindow":         {Lanes: 2, BatchWindow: time.Second},
		"EmptyBatches":        {PerKey: 2, EmptyBatches: true},
		"CheckpointEvery":     {CheckpointEvery: time.Second, ExplicitCheckpoints: true},
		"WholeAggregates":     {WholeAggregates: true, KeepAggregates: true},
		"OnRefused":           {Drop: true, OnRefused: func(consumer.DeadLetter, error) error { return nil }},
		"Retry.Initial":       {Retry: consumer.Retry{Initial: -1}},
		"Retry.Max":           {Retry: consumer.Retry{Max: -1}},
		"Store":               {Store: (*checkpoint.Memory)(nil)},
	} {
		if field != "Store" {
			o.Store = newStore()
		}
		_, err := consumer.New(newSource(1), &o)
		var invalid *shardlog.InvalidError
		require.ErrorAs(t, err, &invalid, field)
		assert.Equal(t, field, invalid.Field)
	}
	_, err := consumer.New(unnamed{newSource(1)}, &consumer.Options{Store: newStore()})
	require.ErrorContains(t, err, "invalid Stream")
}

func TestOptionsAreCopied(t *testing.T) {
	o := consumer.Options{Store: newStore()}
	c, err := consumer.New(newSource(1), &o)
	require.NoError(t, err)
	assert.Equal(t, consumer.Options{Store: o.Store}, o, "the caller's value is not filled in")
	o.Group = "changed"
	assert.Equal(t, "default", c.Resolved().Group)
}

func TestLongInitialPauseRaisesTheMaximum(t *testing.T) {
	c, err := consumer.New(newSource(1), &consumer.Options{Store: newStore(), Retry: consumer.Retry{Initial: time.Hour}})
	require.NoError(t, err)
	assert.Equal(t, time.Hour, c.Resolved().Retry.Max)
}

func TestLogger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var out bytes.Buffer
		src := newSource(1)
		src.put(0, 1)
		r := start(t, src, consumer.HandlerFunc(func(_ context.Context, b *consumer.Batch) error {
			if b.Attempt == 1 {
				panic("at the disco")
			}
			return nil
		}), consumer.Options{Store: newStore(), Logger: slog.New(slog.NewTextHandler(&out, nil))})
		time.Sleep(time.Minute)
		r.stop()
		for _, want := range []string{
			"lease taken", "handler failed", "handler panicked: at the disco", "TestLogger",
			"shard=" + shardID(0), "group=default", "stream=orders", "epoch=1", "attempt=1",
		} {
			assert.Contains(t, out.String(), want)
		}
	})
}
