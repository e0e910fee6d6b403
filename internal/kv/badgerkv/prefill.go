package badgerkv

// Badger writes records through a mapping of a sparse file. The first touch of
// each page of a hole costs a fault in which the file system allocates one
// block: several microseconds for 4 KiB, more than everything else together.
// Written with a call, the same pages come in large pieces at a sixth of the
// cost, and touching them afterwards is cheap. So before a commit would reach
// into a hole, a stretch of the hole is filled with the zeros that it reads as
// anyway: nothing that anyone can see changes but the speed.
//
// Where each commit is synced there is another gain: blocks that are there
// already need no change of metadata, and so no commit of the file system's
// journal with each sync. That is why the memtable's log is filled then, too.
// The price is that such a store writes the zeros to the disk as well.
//
// It is safe because nobody writes the file meanwhile (commits hold txMu, and
// value log GC gcMu), and because only what the file system calls a hole is
// written, on file systems whose answer is known to be right about mapped
// pages.

// prefillChunk is how much is filled at a time.
const prefillChunk = 1 << 20
