package badgerfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// skipHole returns where data continues at or after an offset, or size.
func skipHole(f *os.File, at, size int64) int64 {
	next, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	switch {
	case err == unix.ENXIO:
		return size
	case err != nil:
		return at
	}
	return next
}
