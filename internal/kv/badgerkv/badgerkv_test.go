package badgerkv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

func TestConformance(t *testing.T) {
	for n := range 4 {
		sync, encrypted, kill := n%2 == 1, n > 1, n%3 == 0
		t.Run(fmt.Sprintf("sync=%v encrypted=%v kill=%v", sync, encrypted, kill), func(t *testing.T) {
			kvtest.Run(t, func(t testing.TB) kv.Store {
				o := small(t.TempDir())
				o.SyncWrites, o.ValueLogFile, o.RedoMax = sync, 8<<20, 4<<20 // a value has to fit into a file
				if encrypted {
					o.EncryptionKey = bytes.Repeat([]byte("k"), 32)
				}
				return mustOpen(t, o)
			}, func(t testing.TB, s kv.Store) kv.Store {
				o := s.(*Store).opts
				if kill {
					o.Dir = kvtest.Killed(t, o.Dir)
				}
				require.NoError(t, s.Close())
				return mustOpen(t, o)
			})
		})
	}
}

// mustOpen opens a store without beginning its journal.
func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	require.NoError(t, err)
	return s
}

func TestReopeningKeepsEverything(t *testing.T) {
	for _, sync := range []bool{false, true} {
		t.Run(fmt.Sprintf("sync=%v", sync), func(t *testing.T) {
			rnd := kvtest.Rand(t)
			o := small(t.TempDir())
			o.SyncWrites = sync
			want := map[string][]byte{}
			for round := range 4 {
				s, err := begin(o)
				require.NoError(t, err)
				for k, v := range want {
					requireValue(t, s, k, v)
				}
				for i := range 60 {
					k := fmt.Sprintf("%d/%d", rnd.Intn(3), rnd.Intn(100))
					want[k] = value(rnd, rnd.Intn(1<<rnd.Intn(17)))
					require.NoError(t, set(s, k, want[k]), "round %d, write %d", round, i)
				}
				var b kv.Batch
				for k := range want {
					if rnd.Intn(4) == 0 {
						b.Delete([]byte(k))
						delete(want, k)
					}
				}
				require.NoError(t, s.Commit(&b))
				require.NoError(t, s.Close())
			}
			s := open(t, o)
			n := 0
			require.NoError(t, s.Scan(nil, func([]byte, int64) bool { n++; return true }))
			require.Len(t, want, n)
		})
	}
}

func TestEmptyFilesOfACrashAreRepaired(t *testing.T) {
	o := small(t.TempDir())
	s, err := begin(o)
	require.NoError(t, err)
	require.NoError(t, set(s, "a", []byte("1")))
	require.NoError(t, s.Close())
	// As a process killed between creating a file and sizing it leaves them.
	names := []string{"000077.vlog", "00077.mem"}
	for _, n := range names {
		require.NoError(t, os.WriteFile(filepath.Join(o.Dir, n), nil, 0o600))
	}
	s, err = begin(o)
	require.NoError(t, err)
	requireValue(t, s, "a", []byte("1"))
	require.NoError(t, set(s, "b", make([]byte, 100<<10)))
	require.NoError(t, s.Close())
	s = open(t, o)
	requireValue(t, s, "b", make([]byte, 100<<10))
}

func TestASecondOpenFindsItLocked(t *testing.T) {
	o := small(t.TempDir())
	s, err := begin(o)
	require.NoError(t, err)
	_, err = begin(o)
	require.ErrorIs(t, err, shardlog.ErrLocked)
	require.ErrorContains(t, err, o.Dir)
	require.NoError(t, set(s, "a", []byte("1")), "the first is not disturbed")
	require.NoError(t, s.Close())
	s = open(t, o)
	requireValue(t, s, "a", []byte("1"))
}

func TestEncryptionKeys(t *testing.T) {
	key, other := bytes.Repeat([]byte("k"), 32), bytes.Repeat([]byte("o"), 16)
	secret := bytes.Repeat([]byte("the secret text "), 2000)
	refused := func(dir string, keys ...[]byte) {
		t.Helper()
		for _, k := range keys {
			o := small(dir)
			o.EncryptionKey = k
			_, err := begin(o)
			require.ErrorIs(t, err, shardlog.ErrInvalid)
			var invalid *shardlog.InvalidError
			require.ErrorAs(t, err, &invalid)
			require.NotContains(t, err.Error(), string(key), "a key must not get into logs")
		}
	}
	check := func(dir string, k []byte) {
		t.Helper()
		o := small(dir)
		o.EncryptionKey = k
		s, err := begin(o)
		require.NoError(t, err)
		requireValue(t, s, "a", secret)
		require.NoError(t, set(s, "b", secret))
		require.NoError(t, s.Close())
	}
	dir, plain := t.TempDir(), t.TempDir()
	for _, c := range []struct {
		dir string
		key []byte
	}{{dir, key}, {plain, nil}} {
		o := small(c.dir)
		o.EncryptionKey = c.key
		s, err := begin(o)
		require.NoError(t, err)
		require.NoError(t, set(s, "a", secret))
		require.NoError(t, s.Close())
	}
	refused(dir, nil, other, []byte("bad length"))
	refused(plain, key)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	for _, f := range files {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		require.NotContains(t, string(data), "the secret text", f)
	}

	var invalid *shardlog.InvalidError
	require.ErrorAs(t, RotateKey(dir, other, key), &invalid, "the old key must be right")
	check(dir, key)
	require.NoError(t, RotateKey(dir, key, other))
	refused(dir, key, nil)
	check(dir, other)
	require.NoError(t, RotateKey(dir, other, nil))
	refused(dir, key, other)
	check(dir, nil)
}

