//go:build unix

package stream

import (
	"io/fs"
	"syscall"
)

func allocatedBytes(fi fs.FileInfo) int64 {
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int64(s.Blocks) * 512
	}
	return fi.Size()
}
