package badgerkv

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncsMappings says that datasync writes what was changed through a mapping.
const syncsMappings = true

// datasync makes a file's data durable, and of its metadata what is needed to read
// it.
func datasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}
