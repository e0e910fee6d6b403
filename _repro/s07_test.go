// S07, severity high (first part) and medium, kind: the storage engine decides
// alone what to do with a directory that is incomplete or damaged.
//
// Expected: a directory with table or value files but no MANIFEST (an
// interrupted copy: the files come in the order of the alphabet) is refused with
// ErrCorrupt and left as it is. A table that is cut short or has something
// behind it (a torn copy) is refused with ErrCorrupt too.
// Got: without MANIFEST Open succeeds with no streams and the tables are
// removed from disk: all is lost, silently. A table cut by one byte makes a
// goroutine of the engine panic, which ends the host process.
//
// Run: copy into a folder of the module as *_test.go, then go test -run S07.
package repro_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// TestS07OpenHelper opens a directory in a process of its own.
func TestS07OpenHelper(t *testing.T) {
	dir := os.Getenv("S07_DIR")
	if dir == "" {
		t.Skip("for the test below")
	}
	db, err := stream.Open(dir, nil)
	if err != nil {
		fmt.Println("REFUSED", errors.Is(err, shardlog.ErrCorrupt), err)
		return
	}
	defer db.Close()
	n := 0
	for range (func() []*stream.Stream { l, _ := db.Streams(context.Background()); return l })() {
		n++
	}
	fmt.Println("OPENED with streams:", n)
}

func TestS07DamagedDirectory(t *testing.T) {
	for what, damage := range map[string]func(dir string) error{
		"MANIFEST missing": func(dir string) error { return os.Remove(filepath.Join(dir, "MANIFEST")) },
		"table cut by a byte": func(dir string) error {
			l, _ := filepath.Glob(filepath.Join(dir, "*.sst"))
			fi, err := os.Stat(l[0])
			if err != nil {
				return err
			}
			return os.Truncate(l[0], fi.Size()-1)
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "log")
			db, err := stream.Open(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			st, _ := db.Create(context.Background(), "s", stream.Config{})
			st.Put(context.Background(), shardlog.Record{PartitionKey: "k", Data: []byte("x")})
			db.Close()
			before, _ := filepath.Glob(filepath.Join(dir, "*.sst"))
			sizes := func() (s []int64) {
				for _, f := range before {
					if fi, err := os.Stat(f); err == nil {
						s = append(s, fi.Size())
					}
				}
				return s
			}
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
			was := fmt.Sprint(sizes())
			cmd := exec.Command(os.Args[0], "-test.run=^TestS07OpenHelper$", "-test.v")
			cmd.Env = append(os.Environ(), "S07_DIR="+dir)
			out, err := cmd.CombinedOutput()
			if !strings.Contains(string(out), "REFUSED true") {
				t.Errorf("%v: %.300s", err, out)
			}
			if is := fmt.Sprint(sizes()); is != was {
				t.Errorf("the tables had %s bytes, and have %s now", was, is)
			}
		})
	}
}
