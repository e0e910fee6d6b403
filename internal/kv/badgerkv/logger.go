package badgerkv

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/shardlog/shardlog"
)

// badgerLog is Badger's logger. It passes warnings and errors on, and it is
// how a failed sync of the value log is noticed: Badger logs that error and
// lets the commit succeed.
type badgerLog struct {
	log    *slog.Logger
	failed atomic.Pointer[string]
	// flushFailed is closed when a memtable could not be written to a table,
	// which Badger tries again without end.
	flushFailed chan struct{}
	once        sync.Once
	// jammed: Badger keeps the lock of a file that it failed to read a value
	// from, by a panic or as Errorf says, and its Close waits for that lock.
	jammed atomic.Bool

	gate *gate // delays compactions; nil for none

	gcMu sync.Mutex
	gc   rewrittenFile
}

// rewrittenFile is what Badger says about the last file that value log GC has
// rewritten. Entries is -1 when it has not said so.
type rewrittenFile struct {
	file    uint32
	entries int // how many it has read
}

func (l *badgerLog) rewritten() rewrittenFile {
	l.gcMu.Lock()
	defer l.gcMu.Unlock()
	return l.gc
}

func newBadgerLog(log *slog.Logger) *badgerLog {
	return &badgerLog{log: log, flushFailed: make(chan struct{})}
}

// fail records the first failure after which the store refuses to write.
func (l *badgerLog) fail(reason string) {
	reason = strings.TrimSpace(reason)
	l.failed.CompareAndSwap(nil, &reason)
}

func (l *badgerLog) failure() error {
	if p := l.failed.Load(); p != nil {
		return fmt.Errorf("%w: %s; open the database again to continue", shardlog.ErrStorage, *p)
	}
	return nil
}

// Errorf implements badger.Logger.
func (l *badgerLog) Errorf(format string, args ...any) {
	msg := strings.TrimSpace(fmt.Sprintf(format, args...))
	// The texts of value.go and memtable.go in Badger 4.9; a write error of
	// the write goroutine is returned by the commit too.
	if low := strings.ToLower(msg); strings.Contains(low, "sync") || strings.Contains(low, "writerequests") {
		l.fail(msg)
	}
	// Writers would wait for a free memtable without end.
	if strings.Contains(msg, "error flushing memtable") {
		l.fail(msg)
		l.once.Do(func() { close(l.flushFailed) })
	}
	// valueLog.Read returns without releasing the file when a value's header
	// says that it is longer than it is.
	if strings.HasPrefix(msg, "Invalid read") {
		l.jammed.Store(true)
	}
	if l.log != nil {
		l.log.Error("badger: " + msg)
	}
}

// Warningf implements badger.Logger.
func (l *badgerLog) Warningf(format string, args ...any) {
	if l.log != nil {
		l.log.Warn("badger: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

// Infof implements badger.Logger. It drops the message: at this level Badger
// logs too much. Two of valueLog.rewrite are the only way to learn which file it
// took and how far it read.
func (l *badgerLog) Infof(format string, args ...any) {
	l.gcMu.Lock()
	defer l.gcMu.Unlock()
	switch {
	case strings.HasPrefix(format, "Rewriting fid: %d") && len(args) == 1:
		l.gc = rewrittenFile{entries: -1}
		l.gc.file, _ = args[0].(uint32)
	case strings.HasPrefix(format, "Total entries: %d") && len(args) > 0:
		if n, ok := args[0].(int); ok {
			l.gc.entries = n
		}
	}
}

// Debugf implements badger.Logger. The message is that of
// levelsController.subcompact, which makes a table next.
func (l *badgerLog) Debugf(format string, _ ...any) {
	if strings.HasPrefix(format, "[%d] LOG Compact. Added") {
		l.gate.pass()
	}
}
