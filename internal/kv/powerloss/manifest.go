//go:build linux

package powerloss

import (
	"os"
	"path/filepath"
	"sync"
	_ "unsafe" // for go:linkname

	_ "github.com/dgraph-io/badger/v4" // has the variable
)

// badgerSync is how Badger syncs its manifest after an addition. Its own tests
// replace it as well.
//
//go:linkname badgerSync github.com/dgraph-io/badger/v4.syncFunc
var badgerSync func(*os.File) error

// recorders are those in use, by directory.
var recorders sync.Map

func init() {
	badgerSync = func(f *os.File) error {
		r, ok := recorders.Load(filepath.Dir(f.Name()))
		if !ok {
			return nil
		}
		r.(*Recorder).manifestSync(f)
		return nil
	}
}
