package badgerkv

import (
	"sync/atomic"
	"time"
)

// gate delays compactions while the disk is nearly full: Badger writes tables
// through mappings of files without blocks, where a disk that is full ends the
// process. Badger calls its logger right before it makes each table of a
// compaction, in the goroutine that does so, and the gate is in that call.
//
// The tables of memtables need no gate: they come after a commit, which was
// refused if there was too little room.
type gate struct {
	space   *spaceGuard
	waiting atomic.Int32
}

const (
	// gateRoom is what has to be free for a table, at most: a table has about
	// 2 MiB, and is written within some milliseconds.
	gateRoom = 16 << 20
	// gateEvery is how often it is looked whether there is room again.
	gateEvery = 100 * time.Millisecond
	// gateLimit bounds how long Close waits for a compaction that waits for room.
	gateLimit = 2 * time.Second
)

// pass returns when there is room for a table.
func (g *gate) pass() {
	if g == nil || g.space.roomForTable() {
		return
	}
	g.waiting.Add(1)
	defer g.waiting.Add(-1)
	for !g.space.roomForTable() {
		time.Sleep(gateEvery)
	}
}

// shut reports whether a compaction waits.
func (g *gate) shut() bool { return g.waiting.Load() > 0 }
