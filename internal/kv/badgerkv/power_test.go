package badgerkv

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4/pb"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/shardlog/shardlog"

	"github.com/shardlog/shardlog/internal/kv/badgerfile"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// A large batch is not in the redo log, so the log of the memtable that it went to
// has to be synced, also if several have come and gone since the last one.
func TestALargeBatchSyncsTheNewestLog(t *testing.T) {
	o := small(t.TempDir())
	o.SyncWrites, o.RedoMax = true, 256<<10
	d := System()
	var mu sync.Mutex
	synced := map[string]bool{}
	d.Sync = func(f *os.File) error {
		mu.Lock()
		defer mu.Unlock()
		synced[filepath.Base(f.Name())] = true
		return nil
	}
	o.Disk = d
	s := open(t, o)
	large := make([]byte, 100<<10)
	require.NoError(t, set(s, "a", large))
	newest := func() uint64 {
		mems, err := numbered(o.Dir, ".mem")
		require.NoError(t, err)
		return last(mems)
	}
	first := newest()
	for newest() < first+3 {
		require.NoError(t, s.rotate())
	}
	require.Eventually(t, func() bool { return !exists(s.path(badgerfile.WALName(first + 1))) }, time.Minute, time.Millisecond)
	mu.Lock()
	clear(synced)
	mu.Unlock()
	require.NoError(t, set(s, "b", large))
	mu.Lock()
	defer mu.Unlock()
	require.True(t, synced[badgerfile.WALName(newest())], "synced: %v", slices.Collect(maps.Keys(synced)))
}

// earlierBoot makes a directory one that an earlier run of the system has written.
func earlierBoot(t *testing.T, dir string) {
	t.Helper()
	inv, err := badgerfile.ReadInventory(dir)
	require.NoError(t, err)
	inv.Boot = "earlier"
	require.NoError(t, inv.Write(dir))
}

// A power loss leaves any of the sectors of an entry of the manifest that was being
// written. An entry with others behind it was synced, and is damaged otherwise.
func TestAManifestWithATornEnd(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(entry []byte)
		boot  bool
		last  bool
		fine  bool
	}{
		{"its end is lost", func(e []byte) { clear(e[len(e)/2:]) }, true, true, true},
		{"its beginning is lost", func(e []byte) { clear(e[:len(e)/2]) }, true, true, true},
		{"the system runs still", func(e []byte) { clear(e[len(e)/2:]) }, false, true, false},
		{"others follow", func(e []byte) { clear(e[len(e)/2:]) }, true, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := small(t.TempDir())
			o.SyncWrites = true
			for i := range 3 { // tables
				s, err := begin(o)
				require.NoError(t, err)
				require.NoError(t, set(s, fmt.Sprint(i), []byte("value")))
				require.NoError(t, s.Close())
			}
			s, err := begin(o)
			require.NoError(t, err)
			dir := kvtest.Killed(t, o.Dir)
			require.NoError(t, s.Close())
			path := filepath.Join(dir, badgerfile.ManifestName)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			at := 8
			if test.last {
				// A change that does nothing: the table is made and removed.
				b = append(b, manifestChanges(t, 90)...)
			}
			for size := 8 + int(binary.BigEndian.Uint32(b[at:])); at+size < len(b) && (test.last || at == 8); {
				at += size
				size = 8 + int(binary.BigEndian.Uint32(b[at:]))
			}
			test.spoil(b[at:][:8+binary.BigEndian.Uint32(b[at:])])
			require.NoError(t, os.WriteFile(path, b, 0o600))
			if test.boot {
				earlierBoot(t, dir)
			}
			o.Dir = dir
			s, err = begin(o)
			if !test.fine {
				require.ErrorIs(t, err, shardlog.ErrCorrupt)
				return
			}
			require.NoError(t, err)
			for i := range 3 {
				requireValue(t, s, fmt.Sprint(i), []byte("value"))
			}
			require.NoError(t, s.Close())
		})
	}
}

// manifestChanges returns an entry of the manifest that makes a table and removes it.
func manifestChanges(t *testing.T, table uint64) []byte {
	t.Helper()
	body, err := proto.Marshal(&pb.ManifestChangeSet{Changes: []*pb.ManifestChange{
		{Id: table, Op: pb.ManifestChange_CREATE}, {Id: table, Op: pb.ManifestChange_DELETE}}})
	require.NoError(t, err)
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return append(b, body...)
}
