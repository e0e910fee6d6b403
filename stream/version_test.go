package stream

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

func TestNewerFormatIsRefused(t *testing.T) {
	for value, want := range map[string]error{strconv.Itoa(formatVersion + 1): shardlog.ErrVersion, "100": shardlog.ErrVersion, "x": shardlog.ErrCorrupt, "": shardlog.ErrCorrupt} {
		store := newSurviving()
		require.NoError(t, store.open(t, nil).Close())
		var b kv.Batch
		b.Set(keyFormat, []byte(value))
		require.NoError(t, store.Commit(&b))
		opts, err := (&Options{}).withDefaults("dir")
		require.NoError(t, err)
		_, err = openOn(store, opts)
		require.ErrorIs(t, err, want)
		if want == shardlog.ErrVersion {
			require.Contains(t, err.Error(), "format "+value)
			require.Contains(t, err.Error(), "up to "+strconv.Itoa(formatVersion))
		}
	}
}

// formatSync records with which format version a store was synced first.
type formatSync struct {
	kv.Store
	first string
}

func (s *formatSync) Sync() error {
	if v, err := s.Get(keyFormat); err == nil && s.first == "" {
		s.first = string(v)
	}
	return s.Store.Sync()
}

// The version is where an earlier program looks, which does not know the redo log,
// before anything else is stored.
func TestANewFormatIsSynced(t *testing.T) {
	store := newSurviving()
	require.NoError(t, store.open(t, nil).Close())
	var b kv.Batch
	b.Set(keyFormat, []byte("1"))
	require.NoError(t, store.Commit(&b))
	opts, err := (&Options{}).withDefaults("dir")
	require.NoError(t, err)
	syncs := &formatSync{Store: store}
	db, err := openOn(syncs, opts)
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(formatVersion), syncs.first)
	require.NoError(t, db.Close())
}

func TestEncryption(t *testing.T) {
	dir := t.TempDir()
	key, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 16)
	with := func(k []byte) *Options {
		o := smallOptions()
		o.EncryptionKey = k
		return o
	}
	db, err := Open(dir, with(key))
	require.NoError(t, err)
	st := create(t, db, "s", Config{})
	secret := bytes.Repeat([]byte("a secret "), 5000)
	_, err = st.Put(t.Context(), shardlog.Record{PartitionKey: "k", Data: secret})
	require.NoError(t, err)
	put(t, st, "small", "another secret")
	require.NoError(t, db.Close())
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		require.NoError(t, err)
		require.NotContains(t, string(data), "secret", f.Name())
	}
	for _, k := range [][]byte{nil, other} {
		_, err = Open(dir, with(k))
		requireInvalid(t, err, "EncryptionKey")
	}
	reads := func(k []byte) {
		t.Helper()
		db, err := Open(dir, with(k))
		require.NoError(t, err)
		st, err := db.Stream(t.Context(), "s")
		require.NoError(t, err)
		require.Equal(t, string(secret), string(readAll(t, st, shardID(0))[0].Data))
		require.NoError(t, db.Close())
	}
	requireInvalid(t, RotateEncryptionKey(dir, other, key), "EncryptionKey")
	requireInvalid(t, RotateEncryptionKey(dir, key, make([]byte, 5)), "newKey")
	require.Error(t, RotateEncryptionKey(filepath.Join(dir, "missing"), key, other))
	reads(key)
	require.NoError(t, RotateEncryptionKey(dir, key, other))
	_, err = Open(dir, with(key))
	requireInvalid(t, err, "EncryptionKey")
	reads(other)
	require.NoError(t, RotateEncryptionKey(dir, other, nil))
	reads(nil)
	require.NoError(t, RotateEncryptionKey(dir, nil, key))
	reads(key)
}
