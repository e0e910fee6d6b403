package block

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// Blocks without dedup IDs stay as they were, so that older programs read them.
func TestOnlyBlocksWithIDsHaveTheNewerVersion(t *testing.T) {
	plain := []placed{{shardlog.Record{PartitionKey: "k"}, 1000, 50}, {shardlog.Record{PartitionKey: "k"}, 1000, 51}}
	with := []placed{{shardlog.Record{PartitionKey: "k", DedupID: "id"}, 1000, 52}}
	for _, c := range codecs {
		a, b := blockOf(plain, 0), blockOf(with, 51)
		for block, version := range map[*Block]byte{&a: 1, &b: 2} {
			value := encoded(block, c)
			require.Equal(t, version, value[12])
			require.Equal(t, version == 2, block.HasIDs())
			again, err := Decode(value)
			require.NoError(t, err)
			require.Equal(t, version == 2, again.HasIDs())
		}
		both := Merge(&a, &b)
		require.True(t, both.HasIDs())
		requireRun(t, append(append([]placed(nil), plain...), with...), &both)
	}
}

func TestAnIDInABlockOfTheOlderVersionIsDamage(t *testing.T) {
	b := blockOf([]placed{{shardlog.Record{PartitionKey: "k", DedupID: "id"}, 1000, 50}}, 0)
	value := encoded(&b, None)
	value[12] = 1
	fixChecksum(value)
	old, err := Decode(value)
	require.NoError(t, err)
	it, err := old.Seek(0)
	require.NoError(t, err)
	var item Item
	_, err = it.Next(&item)
	require.True(t, isDamage(err), "%v", err)
}

// An end that a damaged restart table puts before the beginning is damage.
func TestOwnUpToAnEarlierPlace(t *testing.T) {
	b := blockOf(evenRun(40, 1000), 0)
	value := encoded(&b, None)
	table := value[len(value)-b.restarts()*restartSize:]
	last := table[len(table)-restartSize:]
	copy(last[4:8], []byte{1, 0, 0, 0}) // its offset
	fixChecksum(value)
	bad, err := Decode(value)
	require.NoError(t, err)
	it := seek(t, &b, 70)
	stop, _ := bad.Seek(bad.End() - 1)
	require.Less(t, stop.off, it.off)
	it.Own(stop)
	var item Item
	_, err = it.Next(&item)
	require.True(t, isDamage(err), "%v", err)
}
