package badgerkv

import "github.com/shardlog/shardlog/internal/kv"

// Badger writes through mappings of sparse files. The first touch of each page
// of a hole is a fault in which the file system allocates a block, and the
// writer waits for it: that costs more than the copying. So a goroutine of its
// own keeps the pages ahead of the writer populated, which is what the faults
// would do, and no more: no contents change, so it needs no lock against
// Badger. Where it falls behind or fails, only speed is lost.
//
// Badger also syncs a value log file as a whole when it is full, cuts what is
// allocated behind its end, and the writer waits for both. So the goroutine asks the
// system to begin with the writing as the file fills, in smaller steps towards
// the end, where what is on its way is what the sync waits for. And nothing is
// populated or allocated behind the end that the writer will not need: it would be
// written for nothing, and given back.
//
// Where each commit is synced nothing is populated: such a store would write
// populated pages to the disk twice, and the disk is what it waits for.

const (
	// populateAhead is how far ahead of the writer pages are populated, in
	// bytes: some milliseconds' worth at the highest speed.
	populateAhead = 2 << 20
	// populateStep is how much is populated by one call, which may block
	// a goroutine that changes a mapping of the process.
	populateStep = 256 << 10
	// flushStep is how much has to be written before the system is asked to
	// bring it to the disk.
	flushStep = 4 << 20
	// lastStep is the same in the last steps before the end of a file.
	lastStep = 1 << 20
	// populatePast is how much is populated behind the size at which a file is
	// full, in bytes: what a commit that fills it writes there, as a rule.
	populatePast = 128 << 10
)

// largeBytes returns how much of a batch goes to the value log, at most.
func (s *Store) largeBytes(b *kv.Batch) (n int64) {
	for i := range b.Ops {
		if op := &b.Ops[i]; int64(len(op.Value)) >= s.threshold {
			n += int64(len(op.Key)+len(op.Value)) + entryOverhead
		}
	}
	return n
}
