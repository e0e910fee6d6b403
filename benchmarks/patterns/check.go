package patterns

import (
	"errors"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Bounds of workloads.
const (
	maxKeys      = 1 << 20
	maxProducers = 4096
	maxBatch     = 10_000
	maxData      = shardlog.DefaultRecordSize - shardlog.MaxPartitionKeyLength
	maxConsumers = 1000
)

// Bounds of a workload's figures that others check before they make one.
const (
	// MaxSize is the largest size of a record's data, in bytes: a record of
	// Kinesis's default limit with the longest key.
	MaxSize = maxData
	// MaxShards is the largest number of shards.
	MaxShards = stream.MaxShards
)

// checker collects the faults of a workload.
type checker struct{ errs []error }

func (c *checker) bad(field string, value any, limit string) {
	c.errs = append(c.errs, &shardlog.InvalidError{Field: field, Value: value, Limit: limit})
}

// oneOf fills in the default, which is the first choice, and reports a value
// that is none of the choices.
func (c *checker) oneOf(field string, v *string, limit string, choices ...string) {
	if *v == "" {
		*v = choices[0]
	}
	for _, s := range choices {
		if *v == s {
			return
		}
	}
	c.bad(field, *v, limit)
}

// number is a type with an order, whose zero stands for the default.
type number interface{ ~int | ~int64 | ~float64 }

// within fills in the default and reports a value out of bounds.
func within[T number](c *checker, field string, v *T, def, lo, hi T, limit string) {
	if *v == 0 {
		*v = def
	}
	if !(*v >= lo && *v <= hi) {
		c.bad(field, *v, limit)
	}
}

// A value is checked also where the rest of the workload makes no use of it; only
// then is it dropped.

// WithDefaults returns w with its defaults filled in. The error joins a
// *shardlog.InvalidError for each field that is out of its limits. It does not
// look for the file Lines.
func (w Workload) WithDefaults() (Workload, error) {
	var c checker
	if w.Name == "" {
		w.Name = "custom"
	}
	const year = Duration(365 * 24 * time.Hour)
	if w.Records < 0 {
		c.bad("records", w.Records, "0 or more")
	}
	if w.Duration == 0 && w.Records == 0 {
		w.Duration = Duration(10 * time.Second)
	}
	within(&c, "duration", &w.Duration, 0, 0, year, "0s to 8760h")
	within(&c, "warmUp", &w.WarmUp, 0, 0, year, "0s to 8760h")
	if w.Duration > 0 && w.WarmUp >= w.Duration {
		c.bad("warmUp", w.WarmUp, "less than duration, "+w.Duration.String())
	}
	if w.Seed == 0 {
		w.Seed = 1
	}
	w.Sizes.check(&c)
	w.Keys.check(&c)
	lines := w.Sizes.Kind == SizeLines || w.Keys.Kind == KeyLines
	if lines && w.Lines == "" {
		c.bad("lines", "", "a file, for sizes or keys of kind lines")
	} else if !lines && w.Lines != "" {
		c.bad("lines", w.Lines, "empty unless sizes or keys are of kind lines")
	}
	w.checkPut(&c)
	w.checkLog(&c)
	w.Consumers.check(&c)
	within(&c, "drain", &w.Drain, Duration(30*time.Second), Duration(time.Millisecond), year, "1ms to 8760h")
	return w, errors.Join(c.errs...)
}

func (s *Sizes) check(c *checker) {
	c.oneOf("sizes.kind", &s.Kind, "fixed, lognormal or lines", SizeFixed, SizeLogNormal, SizeLines)
	within(c, "sizes.bytes", &s.Bytes, 256, MinSize, maxData, "20 to 1048320")
	within(c, "sizes.sigma", &s.Sigma, 0.5, 1e-6, 4, "above 0 and up to 4")
	within(c, "sizes.max", &s.Max, maxData, MinSize, maxData, "20 to 1048320")
	if s.Kind != SizeLogNormal {
		s.Sigma, s.Max = 0, 0
	}
	if s.Kind == SizeLines {
		s.Bytes = 0
	}
}

func (k *Keys) check(c *checker) {
	c.oneOf("keys.kind", &k.Kind, "uniform, zipf, hot or lines", KeyUniform, KeyZipf, KeyHot, KeyLines)
	within(c, "keys.field", &k.Field, 1, 1, 10_000, "1 to 10000")
	within(c, "keys.count", &k.Count, 10_000, 1, maxKeys, "1 to 1048576")
	within(c, "keys.exponent", &k.Exponent, 1, 0.01, 10, "0.01 to 10")
	within(c, "keys.hotShare", &k.HotShare, 0.5, 1e-9, 1, "above 0 and up to 1")
	if k.Kind == KeyLines {
		k.Count = 0
	} else {
		k.Field = 0
	}
	if k.Kind != KeyZipf {
		k.Exponent = 0
	}
	if k.Kind != KeyHot {
		k.HotShare = 0
	}
}

func (w *Workload) checkPut(c *checker) {
	if !(w.Rate >= 0 && w.Rate <= 1e9) {
		c.bad("rate", w.Rate, "0 to 1e9 records a second")
	}
	if w.Poisson && w.Rate == 0 {
		c.bad("poisson", true, "false without a rate")
	}
	within(c, "producers", &w.Producers, 1, 1, maxProducers, "1 to 4096")
	c.oneOf("put", &w.Put, "batch, single or async", PutBatch, PutSingle, PutAsync)
	if w.Put == PutSingle {
		w.Batch = 1
	}
	within(c, "batch", &w.Batch, 500, 1, maxBatch, "1 to 10000")
	if w.Put == PutBatch && w.Rate > 0 && w.Linger == 0 {
		w.Linger = Duration(100 * time.Millisecond)
	}
	within(c, "linger", &w.Linger, 0, 0, Duration(time.Minute), "0s to 1m")
	within(c, "window", &w.Window, 10_000, 1, 10_000_000, "1 to 10000000")
	if w.Put != PutAsync {
		w.Window = 0
	}
	if w.Aggregate && w.Put != PutAsync {
		c.bad("aggregate", true, "false unless put is async")
	}
}

func (w *Workload) checkLog(c *checker) {
	within(c, "shards", &w.Shards, 1, 1, stream.MaxShards, "1 to 10000")
	c.oneOf("sync", &w.Sync, "always, interval or never", "always", "interval", "never")
	c.oneOf("compression", &w.Compression, "none, s2 or zstd", "none", "s2", "zstd")
	c.oneOf("limits", &w.Limits, "none or kinesis", "none", "kinesis")
}

func (k *Consumers) check(c *checker) {
	within(c, "consumers.count", &k.Count, 0, 0, maxConsumers, "0 to 1000")
	c.oneOf("consumers.mode", &k.Mode, "tail, poll, fanout or group", ConsumeTail, ConsumePoll, ConsumeFanOut, ConsumeGroup)
	within(c, "consumers.workers", &k.Workers, 1, 1, maxConsumers, "1 to 1000")
	within(c, "consumers.pollEvery", &k.PollEvery, Duration(200*time.Millisecond), Duration(time.Millisecond), Duration(time.Hour), "1ms to 1h")
	if k.Mode != ConsumeGroup {
		k.Workers = 0
	}
	if k.Mode != ConsumePoll {
		k.PollEvery = 0
	}
	if k.Count == 0 {
		*k = Consumers{}
	}
}
