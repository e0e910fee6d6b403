package stream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// requireInvalid checks that an error names the field and the limit.
func requireInvalid(t *testing.T, err error, field string) {
	t.Helper()
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	var invalid *shardlog.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.NotEmpty(t, invalid.Limit)
	require.Contains(t, err.Error(), field)
	require.Contains(t, err.Error(), "must be ")
	require.False(t, shardlog.Retryable(err))
	var at *shardlog.Error
	require.ErrorAs(t, err, &at)
	require.NotEmpty(t, at.Op)
}

// snapshotOf is what a refused call must not change.
func snapshotOf(t *testing.T, st *Stream) string {
	t.Helper()
	n := 0
	for _, s := range st.Stats().Shards {
		n += int(s.Records)
	}
	return fmt.Sprintf("%+v %+v %d %d", st.Info(), shards(t, st), n, len(readStream(t, st)))
}

func TestRefusedStreamNamesAndConfigurations(t *testing.T) {
	db := openMem(t)
	for _, name := range []string{"", "a b", "a/b", "ä", "a\x00", "a\n", strings.Repeat("x", 129)} {
		_, err := db.Create(t.Context(), name, Config{})
		requireInvalid(t, err, "stream name")
	}
	tags := map[string]string{}
	for i := range MaxTags + 1 {
		tags[fmt.Sprint(i)] = ""
	}
	for field, cfg := range map[string]Config{
		"Config.Shards":        {Shards: -1},
		"Config.Shards 10001":  {Shards: MaxShards + 1},
		"Retention 1ms":        {Retention: time.Millisecond},
		"Retention 8760h0m0.0": {Retention: MaxRetention + 1},
		"Retention -2ns":       {Retention: Forever - 1},
		"RetentionBytes 1":     {RetentionBytes: 1},
		"RetentionBytes -1":    {RetentionBytes: -1},
		"RetentionBytes 65535": {RetentionBytes: MinRetentionBytes - 1},
		"Config.MaxRecordSize": {MaxRecordSize: -1},
		"MaxRecordSize 104857": {MaxRecordSize: shardlog.MaxRecordSize + 1},
		"Config.Compression":   {Compression: Zstd + 1},
		"Config.Hash":          {Hash: XXHash + 1},
		"Limits.WriteRecords":  {Limits: Limits{WriteRecords: math.NaN()}},
		"Limits.WriteBytes":    {Limits: Limits{WriteBytes: -1}},
		"Limits.ReadBytes":     {Limits: Limits{ReadBytes: math.Inf(1)}},
		"Limits.ReadCalls":     {Limits: Limits{ReadCalls: math.Inf(-1)}},
		"Tags 51":              {Tags: tags},
		"tag key":              {Tags: map[string]string{"": "x"}},
		"tag key \"kk":         {Tags: map[string]string{strings.Repeat("k", 129): "x"}},
		"tag value":            {Tags: map[string]string{"x": strings.Repeat("é", 257)}},
		"tag value \"":         {Tags: map[string]string{"x": "\xff"}},
	} {
		_, err := db.Create(t.Context(), "s", cfg)
		requireInvalid(t, err, field)
	}
	_, err := db.Create(t.Context(), "a b", Config{Shards: -1, Retention: 1, RetentionBytes: 1, MaxRecordSize: -1,
		Compression: 9, Hash: 9, Limits: Limits{WriteRecords: -1, WriteBytes: -1, ReadBytes: -1, ReadCalls: -1}, Tags: tags})
	for _, field := range []string{"stream name", "Shards", "Retention", "RetentionBytes", "MaxRecordSize", "Compression", "Hash",
		"WriteRecords", "WriteBytes", "ReadBytes", "ReadCalls", "Tags"} {
		requireInvalid(t, err, field)
	}
	created, err := db.Streams(t.Context())
	require.NoError(t, err)
	require.Empty(t, created)
	for _, name := range []string{"a", ".", "_-.", strings.Repeat("x", 128)} {
		create(t, db, name, Config{})
	}
	_, err = db.Create(t.Context(), "a", Config{})
	require.ErrorIs(t, err, shardlog.ErrExists)
	_, err = db.Stream(t.Context(), "unknown")
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	require.ErrorIs(t, db.Delete(t.Context(), "unknown"), shardlog.ErrNotFound)
}

