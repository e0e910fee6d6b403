//go:build !windows

package badgerkv

import (
	"errors"
	"os"
)

// syncDir makes the names of new files durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
