package checkpoint_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/checkpointtest"
)

// TestMain lets the test binary be a process that counts in a row.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CHECKPOINT_COUNT_IN"); dir != "" {
		n, _ := strconv.Atoi(os.Getenv("CHECKPOINT_COUNT"))
		if err := countIn(dir, n); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// countIn adds 1 to a row's Beat n times, against other writers.
func countIn(dir string, n int) error {
	s, err := checkpoint.OpenFile(dir, &checkpoint.FileOptions{NoSync: true})
	if err != nil {
		return err
	}
	ctx := context.Background()
	for done := 0; done < n; {
		l, err := s.Get(ctx, testKey)
		if err != nil {
			return err
		}
		l.Beat++
		if _, err = s.Update(ctx, l); err == nil {
			done++
		}
	}
	return nil
}

func TestFileConforms(t *testing.T) {
	checkpointtest.Run(t, func(t *testing.T) checkpoint.Store {
		// Syncing a thousand rows takes the disk seconds, and is tested below.
		s, err := checkpoint.OpenFile(t.TempDir(), &checkpoint.FileOptions{NoSync: true})
		require.NoError(t, err)
		return s
	})
}

func TestFileManyProcesses(t *testing.T) {
	const processes, each = 3, 200
	dir := t.TempDir()
	s, err := checkpoint.OpenFile(dir, nil)
	require.NoError(t, err)
	_, err = s.Create(t.Context(), checkpoint.Lease{Key: testKey})
	require.NoError(t, err)
	var all []*exec.Cmd
	for range processes {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CHECKPOINT_COUNT_IN="+dir, fmt.Sprint("CHECKPOINT_COUNT=", each))
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		all = append(all, cmd)
	}
	for _, cmd := range all {
		require.NoError(t, cmd.Wait())
	}
	l, err := s.Get(t.Context(), testKey)
	require.NoError(t, err)
	assert.Equal(t, uint64(processes*each), l.Beat, "no update was lost")
}

// A process that is killed holds no lock, and leaves no half row.
func TestFileSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	s, err := checkpoint.OpenFile(dir, nil)
	require.NoError(t, err)
	_, err = s.Create(t.Context(), checkpoint.Lease{Key: testKey})
	require.NoError(t, err)
	last := uint64(0)
	for range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CHECKPOINT_COUNT_IN="+dir, "CHECKPOINT_COUNT=1000000")
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() }) // if it does not come to that below
		require.Eventually(t, func() bool {
			l, err := s.Get(t.Context(), testKey)
			return err == nil && l.Beat > last+1
		}, time.Minute, time.Millisecond, "the process counts")
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		l, err := s.Get(t.Context(), testKey)
		require.NoError(t, err)
		require.GreaterOrEqual(t, l.Beat, last)
		last = l.Beat
		l.Beat++
		_, err = s.Update(t.Context(), l)
		require.NoError(t, err)
	}
	assert.Greater(t, last, uint64(10))
}

func TestFileSurvivesReopening(t *testing.T) {
	checkpointtest.RunReopen(t, func(t *testing.T) (checkpoint.Store, func() checkpoint.Store) {
		dir := t.TempDir()
		open := func() checkpoint.Store {
			s, err := checkpoint.OpenFile(dir, nil)
			require.NoError(t, err)
			return s
		}
		return open(), open
	})
}

func TestFileErrors(t *testing.T) {
	_, err := checkpoint.OpenFile("", nil)
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	dir := t.TempDir()
	s, err := checkpoint.OpenFile(dir, nil)
	require.NoError(t, err)
	_, err = s.Create(t.Context(), checkpoint.Lease{Key: testKey})
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(dir, "*", "*", "*.row"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.NoError(t, os.WriteFile(files[0], []byte("x"), 0o600))
	_, err = s.Get(t.Context(), testKey)
	require.ErrorIs(t, err, shardlog.ErrCorrupt)
	_, err = s.List(t.Context(), testKey.Group, "")
	require.ErrorIs(t, err, shardlog.ErrCorrupt)
	_, err = checkpoint.OpenFile(filepath.Join(files[0], "sub"), nil)
	require.Error(t, err)
}
