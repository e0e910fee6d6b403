package badgerkv

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// canAllocate says that blocks of a file can be allocated before they are
// written to.
const canAllocate = true

// allocate gives a file blocks on the disk, also behind its end, which stays
// where it is.
func allocate(f *os.File, from, n int64) error {
	if n <= 0 {
		return nil
	}
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, from, n)
		if err != unix.EINTR {
			return err
		}
	}
}

// isFull reports whether an error is that of a full disk or quota.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// seekHole returns where the first hole is from an offset on.
func seekHole(f *os.File, from int64) (int64, error) {
	return unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
}
