// Command oldformat writes small databases of the format that it was built with,
// for the tests of later ones: it is run at the commit before the format changes.
//
//	go run ./internal/oldformat stream/testdata/format1
//
// It uses exported API alone. Each database has the same records, given by
// package stream's test of them.
package main

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/stream"
)

func main() {
	out := os.Args[1]
	check(os.MkdirAll(out, 0o755))
	for _, d := range []stream.Durability{stream.SyncAlways, stream.SyncInterval, stream.SyncNever} {
		for _, killed := range []bool{false, true} {
			for _, key := range [][]byte{nil, bytes.Repeat([]byte("k"), 32)} {
				if key != nil && d != stream.SyncAlways {
					continue
				}
				name := d.String()
				if killed {
					name += "-killed"
				}
				if key != nil {
					name += "-encrypted"
				}
				write(filepath.Join(out, name+".zip"), d, killed, key)
			}
		}
	}
}

// write makes one database and packs it.
func write(path string, d stream.Durability, killed bool, key []byte) {
	tmp := must(os.MkdirTemp("", "oldformat"))
	defer os.RemoveAll(tmp)
	ctx, dir := context.Background(), filepath.Join(tmp, "log")
	o := &stream.Options{Durability: d, EncryptionKey: key, ValueLogFileBytes: 1 << 20, MinFreeBytes: 1 << 20}
	db := must(stream.Open(dir, o))
	st := must(db.Create(ctx, "s", stream.Config{Shards: 2}))
	put := func(from, to, size int) {
		var records []shardlog.Record
		for i := from; i < to; i++ {
			records = append(records, shardlog.Record{PartitionKey: fmt.Sprint("key ", i%7), Data: fmt.Appendf(nil, "%0*d", size, i)})
		}
		for _, r := range must(st.PutRecords(ctx, records)) {
			check(r.Err)
		}
	}
	put(0, 100, 400) // blocks
	check(db.Close())
	db = must(stream.Open(dir, o))
	st = must(db.Stream(ctx, "s"))
	for i := 100; i < 130; i++ { // the journal
		put(i, i+1, 8)
	}
	lease := must(db.Checkpoints().Create(ctx, checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: "shardId-000000000000"}}))
	lease.Epoch, lease.Owner = 5, "worker"
	tx := db.Begin()
	tx.Put(st, shardlog.Record{PartitionKey: "key 4", Data: []byte("00000130")})
	tx.Checkpoint(lease)
	must(tx.Commit(ctx))
	put(131, 140, 3000)
	if killed {
		copied := filepath.Join(tmp, "copy") // nothing is being written, so this is what a kill would leave
		check(os.CopyFS(copied, os.DirFS(dir)))
		check(db.Close())
		dir = copied
	} else {
		check(db.Close())
	}
	f := must(os.Create(path))
	w := zip.NewWriter(f)
	check(w.AddFS(os.DirFS(dir)))
	check(w.Close())
	check(f.Close())
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
