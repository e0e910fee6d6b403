package stream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// A byte of a stored record has changed on the disk. Check finds it, Repair keeps
// everything else, and the old files too.
func ExampleRepair() {
	tmp, err := os.MkdirTemp("", "shardlog-")
	check(err)
	defer os.RemoveAll(tmp)
	dir := filepath.Join(tmp, "db")
	ctx := context.Background()
	db, err := stream.Open(dir, nil)
	check(err)
	st, err := db.Ensure(ctx, "clicks", stream.Config{})
	check(err)
	for _, s := range []string{"first", "second", "third"} {
		_, err = st.Put(ctx, shardlog.Record{PartitionKey: "alice", Data: bytes.Repeat([]byte(s), 10_000)})
		check(err)
	}
	check(db.Close())
	damage(dir, "second")

	report, err := stream.Check(ctx, dir, nil)
	check(err)
	fmt.Println("sound:", report.Sound())
	_, err = stream.Repair(ctx, dir, nil)
	check(err)
	db, err = stream.Open(dir, nil)
	check(err)
	defer db.Close()
	st, err = db.Stream(ctx, "clicks")
	check(err)
	for r, err := range st.Records(ctx, shardlog.ShardID(0), shardlog.TrimHorizon()) {
		var lost *shardlog.CorruptError
		if errors.As(err, &lost) {
			fmt.Println("lost")
			continue
		}
		check(err)
		fmt.Println(len(r.Data), "bytes")
	}
	// Output:
	// sound: false
	// 50000 bytes
	// lost
	// 50000 bytes
}

// damage changes a byte of what a directory stores.
func damage(dir, text string) {
	files, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	check(err)
	for _, name := range files {
		data, err := os.ReadFile(name)
		check(err)
		if i := bytes.Index(data, []byte(text)); i >= 0 {
			data[i] ^= 1
			check(os.WriteFile(name, data, 0o600))
		}
	}
}
