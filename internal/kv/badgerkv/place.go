package badgerkv

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// Badger believes the header of an entry of the value log. One that is damaged
// makes it panic, or give up, with the lock of the file held: then nobody can
// fill that file, remove it, or close the store. Its own remedy, a checksum over
// each value that is read, costs several times as much as reading, and blocks have
// a better one. So the header alone is looked at, before Badger does, through
// files of our own.

// places checks the places of values.
type places struct {
	dir       string
	encrypted bool // Badger decrypts a value with the lock held
	mu        sync.RWMutex
	files     map[uint32]*os.File // open; nil after close
}

func newPlaces(o Options, encrypted bool) *places {
	return &places{dir: o.Dir, encrypted: encrypted, files: map[uint32]*os.File{}}
}

// The fields of badger.Item that have the place. There is no method for it.
var itemPointer, itemMeta = itemField("vptr", reflect.Slice), itemField("meta", reflect.Uint8)

func itemField(name string, kind reflect.Kind) int {
	f, ok := reflect.TypeFor[badger.Item]().FieldByName(name)
	if !ok || f.Type.Kind() != kind || len(f.Index) != 1 {
		return -1
	}
	return f.Index[0]
}

// verifyByBadger says that places cannot be checked here, so that Badger has to
// verify each value: Windows does not let it remove files that we have open.
var verifyByBadger = runtime.GOOS == "windows" || itemPointer < 0 || itemMeta < 0

// place returns where the value of an item is; ok is false if it is not in the
// value log.
func place(item *badger.Item) (p badgerfile.Pointer, ok bool) {
	const valuePointer = 1 << 1
	v := reflect.ValueOf(item).Elem()
	if v.Field(itemMeta).Uint()&valuePointer == 0 {
		return p, false
	}
	return badgerfile.ParsePointer(v.Field(itemPointer).Bytes())
}

// check returns a *shardlog.DamageError if Badger must not read the item's value.
func (g *places) check(item *badger.Item) error {
	if verifyByBadger {
		return nil
	}
	p, ok := place(item)
	if !ok {
		return nil
	}
	f, err := g.file(p.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Badger would only log it, and return no value.
		return badgerfile.MissingValues(filepath.Join(g.dir, badgerfile.ValueName(uint64(p.File))))
	case err != nil:
		return nil // such as too many open files, which is no damage
	}
	return badgerfile.CheckPlace(f, p, len(item.Key()), g.encrypted)
}

// file returns an open file of the value log.
func (g *places) file(number uint32) (*os.File, error) {
	g.mu.RLock()
	f := g.files[number]
	g.mu.RUnlock()
	if f != nil {
		return f, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.files[number]; f != nil {
		return f, nil
	}
	if g.files == nil {
		return nil, os.ErrClosed
	}
	f, err := os.Open(filepath.Join(g.dir, badgerfile.ValueName(uint64(number))))
	if err == nil {
		g.files[number] = f
	}
	return f, err
}

// forget closes the files that were removed. A reader that has one fails, and
// looks for its value again, see getAt.
func (g *places) forget() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for number, f := range g.files {
		if !exists(f.Name()) {
			errs = append(errs, f.Close())
			delete(g.files, number)
		}
	}
	return errors.Join(errs...)
}

// close closes all files. No reader may be there.
func (g *places) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for _, f := range g.files {
		errs = append(errs, f.Close())
	}
	g.files = nil
	return errors.Join(errs...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// faults makes the goroutine panic, and not the process end, where a page of a
// mapped file cannot be read: the disk has an error there, or another program
// has cut the file. The function that it returns ends that.
func faults() (restore func()) {
	old := debug.SetPanicOnFault(true)
	if old {
		return func() {}
	}
	return endFaults
}

func endFaults() { debug.SetPanicOnFault(false) }

// fault is what package runtime panics with then.
type fault interface {
	error
	Addr() uintptr
}

// isFault reports whether a panic is one of those.
func isFault(p any) bool {
	_, ok := p.(fault)
	return ok
}
