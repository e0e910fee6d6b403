package badgerkv

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// unpaged opens a store whose mapped pages nobody else takes out or brings in.
func unpaged(t *testing.T, dir string) *Store {
	s := open(t, small(dir))
	s.pager.close()
	s.pager = nil
	return s
}

// resident returns the KiB of dir's value log files that are mapped in.
func resident(dir string) (kb int) {
	b, _ := os.ReadFile("/proc/self/smaps")
	in := false
	for _, l := range strings.Split(string(b), "\n") {
		if f := strings.Fields(l); len(f) >= 5 && strings.Contains(f[0], "-") {
			in = strings.Contains(l, dir+"/") && strings.HasSuffix(l, ".vlog")
		}
		var n int
		if in && strings.HasPrefix(l, "Rss:") {
			fmt.Sscanf(l, "Rss: %d", &n)
			kb += n
		}
	}
	return kb
}

// Another database may be below the directory, whose locks are not held.
func TestAdviceStaysInItsDirectory(t *testing.T) {
	a := t.TempDir()
	b := filepath.Join(a, "inner")
	unpaged(t, a)
	s := unpaged(t, b)
	for i := range 40 {
		require.NoError(t, set(s, fmt.Sprint(i), make([]byte, 100<<10)))
	}
	adviseMappings(a)
	require.Positive(t, resident(b))
}

func TestAdviceThroughASymbolicLink(t *testing.T) {
	real, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(real, link))
	s := unpaged(t, link)
	for i := range 40 {
		require.NoError(t, set(s, fmt.Sprint(i), make([]byte, 100<<10)))
	}
	require.Positive(t, resident(real))
	adviseMappings(link)
	require.Zero(t, resident(real))
}
