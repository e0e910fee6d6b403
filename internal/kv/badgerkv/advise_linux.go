package badgerkv

import "golang.org/x/sys/unix"

// adviseMappings takes the pages of dir's value log files out of the process's
// resident memory. They stay in the page cache, written or not, so nothing is
// lost; without it a process that writes a gigabyte appears to use a gigabyte
// of memory.
func adviseMappings(dir string) {
	for _, m := range mappings(dir, ".vlog") {
		_ = m.advise(0, m.size, unix.MADV_DONTNEED) // it is advice
	}
}
