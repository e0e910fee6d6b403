package logstore

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// A power loss may take a block and leave the next one. The records of it that a
// sync had made durable in the journal are there, and the others are damage.
func TestTheJournalFillsGapsBetweenBlocks(t *testing.T) {
	smallBlocks(t)
	for _, how := range []string{"lost", "damaged"} {
		t.Run(how, func(t *testing.T) {
			store := kvtest.New(kv.NewMemory())
			l, ss := openOn(t, store, 2, Options{})
			s, other := ss[0], ss[1]
			written := 0
			write := func(n, size int) {
				for range n {
					require.NoError(t, put(l, s, numbers(written, written+1, size)...))
					written++
				}
			}
			fill := func() { // the last one takes the others into its block
				write(5, 4000)
				write(1, directBytes)
			}
			require.NoError(t, put(l, other, "other"))
			fill()
			write(1, 4000)
			require.NoError(t, l.Sync())
			first := written // of the records that only the second block may have
			fill()
			fill()
			want := contents(t, s)
			var blocks [][]byte
			require.NoError(t, store.Scan([]byte{prefixBlock}, func(k []byte, _ int64) bool { blocks = append(blocks, append([]byte(nil), k...)); return true }))
			require.Len(t, blocks, 3)
			_, e, ok := parseBlockKey(blocks[1])
			require.True(t, ok)
			require.NoError(t, l.Close())
			if how == "lost" {
				store.Drop(func(k []byte) bool { return string(k) == string(blocks[1]) })
			} else {
				store.Damage(func(k, v []byte) []byte {
					if string(k) == string(blocks[1]) {
						v[len(v)/2] ^= 1
					}
					return v
				})
			}

			var faults []Fault
			_, err := Verify(ctx, store, store.Entries(), map[ID]uint64{{1, 0}: base, {1, 1}: base}, func(f Fault) { faults = append(faults, f) })
			require.NoError(t, err)
			require.Len(t, faults, 1)
			if how == "lost" { // a damaged value is one as long as the log was not opened
				require.GreaterOrEqual(t, int(faults[0].First-base-1), first, "what opening will find is not missing")
			}

			for range 2 { // the second time all is in blocks
				l, err := Open(&faulty{Store: store, failAt: -1, keepOpen: true}, Options{}, configs(2), Recovery{Unsynced: true, Unclean: true})
				require.NoError(t, err)
				data, damages := readDamaged(t, l.Shard(ID{1, 0}))
				require.Len(t, damages, 1, "the part that became a block without the journal")
				lost := int(counterOf(damages[0].Last) - counterOf(damages[0].First) + 1)
				at := int(counterOf(damages[0].First) - base - 1)
				require.GreaterOrEqual(t, at, first, "what was synced is there")
				require.Equal(t, int(e.end()-base-1), at+lost)
				require.Equal(t, append(append([]string(nil), want[:at]...), want[at+lost:]...), data)
				require.Equal(t, []string{"other"}, contents(t, l.Shard(ID{1, 1})))
				require.NoError(t, l.Close())
				store.Damage(nil)
				store.Drop(nil)
			}
		})
	}
}
