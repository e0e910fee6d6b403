package badgerkv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkReopen opens a directory after a kill whose newest value log file is
// nearly full. Cold means that the system has nothing of it in memory; read-B/op
// is what then comes from the disk.
func BenchmarkReopen(b *testing.B) {
	for _, cold := range []bool{false, true} {
		b.Run(map[bool]string{false: "warm", true: "cold"}[cold], func(b *testing.B) {
			o := Options{Dir: b.TempDir(), ValueLogFile: 64 << 20, MinFree: 1 << 20}
			src, _ := killedAfter(b, o, 60<<2, 256<<10)
			read := int64(0)
			for b.Loop() {
				b.StopTimer()
				o.Dir = killed(b, src)
				require.NoError(b, settle(o.Dir, cold))
				before := readBytes(b)
				b.StartTimer()
				s, err := begin(o)
				b.StopTimer()
				require.NoError(b, err)
				read += readBytes(b) - before
				require.NoError(b, s.Close())
				require.NoError(b, os.RemoveAll(o.Dir))
				b.StartTimer()
			}
			b.ReportMetric(float64(read)/float64(b.N), "read-B/op")
		})
	}
}

// settle syncs all files of a directory, and takes them out of the page cache if
// asked to.
func settle(dir string, cold bool) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = datasync(f)
		if err == nil && cold {
			err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// readBytes returns what the process has read from disks.
func readBytes(t testing.TB) (n int64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "read_bytes:"); ok {
			_, err := fmt.Sscan(rest, &n)
			require.NoError(t, err)
		}
	}
	return n
}
