package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

func TestCheckAndRepair(t *testing.T) {
	dir := t.TempDir()
	key := strings.Repeat("k", 16)
	keyFile := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(keyFile, []byte(strings.Repeat("6b", 16)+"\n"), 0o600))
	o := &stream.Options{EncryptionKey: []byte(key)}
	db, err := stream.Open(dir, o)
	require.NoError(t, err)
	st, err := db.Create(t.Context(), "s", stream.Config{})
	require.NoError(t, err)
	_, err = st.Put(t.Context(), shardlog.Record{PartitionKey: "k", Data: []byte("x")})
	require.NoError(t, err)
	code, _, errs := cli(t, "", "check", dir, "-key-file", keyFile)
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "locked")
	require.NoError(t, db.Close())

	require.Contains(t, mustCLI(t, "", "check", dir, "-key-file", keyFile), "found whole: 1 streams, 1 shards")
	require.Contains(t, mustCLI(t, "", "check", "-repair", dir, "-key-file", keyFile), "nothing to repair")
	code, _, errs = cli(t, "", "check", dir)
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "EncryptionKey")

	require.NoError(t, os.Remove(filepath.Join(dir, "MANIFEST")))
	code, out, errs := cli(t, "", "check", dir, "-key-file", keyFile)
	require.Equal(t, exitFail, code)
	require.Contains(t, out, "MANIFEST: it is missing")
	require.Contains(t, errs, "-repair")
	require.Contains(t, mustCLI(t, "", "check", "-repair", dir, "-key-file", keyFile), "repaired; the old files are in "+dir)
	require.Contains(t, mustCLI(t, "", "check", dir, "-key-file", keyFile), "1 records")
	db, err = stream.Open(dir, o)
	require.NoError(t, err)
	require.NoError(t, db.Close())

	code, _, _ = cli(t, "", "check")
	require.Equal(t, exitUsage, code)
	code, _, errs = cli(t, "", "check", t.TempDir())
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "no database")
}
