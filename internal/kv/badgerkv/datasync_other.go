//go:build !linux

package badgerkv

import "os"

// syncsMappings is false where it is not certain that datasync writes what was
// changed through a mapping. Badger's own sync does.
const syncsMappings = false

func datasync(f *os.File) error { return f.Sync() }