// Badger logs that a sync failed and acknowledges the commit anyway.
func TestALoggedSyncFailureStopsTheStore(t *testing.T) {
	for _, text := range []string{"Error while curlf sync: input/output error\n", "writeRequests: disk on fire"} {
		o := small(t.TempDir())
		s, err := begin(o)
		require.NoError(t, err)
		require.NoError(t, set(s, "a", []byte("1")))
		s.log.Warningf("sync is slow") // only errors count
		s.log.Errorf("something else")
		require.NoError(t, set(s, "b", []byte("1")))
		s.log.Errorf("%s", text)
		s.log.Errorf("a later sync failure")
		for range 2 {
			err = set(s, "c", []byte("1"))
			require.ErrorIs(t, err, shardlog.ErrStorage)
			require.NotErrorIs(t, err, shardlog.ErrNoSpace)
		}
		require.Contains(t, err.Error(), text[:10], "the first failure is told")
		require.ErrorIs(t, s.Sync(), shardlog.ErrStorage)
		_, _, err = s.Reclaim(0, 0)
		require.ErrorIs(t, err, shardlog.ErrStorage)
		requireValue(t, s, "a", []byte("1"))
		_, err = s.Get([]byte("c"))
		require.ErrorIs(t, err, shardlog.ErrNotFound, "nothing was applied")
		require.ErrorIs(t, s.Close(), shardlog.ErrStorage)

		s = open(t, o)
		require.NoError(t, set(s, "c", []byte("1")), "opened again it goes on")
	}
}

// A failure that is logged while the commit runs must not be acknowledged.
func TestASyncFailureDuringACommitIsItsError(t *testing.T) {
	s, err := begin(small(t.TempDir()))
	require.NoError(t, err)
	var b kv.Batch
	b.Set([]byte("a"), []byte("1"))
	s.log.Errorf("Error while curlf sync: injected")
	require.ErrorIs(t, s.commit(&b), shardlog.ErrStorage)
	require.ErrorIs(t, s.Close(), shardlog.ErrStorage)
}

func TestABatchThatIsTooLargeChangesNothing(t *testing.T) {
	s := open(t, small(t.TempDir()))
	var b kv.Batch
	for i := range maxOps {
		b.Set(fmt.Appendf(nil, "k%04d", i), nil)
	}
	require.NoError(t, s.Commit(&b), "just not too large")
	b.Set([]byte("one more"), nil)
	b.Delete([]byte("k0000"))
	err := s.Commit(&b)
	require.Error(t, err)
	require.NotErrorIs(t, err, shardlog.ErrStorage, "the outcome is known")
	_, err = s.Get([]byte("one more"))
	require.ErrorIs(t, err, shardlog.ErrNotFound)

	// What the tree does not take in one transaction.
	b = kv.Batch{}
	for i := range 400 {
		b.Set(fmt.Appendf(nil, "t%04d", i), make([]byte, 900))
	}
	err = s.Commit(&b)
	require.Error(t, err)
	require.NotErrorIs(t, err, shardlog.ErrStorage)
	_, err = s.Get([]byte("t0000"))
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	require.NoError(t, set(s, "a", []byte("1")), "the store goes on")
	requireValue(t, s, "k0000", nil)
}

func TestCloseWhileInUse(t *testing.T) {
	for range 5 {
		s, err := begin(small(t.TempDir()))
		require.NoError(t, err)
		require.NoError(t, set(s, "a", make([]byte, 50<<10)))
		var wg, begun sync.WaitGroup
		loop := func(f func() error) {
			begun.Add(1)
			wg.Go(func() {
				once := sync.OnceFunc(begun.Done)
				for {
					err := f()
					once()
					if err != nil {
						if !isClosed(err) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		for range 2 {
			loop(func() error { _, err := s.Get([]byte("a")); return err })
			loop(func() error { return s.Scan(nil, func([]byte, int64) bool { return true }) })
			loop(func() error { return s.GetMany([][]byte{[]byte("a")}, func(int, []byte) bool { return true }) })
			loop(s.Sync)
			loop(func() error { _ = s.Usage(); return s.usable() })
		}
		loop(func() error { return set(s, "b", make([]byte, 5<<10)) })
		loop(func() error {
			snap, err := s.Snapshot()
			if err != nil {
				return err
			}
			defer snap.Close()
			_, err = snap.Get([]byte("a"))
			return err
		})
		begun.Wait()
		require.NoError(t, s.Close())
		wg.Wait()
	}
}

func isClosed(err error) bool { return errors.Is(err, shardlog.ErrClosed) }