func TestRefusedOptions(t *testing.T) {
	bad := &Options{Durability: 7, SyncInterval: 1, EncryptionKey: make([]byte, 5), MinFreeBytes: -1,
		ValueLogFileBytes: 1, TailBytes: -1, CacheBytes: 1 << 31}
	_, err := Open("", bad)
	for _, field := range []string{"dir", "Durability", "SyncInterval", "EncryptionKey", "MinFreeBytes", "ValueLogFileBytes", "TailBytes", "CacheBytes"} {
		requireInvalid(t, err, field)
	}
	dir := t.TempDir() + "/db"
	_, err = Open(dir, bad)
	requireInvalid(t, err, "Options.")
	require.NoDirExists(t, dir)
	_, err = Open(dir, &Options{InMemory: true, EncryptionKey: make([]byte, 16)})
	requireInvalid(t, err, "dir")
	requireInvalid(t, err, "EncryptionKey")
	require.NotContains(t, err.Error(), fmt.Sprint(make([]byte, 16)))
	_, err = Open("", nil)
	requireInvalid(t, err, "dir")
}

func TestRefusedRecords(t *testing.T) {
	st := create(t, openMem(t), "s", Config{Shards: 2, MaxRecordSize: 1000})
	put(t, st, "a", "x")
	before := snapshotOf(t, st)
	headers := make([]shardlog.Header, shardlog.MaxHeaders+1)
	for field, r := range map[string]shardlog.Record{
		"PartitionKey \"\"":         {},
		"PartitionKey \"of 257 cha": {PartitionKey: strings.Repeat("é", 257)},
		"PartitionKey \"\\xff":      {PartitionKey: "\xffkey"},
		"PartitionKey \"of 1000000": {PartitionKey: strings.Repeat("k", 1_000_000)},
		"Headers 257":               {PartitionKey: "k", Headers: headers},
		"Data \"of 1001 bytes":      {PartitionKey: "k", Data: make([]byte, 1000)},
		"Data \"of 1004 bytes":      {PartitionKey: "k", Data: make([]byte, 1), Headers: []shardlog.Header{{Key: "kk", Value: strings.Repeat("v", 1000)}}},
	} {
		_, err := st.Put(t.Context(), r)
		requireInvalid(t, err, field)
		_, err = st.PutRecords(t.Context(), []shardlog.Record{{PartitionKey: "good"}, r})
		requireInvalid(t, err, "records[1]."+field)
		_, err = st.PutIf(t.Context(), shardID(0), shardlog.SequenceNumber{}, []shardlog.Record{r})
		requireInvalid(t, err, field)
	}
	many := make([]shardlog.Record, 100)
	_, err := st.PutRecords(t.Context(), many)
	requireInvalid(t, err, "records[9]")
	require.Equal(t, before, snapshotOf(t, st))

	for _, r := range []shardlog.Record{
		{PartitionKey: strings.Repeat("€", 256)},
		{PartitionKey: "k", Data: make([]byte, 999)},
		{PartitionKey: "k", Headers: headers[1:]},
		{PartitionKey: "k"},
	} {
		res, err := st.Put(t.Context(), r)
		require.NoError(t, err)
		p, err := st.Read(t.Context(), shardlog.ReadRequest{ShardID: res.ShardID, From: shardlog.At(res.Sequence)})
		require.NoError(t, err)
		require.Equal(t, r.PartitionKey, p.Records[0].PartitionKey)
		require.Equal(t, r.Headers, p.Records[0].Headers)
		require.Len(t, p.Records[0].Data, len(r.Data))
	}
}

