package badgerkv

import (
	"bytes"
	"errors"
	"math/rand"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func small(dir string) Options { return Options{Dir: dir, ValueLogFile: 1 << 20, MinFree: 1 << 20} }

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := begin(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// begin opens a store and begins its journal, with no entries.
func begin(o Options) (*Store, error) {
	s, err := Open(o)
	if err != nil {
		return nil, err
	}
	if _, err := s.Journal().Restart(nil); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func set(s *Store, key string, value []byte) error {
	var b kv.Batch
	b.Set([]byte(key), value)
	return s.Commit(&b)
}

func value(rnd *rand.Rand, n int) []byte {
	v := make([]byte, n)
	rnd.Read(v)
	return v
}

func requireValue(t testing.TB, s interface {
	Get([]byte) ([]byte, error)
}, key string, want []byte) {
	t.Helper()
	v, err := s.Get([]byte(key))
	require.NoError(t, err, key)
	require.True(t, bytes.Equal(want, v), key)
}

// disk reports the free bytes that a test sets.
type disk struct {
	mu    sync.Mutex
	free  int64
	err   error
	asked int
}

func (d *disk) set(free int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = free
}

func (d *disk) freeSpace(string) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	return d.free, d.err
}
