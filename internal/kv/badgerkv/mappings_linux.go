package badgerkv

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mapping is where the process has a file in its address space. It is Badger's,
// and may be gone at any time: what is called on it must be harmless to
// whatever is there instead.
type mapping struct {
	at, size uintptr
}

// mappings returns those of dir's files whose names end with suffix, from
// their beginning.
func mappings(dir, suffix string) (found []mapping) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return nil
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := sc.Text()
		_, path, ok := strings.Cut(line, " /")
		if path = "/" + path; !ok || filepath.Dir(path) != abs || !strings.HasSuffix(path, suffix) {
			continue
		}
		span, rest, _ := strings.Cut(line, " ")
		from, to, _ := strings.Cut(span, "-")
		lo, err1 := strconv.ParseUint(from, 16, 64)
		hi, err2 := strconv.ParseUint(to, 16, 64)
		if fields := strings.Fields(rest); err1 == nil && err2 == nil && len(fields) > 1 && strings.Trim(fields[1], "0") == "" {
			found = append(found, mapping{uintptr(lo), uintptr(hi - lo)})
		}
	}
	return found
}

// advise gives the system advice about a part of m. By address, because the
// memory is not Go's.
func (m mapping) advise(from, n uintptr, advice uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.at+from, n, advice); errno != 0 {
		return errno
	}
	return nil
}

// populate makes pages ready to be written to without faults. They are as they
// would be after having been touched: not changed.
func (m mapping) populate(from, n int64) error {
	const page = 4096 // a multiple of it is fine where pages are larger or the call is refused
	n = (n + page - 1) &^ (page - 1)
	return m.advise(uintptr(from), uintptr(n), unix.MADV_POPULATE_WRITE)
}
