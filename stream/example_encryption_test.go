package stream_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// A database that is encrypted on disk, and a new key for it.
func ExampleRotateEncryptionKey() {
	tmp, err := os.MkdirTemp("", "shardlog-")
	check(err)
	defer os.RemoveAll(tmp)
	dir := filepath.Join(tmp, "db")
	oldKey, newKey := []byte("0123456789abcdef"), []byte("fedcba9876543210") // from a vault, and random

	db, err := stream.Open(dir, &stream.Options{EncryptionKey: oldKey})
	check(err)
	_, err = db.Ensure(context.Background(), "clicks", stream.Config{})
	check(err)
	check(db.Close())

	check(stream.RotateEncryptionKey(dir, oldKey, newKey))
	_, err = stream.Open(dir, &stream.Options{EncryptionKey: oldKey})
	fmt.Println("with the old key:", errors.Is(err, shardlog.ErrInvalid))
	db, err = stream.Open(dir, &stream.Options{EncryptionKey: newKey})
	check(err)
	defer db.Close()
	_, err = db.Stream(context.Background(), "clicks")
	fmt.Println("with the new key:", err)
	// Output:
	// with the old key: true
	// with the new key: <nil>
}
