//go:build fulldisk

package stream

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// These tests need a small file system of their own, so .ci/run builds and runs
// them with one; a SIGBUS ends the process, and with it the step.
var (
	fulldiskDir    = flag.String("fulldisk", "", "directory on a file system of 768 MiB")
	fulldiskRounds = flag.Int("fulldisk.rounds", 20, "how often the disk is filled")
)

// fill takes all that is free, as another program would, and returns how to give
// it back.
func fill(t *testing.T, path string) (release func()) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	chunk := make([]byte, 1<<20)
	for n := len(chunk); n > 0; {
		if _, err := f.Write(chunk[:n]); err != nil {
			n /= 2
		}
	}
	return func() {
		require.NoError(t, f.Close())
		require.NoError(t, os.Remove(path))
	}
}

// Another program fills the disk again and again while records are written,
// retention removes them, and compactions run. Writers are refused until there
// is room, nothing that was acknowledged is lost, and the process lives.
func TestADiskThatAnotherProgramFills(t *testing.T) {
	for _, durability := range []Durability{SyncNever, SyncAlways} {
		t.Run(durability.String(), func(t *testing.T) {
			rnd, _ := newRand(t)
			dir := filepath.Join(*fulldiskDir, "log")
			o := &Options{Durability: durability}
			db, err := Open(dir, o)
			require.NoError(t, err)
			st, err := db.Create(t.Context(), "s", Config{RetentionBytes: 32 << 20, Shards: 4})
			require.NoError(t, err)
			var stored, refused atomic.Int64
			quit, ended := make(chan struct{}), make(chan error, 4)
			for w := range cap(ended) {
				go func() { ended <- write(st, w, &stored, &refused, quit) }()
			}
			for range *fulldiskRounds {
				from := stored.Load()
				require.Eventually(t, func() bool { return stored.Load() >= from+500 }, time.Minute, time.Millisecond)
				time.Sleep(time.Duration(rnd.Intn(20)) * time.Millisecond)
				release := fill(t, filepath.Join(*fulldiskDir, "other"))
				was := refused.Load()
				require.Eventually(t, func() bool { return refused.Load() >= was+8 }, time.Minute, time.Millisecond)
				time.Sleep(time.Duration(rnd.Intn(200)) * time.Millisecond)
				release()
			}
			close(quit)
			for range cap(ended) {
				require.NoError(t, <-ended)
			}
			t.Logf("%d stored, %d refused", stored.Load(), refused.Load())
			release := fill(t, filepath.Join(*fulldiskDir, "other"))
			if err := db.Close(); err != nil {
				require.ErrorIs(t, err, shardlog.ErrNoSpace)
			}
			release()
			require.Eventually(t, func() bool {
				db, err = Open(dir, o)
				return err == nil
			}, time.Minute, 10*time.Millisecond)
			require.NoError(t, db.Close())
			require.NoError(t, os.RemoveAll(dir))
		})
	}
}

// write stores records until quit is closed.
func write(st *Stream, w int, stored, refused *atomic.Int64, quit chan struct{}) error {
	rnd := rand.New(rand.NewSource(int64(w)))
	ctx := context.Background()
	for i := 0; ; i++ {
		select {
		case <-quit:
			return nil
		default:
		}
		data := make([]byte, rnd.Intn(1<<rnd.Intn(15)))
		rnd.Read(data)
		_, err := st.Put(ctx, shardlog.Record{PartitionKey: fmt.Sprint(w, i), Data: data})
		switch {
		case err == nil:
			stored.Add(1)
		case errors.Is(err, shardlog.ErrNoSpace):
			refused.Add(1)
			time.Sleep(time.Millisecond)
		default:
			return err
		}
	}
}