func TestPutIfRefusals(t *testing.T) {
	st := create(t, openMem(t), "s", Config{Shards: 2, MaxRecordSize: shardlog.MaxRecordSize})
	infos := shards(t, st)
	mine := []shardlog.Record{{PartitionKey: "a", ExplicitHashKey: infos[0].HashEnd}}
	before := snapshotOf(t, st)
	_, err := st.PutIf(t.Context(), infos[1].ID, shardlog.SequenceNumber{}, mine)
	require.ErrorIs(t, err, shardlog.ErrWrongShard)
	require.Contains(t, err.Error(), infos[0].HashEnd.String())
	_, err = st.PutIf(t.Context(), "shardId-000000000009", shardlog.SequenceNumber{}, mine)
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	_, err = st.PutIf(t.Context(), infos[0].ID, infos[1].First, mine)
	require.ErrorIs(t, err, shardlog.ErrConflict)
	large := shardlog.Record{PartitionKey: "a", ExplicitHashKey: infos[0].HashEnd, Data: make([]byte, 9<<20)}
	_, err = st.PutIf(t.Context(), infos[0].ID, shardlog.SequenceNumber{}, []shardlog.Record{large, large})
	requireInvalid(t, err, "of 18874370 bytes")
	require.Equal(t, before, snapshotOf(t, st))

	res, err := st.PutIf(t.Context(), infos[0].ID, shardlog.SequenceNumber{}, mine)
	require.NoError(t, err)
	_, err = st.PutIf(t.Context(), infos[0].ID, shardlog.SequenceNumber{}, mine)
	var conflict *shardlog.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, res[0].Sequence, conflict.Actual)
	require.False(t, conflict.Expected.IsSet())
	// Without records it is a look at the last number.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	none, err := st.PutIf(ctx, infos[0].ID, res[0].Sequence, nil)
	require.NoError(t, err)
	require.Empty(t, none)
	_, err = st.PutIf(ctx, infos[0].ID, infos[0].First, nil)
	require.ErrorIs(t, err, shardlog.ErrConflict)
	_, err = st.Merge(t.Context(), infos[0].ID, infos[1].ID)
	require.NoError(t, err)
	_, err = st.PutIf(t.Context(), infos[0].ID, res[0].Sequence, mine)
	require.ErrorIs(t, err, shardlog.ErrShardClosed)
}

func TestRefusedReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openMem(t)
		st := create(t, db, "s", Config{Shards: 2})
		time.Sleep(2 * time.Second)
		other := create(t, db, "other", Config{Shards: 2})
		foreign := put(t, other, "a", "x")
		info := shards(t, st)
		kafka, err := shardlog.ParseSequenceNumber("4711")
		require.NoError(t, err)
		kinesis, err := shardlog.ParseSequenceNumber("49" + strings.Repeat("3", 54))
		require.NoError(t, err)
		for field, req := range map[string]shardlog.ReadRequest{
			"MaxRecords -1":    {ShardID: info[0].ID, MaxRecords: -1},
			"MaxRecords 10001": {ShardID: info[0].ID, MaxRecords: 10_001},
			"MaxBytes -1":      {ShardID: info[0].ID, MaxBytes: -1},
			"MaxBytes 1048576": {ShardID: info[0].ID, MaxBytes: 10<<20 + 1},
			"Wait -1ns":        {ShardID: info[0].ID, Wait: -1},
			"Position \"at ":   {ShardID: info[0].ID, From: shardlog.At(info[1].First)},
			"Position \"at":    {ShardID: info[0].ID, From: shardlog.At(shardlog.SequenceNumber{})},
			"Position \"after": {ShardID: foreign.ShardID, From: shardlog.After(foreign.Sequence)},

			`Position "after 4711"`: {ShardID: info[0].ID, From: shardlog.After(kafka)},
			`Position "at 49333`:    {ShardID: info[0].ID, From: shardlog.At(kinesis)},
		} {
			_, err := st.Read(t.Context(), req)
			requireInvalid(t, err, field)
			if strings.HasPrefix(field, "Position") {
				for _, err := range st.Records(t.Context(), req.ShardID, req.From) {
					requireInvalid(t, err, field)
				}
				for _, err := range st.Tail(t.Context(), req.ShardID, req.From) {
					requireInvalid(t, err, field)
				}
			}
		}
		for _, id := range []string{"", "x", "shardId-000000000002", "shardId-0"} {
			_, err := st.Read(t.Context(), shardlog.ReadRequest{ShardID: id})
			require.ErrorIs(t, err, shardlog.ErrNotFound)
			for _, err := range st.Records(t.Context(), id, shardlog.TrimHorizon()) {
				require.ErrorIs(t, err, shardlog.ErrNotFound)
			}
		}
	})
}

