package stream_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/stream"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// A database is a directory with streams in it.
func ExampleOpen() {
	tmp, err := os.MkdirTemp("", "shardlog-")
	check(err)
	defer os.RemoveAll(tmp)
	ctx := context.Background()

	db, err := stream.Open(filepath.Join(tmp, "db"), nil)
	check(err)
	st, err := db.Ensure(ctx, "clicks", stream.Config{Shards: 2})
	check(err)
	res, err := st.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: []byte("/index.html")})
	check(err)
	check(db.Close())

	db, err = stream.Open(filepath.Join(tmp, "db"), nil)
	check(err)
	defer db.Close()
	st, err = db.Ensure(ctx, "clicks", stream.Config{Shards: 2})
	check(err)
	for r, err := range st.Records(ctx, res.ShardID, shardlog.TrimHorizon()) {
		check(err)
		fmt.Printf("%s %s\n", r.PartitionKey, r.Data)
	}
	// Output: alice /index.html
}

// Ensure creates a stream or returns the one that is there, unless that has
// another configuration.
func ExampleDB_Ensure() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	for range 2 { // the second time as by a program that is run again
		_, err = db.Ensure(ctx, "clicks", stream.Config{Shards: 2, Retention: time.Hour})
		check(err)
	}
	_, err = db.Ensure(ctx, "clicks", stream.Config{Shards: 3, Retention: time.Hour})
	var mismatch *stream.ConfigMismatchError
	if errors.As(err, &mismatch) {
		for _, f := range mismatch.Fields {
			fmt.Printf("%s is %v, not %v\n", f.Field, f.Have, f.Want)
		}
	}
	// Output: Shards is 2, not 3
}

// Many records are stored by one call, each on the shard of its key.
func ExampleStream_PutRecords() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{Shards: 4})
	check(err)
	records := []shardlog.Record{
		{PartitionKey: "alice", Data: []byte("1")},
		{PartitionKey: "bob", Data: []byte("2")},
		{PartitionKey: "alice", Data: []byte("3")},
	}
	results, err := st.PutRecords(ctx, records)
	check(err)
	for i, res := range results {
		check(res.Err)
		fmt.Println(records[i].PartitionKey, res.ShardID)
	}
	// Output:
	// alice shardId-000000000001
	// bob shardId-000000000002
	// alice shardId-000000000001
}

// A page says where to continue, and at the end of a closed shard which shards
// continue it.
func ExampleStream_Read() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{})
	check(err)
	for i := range 5 {
		_, err := st.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: fmt.Append(nil, i)})
		check(err)
	}
	_, err = st.Split(ctx, "shardId-000000000000", shardlog.HashKey{})
	check(err)
	req := shardlog.ReadRequest{ShardID: "shardId-000000000000", MaxRecords: 2}
	for {
		page, err := st.Read(ctx, req)
		check(err)
		fmt.Println(len(page.Records), "records,", page.BehindRecords, "follow")
		if page.End {
			fmt.Println("continues in", page.Children)
			return
		}
		req.From = page.Next
	}
	// Output:
	// 2 records, 3 follow
	// 2 records, 1 follow
	// 1 records, 0 follow
	// continues in [shardId-000000000001 shardId-000000000002]
}

// The number of shards is changed while the stream is in use. The closed
// shards are listed until their records have expired.
func ExampleStream_Reshard() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{Shards: 2})
	check(err)
	check(st.Reshard(ctx, 4))
	infos, err := st.Shards(ctx)
	check(err)
	for _, s := range infos {
		fmt.Println(s.ID, s.Parents, "closed:", s.Closed)
	}
	// Output:
	// shardId-000000000000 [] closed: true
	// shardId-000000000001 [] closed: true
	// shardId-000000000002 [shardId-000000000000] closed: false
	// shardId-000000000003 [shardId-000000000000] closed: false
	// shardId-000000000004 [shardId-000000000001] closed: false
	// shardId-000000000005 [shardId-000000000001] closed: false
}

// PutIf stores records only if nobody else has written to the shard meanwhile.
func ExampleStream_PutIf() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "orders", stream.Config{})
	check(err)
	const shard = "shardId-000000000000"
	event := func(s string) []shardlog.Record { return []shardlog.Record{{PartitionKey: "order-1", Data: []byte(s)}} }

	first, err := st.PutIf(ctx, shard, shardlog.SequenceNumber{}, event("created"))
	check(err)
	_, err = st.PutIf(ctx, shard, first[0].Sequence, event("paid"))
	check(err)
	_, err = st.PutIf(ctx, shard, first[0].Sequence, event("cancelled"))
	var conflict *shardlog.ConflictError
	fmt.Println(errors.As(err, &conflict), errors.Is(err, shardlog.ErrConflict))
	// Output: true true
}

