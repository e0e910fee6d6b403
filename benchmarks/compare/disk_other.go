//go:build !linux

package main

import "io/fs"

// allocated is what a file takes on the disk, holes included.
func allocated(info fs.FileInfo) int64 { return info.Size() }
