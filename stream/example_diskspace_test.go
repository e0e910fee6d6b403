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

// What would leave less than MinFreeBytes on the file system is refused with
// ErrNoSpace, and accepted again as soon as there is room. The database can be
// opened and read meanwhile.
func ExampleOptions_minFreeBytes() {
	tmp, err := os.MkdirTemp("", "shardlog-")
	check(err)
	defer os.RemoveAll(tmp)
	db, err := stream.Open(filepath.Join(tmp, "db"), &stream.Options{
		MinFreeBytes: 1 << 60, // more than any disk has
	})
	check(err)
	defer db.Close()
	_, err = db.Create(context.Background(), "orders", stream.Config{})
	fmt.Println("no space:", errors.Is(err, shardlog.ErrNoSpace))
	fmt.Println("worth trying again:", shardlog.Retryable(err))
	// Output:
	// no space: true
	// worth trying again: true
}
