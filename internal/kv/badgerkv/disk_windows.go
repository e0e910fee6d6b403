package badgerkv

import (
	"io/fs"

	"golang.org/x/sys/windows"
)

// freeSpace returns the bytes that the user may still write.
func freeSpace(dir string) (int64, error) {
	p, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(p, &free, nil, nil); err != nil {
		return 0, err
	}
	return int64(free), nil
}

// allocated returns a file's size: Windows allocates what is set.
func allocated(fi fs.FileInfo) int64 { return fi.Size() }
