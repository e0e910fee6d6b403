package logstore

// slot is a journal value whose records are not all in blocks yet.
type slot struct {
	number uint32
	refs   int // parts that are not in blocks
	bytes  int64
	group  uint64 // number of the value
}

// heldSlot is a slot that may be used again after the next sync.
type heldSlot struct {
	number uint32
	syncs  uint64 // calls of Sync that had begun
}

// slots are the journal's values: which are in use, and which numbers may be
// written next. They belong to the committer, and to recovery before it starts.
type slots struct {
	used     []*slot    // values in use, oldest first
	byNumber []*slot    // the same
	free     []uint32   // numbers to use again
	held     []heldSlot // numbers to use again after a sync, in order of syncs
	next     uint32     // numbers never used begin here
	bytes    int64      // of the parts that are in no block
	stored   int64      // of the values in use, with parts that are in blocks
	group    uint64     // number of the last group that has a value
}

// full reports whether records have to leave the journal before more come.
func (j *slots) full() bool {
	return len(j.used) >= maxSlots || j.bytes >= maxJournal || j.stored >= maxJournalStored
}

// use notes that a value is in use, the newest one.
func (j *slots) use(sl *slot) {
	j.used = append(j.used, sl)
	for len(j.byNumber) <= int(sl.number) {
		j.byNumber = append(j.byNumber, nil)
	}
	j.byNumber[sl.number] = sl
	j.stored += sl.bytes
}

// take returns the number to write the next value under. Done is how many
// syncs are over.
func (j *slots) take(done uint64) uint32 {
	n := 0
	for n < len(j.held) && j.held[n].syncs < done {
		j.free = append(j.free, j.held[n].number)
		n++
	}
	j.held = j.held[n:]
	if n := len(j.free); n > 0 {
		number := j.free[n-1]
		j.free = j.free[:n-1]
		return number
	}
	j.next++
	return j.next - 1
}

// giveBack takes back a number whose records are in blocks. Where commits are
// not synced the blocks may not be on the disk yet, while the slot's value is.
// If it were overwritten now, and the new value got to the disk before the
// blocks, a power failure would take records that a sync had made durable long
// ago. So with hold the number waits for a sync that begins after the begun
// ones.
func (j *slots) giveBack(number uint32, hold bool, begun uint64) {
	if hold {
		j.held = append(j.held, heldSlot{number, begun})
		return
	}
	j.free = append(j.free, number)
}

// release notes that parts no longer need their values, and reports whether
// there is a value that nothing needs.
func (j *slots) release(parts []partRef) (unused bool) {
	for i := range parts {
		sl := j.byNumber[parts[i].slot]
		j.bytes -= int64(parts[i].size)
		sl.refs--
		unused = unused || sl.refs == 0
	}
	return unused
}

// dropUnused gives back the values that nothing needs, and returns their
// stored bytes. The order of the others is kept.
func (j *slots) dropUnused(hold bool, begun uint64) (dropped int64) {
	kept := j.used[:0]
	for _, sl := range j.used {
		if sl.refs > 0 {
			kept = append(kept, sl)
			continue
		}
		j.byNumber[sl.number] = nil
		j.giveBack(sl.number, hold, begun)
		dropped += sl.bytes
	}
	clear(j.used[len(kept):])
	j.used = kept
	j.stored -= dropped
	return dropped
}