// Retention is by age, by stored bytes, or by both.
func ExampleStream_SetRetention() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "clicks", stream.Config{})
	check(err)
	fmt.Println(st.Info().Retention)
	check(st.SetRetention(ctx, 7*24*time.Hour, 10<<30))
	fmt.Println(st.Info().Retention, st.Info().RetentionBytes)
	check(st.SetRetention(ctx, stream.Forever, 0))
	fmt.Println(st.Info().Retention == stream.Forever)
	// Output:
	// 24h0m0s
	// 168h0m0s 10737418240
	// true
}

// The database also keeps the progress of consumers, by compare-and-set.
func ExampleDB_Checkpoints() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	rows := db.Checkpoints()
	key := checkpoint.Key{Group: "billing", Stream: "clicks", Shard: "shardId-000000000000"}
	old, err := rows.Create(ctx, checkpoint.Lease{Key: key, Owner: "worker-1"})
	check(err)
	row := old
	row.Owner = "worker-2"
	_, err = rows.Update(ctx, row)
	check(err)
	_, err = rows.Update(ctx, old)
	fmt.Println(errors.Is(err, shardlog.ErrConflict))
	row, err = rows.Get(ctx, key)
	check(err)
	fmt.Println(row.Owner)
	// Output:
	// true
	// worker-2
}

// A request whose answer was lost is sent again with the same numbers, and
// stored once. Opening the identity again fences its former owner.
func ExampleStream_PutRequest() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "orders", stream.Config{Shards: 4})
	check(err)
	epoch, err := st.OpenProducer(ctx, "till-7")
	check(err)
	req := &shardlog.PutRequest{
		Records:  []shardlog.Record{{PartitionKey: "alice", Data: []byte("2 apples")}, {PartitionKey: "bob", Data: []byte("1 pear")}},
		Producer: "till-7", Epoch: epoch, Numbers: []uint64{1, 2},
	}
	for range 2 {
		res, err := st.PutRequest(ctx, req)
		check(err)
		fmt.Println(res[0].Duplicate, res[1].Duplicate)
	}
	_, err = st.OpenProducer(ctx, "till-7")
	check(err)
	_, err = st.PutRequest(ctx, req)
	fmt.Println(errors.Is(err, shardlog.ErrFenced))
	// Output:
	// false false
	// true true
	// true
}

// A record with a DedupID that was stored within the window is not stored
// again; its result is that of the first.
func ExampleStream_SetDedupWindow() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	st, err := db.Ensure(ctx, "payments", stream.Config{Shards: 4, DedupWindow: 2 * time.Minute})
	check(err)
	payment := shardlog.Record{PartitionKey: "alice", Data: []byte("12.50"), DedupID: "payment 4711"}
	first, err := st.Put(ctx, payment)
	check(err)
	again, err := st.Put(ctx, payment)
	check(err)
	fmt.Println(again.Duplicate, again.Sequence == first.Sequence)
	check(st.SetDedupWindow(ctx, 5*time.Minute)) // at any time
	// Output: true true
}

// What is made of a record, and that it was made, are stored together or not
// at all.
func ExampleDB_Begin() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	check(err)
	defer db.Close()
	orders, err := db.Ensure(ctx, "orders", stream.Config{})
	check(err)
	bills, err := db.Ensure(ctx, "bills", stream.Config{})
	check(err)
	put, err := orders.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: []byte("2 apples")})
	check(err)
	row, err := db.Checkpoints().Create(ctx, checkpoint.Lease{Key: checkpoint.Key{Group: "billing", Stream: "orders", Shard: put.ShardID}})
	check(err)

	row.Checkpoint = shardlog.After(put.Sequence)
	for range 2 {
		tx := db.Begin()
		tx.Put(bills, shardlog.Record{PartitionKey: "alice", Data: []byte("2 apples: 1.20")})
		tx.Checkpoint(row) // on the condition that nobody else has moved it
		_, err = tx.Commit(ctx)
		fmt.Println(err == nil, errors.Is(err, shardlog.ErrConflict))
	}
	// Output:
	// true false
	// false true
}
