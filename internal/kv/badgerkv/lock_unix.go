//go:build unix

package badgerkv

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockDir takes the lock that Badger takes on its directory. It does not wait: the
// error matches errHeld where somebody has it.
func lockDir(dir string) (unlock func() error, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errHeld
		} else {
			err = &os.PathError{Op: "flock", Path: dir, Err: err}
		}
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil // which unlocks it
}
