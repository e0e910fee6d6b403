package badgerkv

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// spaceGuard refuses commits before the disk is full. Badger writes through
// mappings of sparse files, where a full disk is a SIGBUS that kills the
// process, so the refusal must come while there is still room for everything
// that is written without a check: flushes, compactions and rewrites in the
// background.
type spaceGuard struct {
	opts    Options
	allow   atomic.Int64 // bytes that may be committed before asking again
	expires atomic.Int64 // when to ask again in any case, nanoseconds since began
	began   time.Time    // time is measured from it, so that moved clocks do not matter
	fill    fillGauge
}

const (
	// askEvery bounds how long an answer of the file system is used: other
	// programs write to it as well.
	askEvery = 2 * time.Millisecond
	// smallRoom is what small commits leave free, at most: room for what Badger
	// writes in the background because of them.
	smallRoom = 32 << 20
	// askBytes bounds how much is committed on one answer.
	askBytes = 8 << 20
)

func newSpaceGuard(o Options) *spaceGuard { return &spaceGuard{opts: o, began: time.Now()} }

func (g *spaceGuard) free() (int64, error) {
	if g.opts.FreeSpace != nil {
		return g.opts.FreeSpace(g.opts.Dir)
	}
	return freeSpace(g.opts.Dir)
}

// check refuses a commit of n bytes that does not fit. A small one may use
// most of what is kept back: it is what makes room.
func (g *spaceGuard) check(n int64, small bool) error {
	if !small && g.allow.Add(-n) >= 0 && int64(time.Since(g.began)) < g.expires.Load() {
		return nil
	}
	free, err := g.free()
	if err != nil {
		return nil // a file system that cannot tell is not a full one
	}
	keep := g.opts.MinFree
	if small {
		keep = min(keep/2, smallRoom)
	}
	if free-n-g.ahead(free) < keep {
		g.allow.Store(0)
		return &shardlog.Error{Op: "commit", RetryAfter: kv.RetryAfterFull, Err: fmt.Errorf(
			"%w: %d bytes are free in %s, and %d are kept back", shardlog.ErrNoSpace, free, g.opts.Dir, keep)}
	}
	if !small {
		g.allow.Store(min(askBytes, free-n-keep))
		g.expires.Store(int64(time.Since(g.began) + askEvery))
	}
	return nil
}

// expected reports whether there is room for n bytes that will be committed later, as far
// as the last commits found. It does not look at the clock.
func (g *spaceGuard) expected(n int64) bool {
	return g.allow.Add(-n) >= 0 || g.check(n, false) == nil
}

// roomForTable reports whether there is room for a table of a compaction. It
// needs less than small commits leave, as compactions make room as well.
func (g *spaceGuard) roomForTable() bool {
	free, err := g.free()
	if err != nil || free >= fillFar {
		return true
	}
	time.Sleep(fillEvery) // or the gauge may know nothing
	if free, err = g.free(); err != nil {
		return true
	}
	return free-g.ahead(free) >= min(g.opts.MinFree/4, gateRoom)
}

// roomToMove reports whether space reclaiming may copy live values: it needs
// room for as much as it frees before it frees it.
func (g *spaceGuard) roomToMove() bool {
	free, err := g.free()
	return err != nil || free-g.ahead(free) > g.opts.MinFree/2+g.opts.MinFree/4
}

// ahead returns what other programs will have taken soon. The free bytes that a
// test sets change in steps, which are no rate.
func (g *spaceGuard) ahead(free int64) int64 {
	if g.opts.FreeSpace != nil {
		return 0
	}
	return g.fill.ahead(free)
}

// took notes what the store itself has taken of the disk.
func (g *spaceGuard) took(n int64) { g.fill.own.Add(n) }

// Usage implements kv.Store.
func (s *Store) Usage() kv.Usage {
	free, err := s.space.free()
	if err != nil {
		free = -1
	}
	return kv.Usage{DiskBytes: diskBytes(s.opts.Dir, ""), FreeBytes: free, Syncs: s.syncs.Load(), Commits: s.commits.Load()}
}

// diskBytes returns the allocated size of the files of dir with the extension,
// or of all.
func diskBytes(dir, ext string) (n int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if ext != "" && filepath.Ext(e.Name()) != ext {
			continue
		}
		if fi, err := e.Info(); err == nil && !fi.IsDir() {
			n += allocated(fi)
		}
	}
	return n
}
