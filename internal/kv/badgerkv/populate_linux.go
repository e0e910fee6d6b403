package badgerkv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// pager works ahead of, and behind, the writer of a store.
type pager struct {
	s    *Store
	f    pagedFile
	kick chan struct{}
	quit chan struct{}
	wg   sync.WaitGroup

	populated, flushes int // bytes and calls; its goroutine's, for tests
}

// pagedFile is the newest value log file, which is the one that Badger writes
// to. Its fields are the pager's goroutine's, but for
// those that are atomic.
type pagedFile struct {
	dir   string
	limit int64 // a file is full at about this size
	ahead int64 // how far ahead of the writer to populate; 0 for not

	lead atomic.Int64 // populated bytes that the writer has not reached, about
	wake atomic.Int64 // the goroutine has something to do when lead is below it

	fid     uint32
	f       *os.File
	m       mapping
	size    int64 // when m was looked up
	end     int64 // where the next hole may begin
	flushed int64 // the system was asked to write what is before it to the disk
}

// newPager returns nil where nothing can be populated.
func newPager(s *Store) *pager {
	o := s.opts
	// Linux before 5.14 refuses this advice.
	if err := (mapping{}).populate(0, 0); err != nil {
		return nil
	}
	p := &pager{kick: make(chan struct{}, 1), quit: make(chan struct{}), s: s}
	p.f.dir, p.f.limit = o.Dir, o.ValueLogFile
	if !o.SyncWrites {
		p.f.ahead = min(populateAhead, o.ValueLogFile/4)
	}
	p.f.wake.Store(p.f.ahead / 2)
	p.wg.Add(1)
	go p.run()
	return p
}

func (p *pager) close() {
	if p == nil {
		return
	}
	close(p.quit)
	p.wg.Wait()
}

// wrote notes how much is written to the value log, before or after the fact.
func (p *pager) wrote(n int64) {
	if p != nil && n > 0 && p.f.lead.Add(-n) < p.f.wake.Load() {
		select {
		case p.kick <- struct{}{}:
		default:
		}
	}
}

func (p *pager) run() {
	defer p.wg.Done()
	defer p.f.close()
	for {
		select {
		case <-p.quit:
			return
		case <-p.kick:
			// An error costs speed only, and only until the next attempt.
			_ = p.advance(&p.f)
		}
	}
}

func (f *pagedFile) close() {
	if f.f != nil {
		f.f.Close()
		f.f = nil
	}
}

// advance populates the pages that the writer needs next, and asks the system
// to write those behind it to the disk.
func (p *pager) advance(f *pagedFile) error {
	if err := f.follow(); err != nil {
		return err
	}
	hole, err := unix.Seek(int(f.f.Fd()), f.end, unix.SEEK_HOLE)
	if err != nil {
		return err
	}
	if to := f.behind(hole - max(f.lead.Load(), 0)); to > f.flushed {
		p.flush(f, to)
	}
	end := hole
	if f.ahead > 0 {
		end = min(hole+f.ahead, f.limit+populatePast, f.size)
	}
	for at := hole &^ (populateStep - 1); hole < end && at < end; at += populateStep {
		select {
		case <-p.quit:
			return nil
		default:
		}
		if err := f.m.populate(at, min(populateStep, end-at)); err != nil {
			f.close() // Badger may have mapped it elsewhere
			return err
		}
	}
	p.populated += int(max(0, end-hole))
	f.end = max(hole, end)
	lead := f.lead.Add(f.end - hole)
	f.wake.Store(f.ahead / 2)
	if f.end >= f.limit || f.ahead == 0 {
		// Nothing more is populated. What is left is to write what the writer leaves
		// behind it, and to notice that there is another file.
		f.wake.Store(lead - lastStep/2)
	}
	return nil
}

// behind returns up to where the system is to write the file to the disk, which is
// f.flushed if it is not yet time for more; at is where the writer is.
func (f *pagedFile) behind(at int64) int64 {
	lag, step := max(f.ahead, populateStep), int64(flushStep)
	if at >= f.limit-2*flushStep {
		lag, step = populateStep, lastStep
	}
	if to := (at - lag) &^ (populateStep - 1); to-f.flushed >= step {
		return to
	}
	return f.flushed
}

// flush asks the system to begin writing the file up to an offset. For that the
// system would take mapped pages out of the mapping one by one and interrupt
// the other processors each time, which costs several times as much as all the
// copying; so they are taken out together before. That would destroy memory
// that is not a file's, so it must be certain what is mapped there: the newest
// file is not unmapped, and is mapped elsewhere only by a write that makes it
// longer.
func (p *pager) flush(f *pagedFile, to int64) {
	s := p.s
	s.txMu.Lock()
	if !s.gcMu.TryLock() {
		s.txMu.Unlock()
		return // value log GC writes to the file, too, and may take long
	}
	fi, err := f.f.Stat()
	same := err == nil && fi.Size() == f.size && f.newest() && !s.closed.Load()
	if same {
		_ = f.m.advise(uintptr(f.flushed), uintptr(to-f.flushed), unix.MADV_DONTNEED)
	}
	s.gcMu.Unlock()
	s.txMu.Unlock()
	if same {
		_ = unix.SyncFileRange(int(f.f.Fd()), f.flushed, to-f.flushed, unix.SYNC_FILE_RANGE_WRITE)
		f.flushed = to
		p.flushes++
	}
}

// newest reports whether f is still the file that Badger writes to.
func (f *pagedFile) newest() bool { return !exists(f.path(f.fid+1)) && exists(f.path(f.fid)) }

// follow opens the newest file.
func (f *pagedFile) follow() error {
	if f.f != nil && f.newest() {
		return nil
	}
	f.close()
	fid, err := f.find()
	if err != nil {
		return err
	}
	file, err := os.Open(f.path(fid))
	if err != nil {
		return err
	}
	fi, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	found := mappings(f.dir, filepath.Base(f.path(fid)))
	if len(found) != 1 || int64(found[0].size) < fi.Size() {
		return errors.Join(os.ErrNotExist, file.Close())
	}
	f.fid, f.f, f.m, f.size = fid, file, found[0], fi.Size()
	f.end, f.flushed = 0, 0
	f.lead.Store(0)
	return nil
}

func (f *pagedFile) path(fid uint32) string {
	return filepath.Join(f.dir, fmt.Sprintf("%06d.vlog", fid))
}

// find returns the highest number of a file.
func (f *pagedFile) find() (uint32, error) {
	files, err := numbered(f.dir, ".vlog")
	if err != nil {
		return 0, err
	}
	if len(files) == 0 {
		return 0, os.ErrNotExist
	}
	return uint32(files[len(files)-1].number), nil
}
