//go:build !unix

package stream

import "io/fs"

func allocatedBytes(fi fs.FileInfo) int64 { return fi.Size() }
