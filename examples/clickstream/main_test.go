package main

import (
	"bytes"
	"context"
	"database/sql"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary be the program, to be killed.
func TestMain(m *testing.M) {
	if os.Getenv("CLICKSTREAM_CHILD") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// expected are the counts that n clicks have.
func expected(n int) totals {
	t := totals{clicks: n, pageClicks: n}
	last := map[string]int64{}
	for _, c := range clicks(n) {
		at, ok := last[c.User]
		if !ok {
			t.users++
		}
		if !ok || c.At-at > gap {
			t.sessions++
		}
		last[c.User] = c.At
	}
	return t
}

// The counting is killed a hundred times, at moments that differ, and the
// counts are exact anyway.
func TestCountsExactlyThroughKills(t *testing.T) {
	const n, kills = 40_000, 100
	dir := t.TempDir()
	ctx := context.Background()
	require.NoError(t, run(ctx, []string{"-dir", dir, "-put", "40000"}, &bytes.Buffer{}))
	partial, finished := 0, 0
	for range kills {
		cmd := exec.Command(os.Args[0], "-dir", dir)
		cmd.Env = append(os.Environ(), "CLICKSTREAM_CHILD=1")
		require.NoError(t, cmd.Start())
		// Real processes take real time: some are killed while they open,
		// some between two batches, some in one.
		time.Sleep(time.Duration(20+rand.IntN(130)) * time.Millisecond)
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err == nil {
			finished++
		}
		if got := counted(t, dir); got.clicks > 0 && got.clicks < n {
			partial++
			require.Equal(t, got.clicks, got.pageClicks)
		}
	}
	var out bytes.Buffer
	require.NoError(t, run(ctx, []string{"-dir", dir}, &out))
	assert.Equal(t, expected(n), counted(t, dir))
	assert.Contains(t, out.String(), "40000 clicks of 200 users")
	assert.Greater(t, partial, 5, "kills that came in the middle of the work; %d came after its end", finished)
}

func counted(t *testing.T, dir string) totals {
	t.Helper()
	path := filepath.Join(dir, "counts.db")
	if _, err := os.Stat(path); err != nil {
		return totals{}
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	require.NoError(t, makeTables(context.Background(), db))
	got, err := sums(context.Background(), db)
	require.NoError(t, err)
	return got
}

func TestRunNeedsGoodArguments(t *testing.T) {
	require.Error(t, run(context.Background(), []string{"-nonsense"}, &bytes.Buffer{}))
}
