package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cpuTime returns how much of the processor's time this process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	check(unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// allocated returns the space that a file takes on the disk, without holes.
func allocated(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return info.Size()
}

// syncDisks waits until what was written is on the disk.
func syncDisks() { unix.Sync() }

// dropCache takes all files of a directory out of the page cache and returns the
// part of them that the kernel has kept; ok is false where that is not possible.
// Names and sizes of files stay cached.
func dropCache(dir string) (cached float64, ok bool) {
	var total, kept int
	check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n, in, err := dropFile(path)
		total, kept = total+n, kept+in
		return err
	}))
	return float64(kept) / float64(max(total, 1)), true
}

// dropFile returns the pages of a file, and those that are still cached.
func dropFile(path string) (pages, cached int, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, 0, err
	}
	// A page that is not on the disk yet stays, and so does one that another
	// processor has not passed on to the lists of the kernel.
	for range 5 {
		if err := f.Sync(); err != nil {
			return 0, 0, err
		}
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return 0, 0, err
		}
		if pages, cached, err = resident(f, info.Size()); err != nil || cached == 0 {
			break
		}
	}
	return pages, cached, err
}

// resident counts the pages of a file that are in the page cache.
func resident(f *os.File, size int64) (pages, cached int, err error) {
	m, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = unix.Munmap(m) }()
	state := make([]byte, (len(m)+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, no := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&state[0]))); no != 0 {
		return 0, 0, no
	}
	for _, s := range state {
		cached += int(s & 1)
	}
	return len(state), cached, nil
}

// copyData copies a file with its holes: those of a memory-mapped file are larger
// than its contents.
func copyData(to, from *os.File) error {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	for at := int64(0); ; {
		begin, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return to.Truncate(info.Size())
		} else if err != nil {
			return err
		}
		if at, err = unix.Seek(int(from.Fd()), begin, unix.SEEK_HOLE); err != nil {
			return err
		}
		if _, err := from.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		if _, err := to.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(to, from, at-begin); err != nil {
			return err
		}
	}
}
