package stream

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// A call that ends with its context reports both the end and its cause, whatever
// the call.
func TestEveryCallReportsTheEndOfItsContextAndTheCause(t *testing.T) {
	db, err := Open("", &Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	st, err := db.Create(context.Background(), "s", Config{})
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("a sibling failed")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
			t.Errorf("%s: %v matches context.Canceled: %v, its cause: %v; want both", what, err, errors.Is(err, context.Canceled), errors.Is(err, cause))
		}
	}
	rec := shardlog.Record{PartitionKey: "k"}
	const shard = "shardId-000000000000"
	_, err = st.Put(ctx, rec)
	check("Put", err)
	_, err = st.PutIf(ctx, shard, shardlog.SequenceNumber{}, []shardlog.Record{rec})
	check("PutIf", err)
	_, err = st.OpenProducer(ctx, "p")
	check("OpenProducer", err)
	_, err = st.Read(ctx, shardlog.ReadRequest{ShardID: shard})
	check("Read", err)
	_, err = st.Read(ctx, shardlog.ReadRequest{ShardID: shard, From: shardlog.Latest()})
	check("Read at the tail", err)
	for _, err := range st.Records(ctx, shard, shardlog.TrimHorizon()) {
		check("Records", err)
	}
	for _, err := range st.Tail(ctx, shard, shardlog.Latest()) {
		check("Tail", err)
	}
	_, err = db.Create(ctx, "t", Config{})
	check("Create", err)
	_, err = db.Streams(ctx)
	check("Streams", err)
	check("Delete", db.Delete(ctx, "s"))
	check("Reshard", st.Reshard(ctx, 2))
	check("SetTags", st.SetTags(ctx, map[string]string{"a": "b"}))
	_, err = db.Begin().Commit(ctx)
	check("Commit", err)
	check("Backup", db.Backup(ctx, &bytes.Buffer{}))
	_, err = db.Checkpoints().List(ctx, "g", "s")
	check("Checkpoints.List", err)
	_, err = db.Checkpoints().Get(ctx, checkpoint.Key{Group: "g", Stream: "s", Shard: shard})
	check("Checkpoints.Get", err)
}
