package patterns

import (
	"bytes"
	"os"
	"strconv"
)

// writtenBytes returns the number of bytes that the process had the system write
// to disks, in whole pages; 0 where there is no /proc/self/io, which is Linux's.
func writtenBytes() int64 {
	data, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(data) {
		if v, ok := bytes.CutPrefix(line, []byte("write_bytes: ")); ok {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(v)), 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}
