package logstore

// Sizes and bounds of the write path, in bytes unless said otherwise.
const (
	groupBytes = 4 << 20   // one transaction
	blockBytes = 256 << 10 // records of one block, unless one record is larger
	// directBytes is the size from which a shard's part of a group is stored
	// as a block immediately; smaller ones gather in the journal.
	directBytes = 8 << 10
	// instantBytes bounds an append that is acknowledged when the journal has it.
	instantBytes = 128 << 10
	// flushBytes is when what gathered becomes a block.
	flushBytes = 64 << 10
	// maxRoomy bounds the runs that begin with room for a block.
	maxRoomy = 128
	// maxJournal bounds what is only in the journal, and with it the memory that the
	// records take and what is read at open. The journal itself has a bound of its
	// own, see kv.Journal.
	maxJournal = 16 << 20
	// checkBytes is how much is added to the journal before it is looked whether that is
	// too much.
	checkBytes = 128 << 10
	// keptInstants bounds the memory for the shards of an append that is kept.
	keptInstants = 1 << 10
	// keptEntry is the memory for an entry of the journal that is kept.
	keptEntry = 256 << 10
	// maxChanges and maxInline bound one transaction, with room for one more
	// operation: the store takes 1,000 changes, and 15 % of a memtable of
	// 1 MiB in its tree.
	maxChanges = 600
	maxInline  = 48 << 10
	// manyParts is how many parts of a group are blocks in one transaction, whatever
	// compression makes of them.
	manyParts = 4
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

// instantPart bounds what an append that is acknowledged when the journal has it adds to
// one shard: what is larger is a good block as it is, and would be written twice. Tests
// change it.
var instantPart = 64 << 10
