package patterns

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// TestDefaults checks that defaults are those that the comments promise.
func TestDefaults(t *testing.T) {
	w, err := Workload{}.WithDefaults()
	require.NoError(t, err)
	require.Equal(t, Workload{
		Name: "custom", Duration: Duration(10 * time.Second), Seed: 1,
		Sizes: Sizes{Kind: SizeFixed, Bytes: 256}, Keys: Keys{Kind: KeyUniform, Count: 10_000},
		Producers: 1, Put: PutBatch, Batch: 500, Shards: 1, Sync: "always", Compression: "none", Limits: "none", Drain: Duration(30 * time.Second),
	}, w)
	again, err := w.WithDefaults()
	require.NoError(t, err)
	require.Equal(t, w, again)

	w, err = Workload{Records: 5, Rate: 10, Put: PutAsync, Sizes: Sizes{Kind: SizeLogNormal}, Keys: Keys{Kind: KeyZipf}, Consumers: Consumers{Count: 2, Mode: ConsumePoll}}.WithDefaults()
	require.NoError(t, err)
	require.Zero(t, w.Duration)
	require.Zero(t, w.Linger)
	require.Equal(t, 10_000, w.Window)
	require.Equal(t, Sizes{SizeLogNormal, 256, 0.5, 1<<20 - 256}, w.Sizes)
	require.Equal(t, 1.0, w.Keys.Exponent)
	require.Equal(t, Consumers{2, ConsumePoll, 0, Duration(200 * time.Millisecond)}, w.Consumers)

	w, err = Workload{Rate: 10, Keys: Keys{Kind: KeyHot}, Consumers: Consumers{Count: 1, Mode: ConsumeGroup}}.WithDefaults()
	require.NoError(t, err)
	require.Equal(t, Duration(100*time.Millisecond), w.Linger)
	require.Equal(t, 0.5, w.Keys.HotShare)
	require.Equal(t, 1, w.Consumers.Workers)

	w, err = Workload{Lines: "x", Keys: Keys{Kind: KeyLines}, Consumers: Consumers{Count: 1}}.WithDefaults()
	require.NoError(t, err)
	require.Equal(t, Keys{Kind: KeyLines, Field: 1}, w.Keys)
	require.Equal(t, ConsumeTail, w.Consumers.Mode)
}

// TestFaults checks that an error names every faulty field.
func TestFaults(t *testing.T) {
	bad := map[string]Workload{
		"records":             {Records: -1},
		"duration":            {Duration: -1},
		"warmUp":              {Duration: 5, WarmUp: 5},
		"sizes.kind":          {Sizes: Sizes{Kind: "x"}},
		"sizes.bytes":         {Sizes: Sizes{Bytes: MinSize - 1}},
		"sizes.sigma":         {Sizes: Sizes{Kind: SizeLogNormal, Sigma: 5}},
		"sizes.max":           {Sizes: Sizes{Kind: SizeLogNormal, Max: 1 << 20}},
		"keys.kind":           {Keys: Keys{Kind: "x"}},
		"keys.count":          {Keys: Keys{Count: 1<<20 + 1}},
		"keys.exponent":       {Keys: Keys{Kind: KeyZipf, Exponent: -1}},
		"keys.hotShare":       {Keys: Keys{Kind: KeyHot, HotShare: 1.1}},
		"keys.field":          {Lines: "x", Keys: Keys{Kind: KeyLines, Field: -1}},
		"lines":               {Lines: "x"},
		"rate":                {Rate: -1},
		"poisson":             {Poisson: true},
		"producers":           {Producers: 5000},
		"put":                 {Put: "x"},
		"batch":               {Batch: 10_001},
		"linger":              {Linger: -1},
		"window":              {Put: PutAsync, Window: -1},
		"aggregate":           {Aggregate: true},
		"shards":              {Shards: -1},
		"sync":                {Sync: "x"},
		"compression":         {Compression: "x"},
		"limits":              {Limits: "x"},
		"consumers.count":     {Consumers: Consumers{Count: -1}},
		"consumers.mode":      {Consumers: Consumers{Count: 1, Mode: "x"}},
		"consumers.workers":   {Consumers: Consumers{Count: 1, Mode: ConsumeGroup, Workers: -1}},
		"consumers.pollEvery": {Consumers: Consumers{Count: 1, Mode: ConsumePoll, PollEvery: 1}},
		"drain":               {Drain: -1},
	}
	for field, w := range bad {
		_, err := w.WithDefaults()
		var invalid *shardlog.InvalidError
		require.ErrorAs(t, err, &invalid, field)
		require.Equal(t, field, invalid.Field)
		_, err = Run(t.Context(), &InProcess{}, w, nil)
		require.ErrorIs(t, err, shardlog.ErrInvalid)
	}
	// Also where the rest of the workload makes no use of the value.
	for field, w := range map[string]Workload{
		"sizes.bytes":         {Lines: "x", Sizes: Sizes{Kind: SizeLines, Bytes: -1}},
		"sizes.sigma":         {Sizes: Sizes{Sigma: -1}},
		"sizes.max":           {Sizes: Sizes{Max: -1}},
		"keys.count":          {Lines: "x", Keys: Keys{Kind: KeyLines, Count: -1}},
		"keys.exponent":       {Keys: Keys{Exponent: -1}},
		"keys.hotShare":       {Keys: Keys{HotShare: 2}},
		"keys.field":          {Keys: Keys{Field: -1}},
		"window":              {Window: -1},
		"consumers.mode":      {Consumers: Consumers{Mode: "x"}},
		"consumers.workers":   {Consumers: Consumers{Workers: -1}},
		"consumers.pollEvery": {Consumers: Consumers{PollEvery: -1}},
	} {
		_, err := w.WithDefaults()
		var invalid *shardlog.InvalidError
		require.ErrorAs(t, err, &invalid, field)
		require.Equal(t, field, invalid.Field)
	}
	_, err := Workload{Producers: -1, Shards: -1, Put: "x"}.WithDefaults()
	joined, ok := err.(interface{ Unwrap() []error })
	require.True(t, ok)
	require.Len(t, joined.Unwrap(), 3)
	_, err = Workload{Sizes: Sizes{Kind: SizeLines}}.WithDefaults()
	require.ErrorContains(t, err, "invalid lines")
}

