//go:build !linux

package badgerkv

import (
	"errors"
	"os"
	"syscall"
)

// canAllocate: elsewhere the space that is kept free has to do. Windows allocates
// files that are not sparse when they get their size.
const canAllocate = false

func allocate(*os.File, int64, int64) error { return errors.ErrUnsupported }

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) }

func seekHole(*os.File, int64) (int64, error) { return 0, errors.ErrUnsupported }