func TestRefusedReshards(t *testing.T) {
	st := create(t, openMem(t), "s", Config{Shards: 3})
	infos := shards(t, st)
	before := snapshotOf(t, st)
	after, _ := infos[1].HashEnd.Next()
	for _, k := range []shardlog.HashKey{infos[1].HashStart, infos[0].HashStart, after, shardlog.MaxHashKey} {
		_, err := st.Split(t.Context(), infos[1].ID, k)
		requireInvalid(t, err, "newStart")
	}
	_, err := st.Split(t.Context(), "nope", shardlog.HashKey{})
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	for _, n := range []int{0, -1, MaxShards + 1} {
		requireInvalid(t, st.Reshard(t.Context(), n), "shards")
	}
	for _, pair := range [][2]int{{0, 2}, {2, 0}, {1, 1}} {
		_, err := st.Merge(t.Context(), infos[pair[0]].ID, infos[pair[1]].ID)
		requireInvalid(t, err, "adjacentID")
	}
	_, err = st.Merge(t.Context(), infos[0].ID, "nope")
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	require.Equal(t, before, snapshotOf(t, st))

	// Cut to shards of two keys, and of one.
	ids, err := st.Split(t.Context(), infos[0].ID, shardlog.NewHashKey(0, 2))
	require.NoError(t, err)
	_, err = st.Split(t.Context(), infos[0].ID, shardlog.HashKey{})
	require.ErrorIs(t, err, shardlog.ErrShardClosed)
	_, err = st.Merge(t.Context(), infos[0].ID, infos[1].ID)
	require.ErrorIs(t, err, shardlog.ErrShardClosed)
	ids, err = st.Split(t.Context(), ids[0], shardlog.HashKey{})
	require.NoError(t, err)
	before = snapshotOf(t, st)
	for _, id := range ids {
		_, err = st.Split(t.Context(), id, shardlog.HashKey{})
		requireInvalid(t, err, "at least two hash keys")
		_, err = st.Split(t.Context(), id, shardlog.NewHashKey(0, 1))
		require.ErrorIs(t, err, shardlog.ErrInvalid)
	}
	require.Equal(t, before, snapshotOf(t, st))
	requireCovered(t, shards(t, st))
}