func TestParse(t *testing.T) {
	w, err := Parse([]byte("name: a\nduration: 1m30s\nkeys: {kind: hot, hotShare: 0.25}\nconsumers:\n  count: 2\n  pollEvery: 10ms\n"))
	require.NoError(t, err)
	require.Equal(t, Workload{Name: "a", Duration: Duration(90 * time.Second), Keys: Keys{Kind: KeyHot, HotShare: 0.25}, Consumers: Consumers{Count: 2, PollEvery: Duration(10 * time.Millisecond)}}, w)
	w, err = Parse(nil)
	require.NoError(t, err)
	require.Equal(t, Workload{}, w)
	for _, text := range []string{"nmae: a", "duration: 10", "duration: [1]", "- a", "rate: many", "name: a\n---\nname: b", "\tx"} {
		_, err := Parse([]byte(text))
		require.ErrorIs(t, err, shardlog.ErrInvalid, text)
	}
	_, err = Find("../check")
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	for _, name := range Ready() {
		w, err := Find(name)
		require.NoError(t, err)
		_, err = w.WithDefaults()
		require.NoError(t, err)
	}
}

// TestYAMLAndJSONHaveTheSameNames matters because a workload is copied from a
// report, which is JSON, to run it again.
func TestYAMLAndJSONHaveTheSameNames(t *testing.T) {
	for _, typ := range []reflect.Type{reflect.TypeFor[Workload](), reflect.TypeFor[Sizes](), reflect.TypeFor[Keys](), reflect.TypeFor[Consumers]()} {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			require.Equal(t, f.Tag.Get("yaml"), name, f.Name)
			require.NotEmpty(t, name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range Ready() {
		text, err := Text(name)
		require.NoError(f, err)
		f.Add([]byte(text))
	}
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := Parse(data)
		if err != nil {
			require.ErrorIs(t, err, shardlog.ErrInvalid)
			return
		}
		w, err = w.WithDefaults()
		if err != nil {
			require.ErrorIs(t, err, shardlog.ErrInvalid)
			return
		}
		again, err := w.WithDefaults()
		require.NoError(t, err)
		require.Equal(t, w, again)
	})
}

func FuzzRead(f *testing.F) {
	f.Add(`{"format":"shardlog-bench","version":1,"results":[{"workload":{"name":"a","duration":"1s"},"ack":{"count":1,"p50":5}}]}`)
	f.Fuzz(func(t *testing.T, data string) {
		rep, err := Read(strings.NewReader(data))
		if err != nil {
			require.ErrorIs(t, err, shardlog.ErrInvalid)
			return
		}
		rows := Compare(rep, rep)
		for i := range rows {
			for _, d := range rows[i].Differences {
				require.NotContains(t, []string{Better, Worse}, d.Verdict, "with itself")
			}
		}
		var b strings.Builder
		require.NoError(t, rep.WriteText(&b))
		require.NoError(t, WriteComparison(&b, []string{"a", "b"}, rows))
		if err := WriteHTML(&b, []string{"a", "b"}, []*Report{rep, rep}); err != nil {
			require.ErrorIs(t, err, shardlog.ErrInvalid)
		}
	})
}

func TestReadRefuses(t *testing.T) {
	for _, text := range []string{"", "{", "[]", "{}", `{"format":"other","version":1}`, `{"format":"shardlog-bench","version":2}`, `{"format":"shardlog-bench"}`} {
		_, err := Read(strings.NewReader(text))
		require.ErrorIs(t, err, shardlog.ErrInvalid, text)
	}
	file := filepath.Join(t.TempDir(), "x")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	var invalid *shardlog.InvalidError
	_, err := Find("x")
	require.True(t, errors.As(err, &invalid))
	require.Equal(t, "workload", invalid.Field)
}
