package logstore

// Sizes and bounds of the write path, in bytes unless said otherwise.
const (
	groupBytes = 4 << 20   // one transaction
	blockBytes = 256 << 10 // records of one block, unless one record is larger
	// directBytes is the size from which a shard's part of a group is stored
	// as a block immediately; smaller ones gather in the journal.
	directBytes = 8 << 10
	// journalBytes is about the largest size of one journal value.
	journalBytes = 256 << 10
	// flushBytes is when what gathered becomes a block.
	flushBytes = 64 << 10
	// maxSlots and maxJournal bound the journal, and with it the memory that
	// its records take and what is read at open.
	maxSlots   = 8192 // values
	maxJournal = 16 << 20
	// maxHeld is how many values without a use may wait for a sync before the
	// committer makes one: they are read at open, too.
	maxHeld = maxSlots / 2
	// maxJournalStored bounds the values themselves: a shard with few records
	// keeps those of others that have long been in blocks.
	maxJournalStored = 64 << 20
	// maxChanges and maxInline bound one transaction, with room for one more
	// operation: the store takes 1,000 changes, and 15 % of a memtable of
	// 1 MiB in its tree.
	maxChanges = 600
	maxInline  = 48 << 10
	// maxGaps is how many parts that cannot be joined, because failed records
	// left gaps in the numbers, a shard may have in the journal.
	maxGaps = 32
	// trimChanges is how many blocks one transaction removes for one shard.
	trimChanges = 100
	// wakeDead and wakeStored are how much has to die, or to be stored, before
	// Wake is called.
	wakeDead   = 8 << 20
	wakeStored = 32 << 20
	// stallDead and stallOver are how much may be dead, or over a Usage's limit,
	// before writers are slowed down, or an eighth of what is live or allowed
	// if that is more.
	stallDead = 16 << 20
	stallOver = 8 << 20
	// gatherRounds is how often in a row the committer lets others run without
	// another writer coming before it takes a group.
	gatherRounds = 24
)