func TestRefusedConfigurationChanges(t *testing.T) {
	st := create(t, openMem(t), "s", Config{Tags: map[string]string{"a": "1"}})
	before := snapshotOf(t, st)
	for _, r := range []struct {
		age   time.Duration
		bytes int64
		field string
	}{{0, 0, "Retention"}, {-2, 0, "Retention"}, {MaxRetention + 1, 0, "Retention"}, {Forever, 1, "RetentionBytes"}, {time.Hour, -1, "RetentionBytes"}} {
		requireInvalid(t, st.SetRetention(t.Context(), r.age, r.bytes), r.field)
	}
	for field, l := range map[string]Limits{
		"WriteRecords": {WriteRecords: math.NaN()}, "WriteBytes": {WriteBytes: -1}, "ReadBytes": {ReadBytes: 1e13}, "ReadCalls": {ReadCalls: math.Inf(1)},
	} {
		requireInvalid(t, st.SetLimits(t.Context(), l), field)
	}
	tags := map[string]string{}
	for i := range MaxTags {
		tags[fmt.Sprint(i)] = ""
	}
	requireInvalid(t, st.SetTags(t.Context(), tags), "Tags 51")
	requireInvalid(t, st.SetTags(t.Context(), map[string]string{"": "x"}), "tag key")
	requireInvalid(t, st.SetTags(t.Context(), map[string]string{"x": strings.Repeat("v", 257)}), "tag value")
	require.Equal(t, before, snapshotOf(t, st))

	require.NoError(t, st.SetTags(t.Context(), map[string]string{"a": "2", "b": "3"}))
	require.Equal(t, map[string]string{"a": "2", "b": "3"}, st.Info().Tags)
	st.Info().Tags["a"] = "changed by the caller"
	require.NoError(t, st.RemoveTags(t.Context(), "b", "unknown"))
	require.Equal(t, map[string]string{"a": "2"}, st.Info().Tags)
}

// everyCall is each method that takes a context, or would work on the database.
func everyCall(db *DB, st *Stream, ctx context.Context) map[string]error {
	rec := shardlog.Record{PartitionKey: "k"}
	errs := map[string]error{}
	_, errs["Create"] = db.Create(ctx, "new", Config{})
	_, errs["Stream"] = db.Stream(ctx, "s")
	_, errs["Streams"] = db.Streams(ctx)
	_, errs["Ensure"] = db.Ensure(ctx, "ensured", Config{})
	errs["Delete"] = db.Delete(ctx, "s2")
	errs["Backup"] = db.Backup(ctx, &strings.Builder{})
	_, errs["Shards"] = st.Shards(ctx)
	_, errs["Put"] = st.Put(ctx, rec)
	_, errs["PutRecords"] = st.PutRecords(ctx, []shardlog.Record{rec})
	_, errs["PutRecords of none"] = st.PutRecords(ctx, nil)
	_, errs["PutIf"] = st.PutIf(ctx, shardID(0), shardlog.SequenceNumber{}, []shardlog.Record{rec})
	_, errs["PutRequest"] = st.PutRequest(ctx, &shardlog.PutRequest{Records: []shardlog.Record{rec}})
	_, errs["OpenProducer"] = st.OpenProducer(ctx, "p")
	_, errs["Read"] = st.Read(ctx, shardlog.ReadRequest{ShardID: shardID(0)})
	for name, seq := range map[string]func(func(shardlog.Record, error) bool){
		"Records":  st.Records(ctx, shardID(0), shardlog.TrimHorizon()),
		"Scan":     copied(st.Scan(ctx, shardID(0), shardlog.TrimHorizon())),
		"Tail":     st.Tail(ctx, shardID(0), shardlog.TrimHorizon()),
		"ScanTail": copied(st.ScanTail(ctx, shardID(0), shardlog.TrimHorizon())),
	} {
		errs[name] = errors.New("nothing was yielded")
		for _, err := range seq {
			errs[name] = err
		}
	}
	_, errs["Split"] = st.Split(ctx, shardID(0), shardlog.HashKey{})
	_, errs["Merge"] = st.Merge(ctx, shardID(0), shardID(1))
	errs["Reshard"] = st.Reshard(ctx, 5)
	errs["SetRetention"] = st.SetRetention(ctx, time.Hour, 0)
	errs["SetLimits"] = st.SetLimits(ctx, KinesisLimits())
	errs["SetDedupWindow"] = st.SetDedupWindow(ctx, time.Minute)
	tx := db.Begin()
	tx.Put(st, rec)
	_, errs["Commit"] = tx.Commit(ctx)
	errs["SetTags"] = st.SetTags(ctx, map[string]string{"new": "tag"})
	errs["RemoveTags"] = st.RemoveTags(ctx, "a")
	for name, err := range everyCheckpointCall(db, ctx) {
		errs["Checkpoints."+name] = err
	}
	return errs
}
