package badgerfile

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// InventoryName is the file in which a store notes which files it has, and how
// it was left. Badger knows nothing of it.
const InventoryName = "SHARDLOG"

// RestoreName is the file that stands in a directory while a database is being
// restored into it.
const RestoreName = "RESTORING"

// RepairName is the file that stands in a directory while its files are being
// replaced by repaired ones.
const RepairName = "REPAIRING"

// State is how a store was left.
type State string

const (
	// StateOpening: Badger may be in the middle of anything.
	StateOpening State = "opening"
	// StateOpen: the store is in use, or its process died.
	StateOpen State = "open"
	// StateClosing: Badger is writing what it has in memory.
	StateClosing State = "closing"
	// StateClean: it was closed. Only then are files listed.
	StateClean State = "clean"
)

// Inventory is what a store notes of itself.
type Inventory struct {
	State State
	// Sync says that every commit was synced.
	Sync bool
	// Boot names the run of the operating system; "" where that is not known.
	// What a process wrote is there as long as the run lasts, whatever was
	// synced.
	Boot string
	// Gaps is a version up to which commits may be missing between others: the
	// system crashed, and what came back need not be all. Those behind it follow
	// each other.
	Gaps uint64
	// Redo says that there is a redo log, and Ring has the ID in its first page, in
	// hexadecimal; "" where that is not known.
	Redo bool
	Ring string
	// Registry is the checksum of the header of the key registry; 0 when not
	// known.
	Registry uint32
	// Manifest is the checksum of the manifest, of Files' size.
	Manifest uint32
	// Files are the sizes of all files, by name, when the state is clean.
	Files map[string]int64
}

// SameBoot reports whether the system has run since the inventory was written.
func (i *Inventory) SameBoot() bool { return i != nil && i.Boot != "" && i.Boot == BootID() }

// BootID names the run of the operating system, "" where that is not known.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// The place of the ID in the redo log.
const (
	ringIDAt  = 16
	ringIDEnd = 32
)

const inventoryHead = "shardlog files 1\n"

// TakeInventory notes the files of a directory as they are; they must be at
// rest if the state is clean.
func TakeInventory(dir string, state State, sync bool) (*Inventory, error) {
	d, err := List(dir)
	if err != nil {
		return nil, err
	}
	inv := &Inventory{State: state, Sync: sync, Boot: BootID(), Redo: d.Redo != nil, Files: map[string]int64{}}
	if d.Redo != nil {
		// A repair finds what is in the redo log by it, should the store have lost it.
		if b, err := readUpTo(d.File(RedoName), ringIDEnd); err == nil && len(b) == ringIDEnd {
			inv.Ring = hex.EncodeToString(b[ringIDAt:])
		}
	}
	if d.Registry != nil {
		if inv.Registry, err = registrySum(d.File(RegistryName)); err != nil {
			return nil, err
		}
	}
	if state != StateClean {
		return inv, nil
	}
	for _, f := range d.All() {
		inv.Files[f.Name] = f.Size
	}
	b, err := os.ReadFile(d.File(ManifestName))
	if err != nil {
		return nil, err
	}
	inv.Manifest = crc32.Checksum(b, castagnoli)
	return inv, nil
}

// registrySum is the checksum of the header of a key registry.
func registrySum(path string) (uint32, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return crc32.Checksum(b[:min(len(b), registryHeader)], castagnoli), nil
}

// Write stores the inventory in a directory, in place of the one that is there.
// A process that is killed leaves one or the other. It need not be synced:
// after a power loss an old one is seen to be old, see Inspect.
func (i *Inventory) Write(dir string) error {
	var b strings.Builder
	b.WriteString(inventoryHead)
	fmt.Fprintf(&b, "state %s\nsync %t\nboot %s\ngaps %d\nredo %t\nring %s\nregistry %d\nmanifest %d\n", i.State, i.Sync, i.Boot, i.Gaps, i.Redo, i.Ring, i.Registry, i.Manifest)
	for name, size := range i.Files {
		fmt.Fprintf(&b, "file %d %s\n", size, name)
	}
	fmt.Fprintf(&b, "sum %016x\n", xxhash.Sum64String(b.String()))
	path := filepath.Join(dir, InventoryName)
	if err := os.WriteFile(path+".new", []byte(b.String()), 0o644); err != nil {
		if gone := os.Remove(path + ".new"); !errors.Is(gone, os.ErrNotExist) { // it may not have been made
			err = errors.Join(err, gone)
		}
		return err
	}
	return os.Rename(path+".new", path)
}

// ReadInventory reads the inventory of a directory. It is nil if there is none;
// a damaged one is reported, and is then nil too.
func ReadInventory(dir string) (*Inventory, error) {
	path := filepath.Join(dir, InventoryName)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	body, sum, ok := cutSum(string(b))
	if !ok || sum != xxhash.Sum64String(body) || !strings.HasPrefix(body, inventoryHead) {
		return nil, damage(path, -1, "it fails its checksum")
	}
	inv := &Inventory{Files: map[string]int64{}}
	for _, line := range strings.Split(strings.TrimPrefix(body, inventoryHead), "\n") {
		field, value, _ := strings.Cut(line, " ")
		var err error
		switch field {
		case "state":
			inv.State = State(value)
		case "sync":
			inv.Sync = value == "true"
		case "boot":
			inv.Boot = value
		case "redo":
			inv.Redo = value == "true"
		case "ring":
			inv.Ring = value
		case "gaps":
			inv.Gaps, err = strconv.ParseUint(value, 10, 64)
		case "registry":
			inv.Registry, err = parse32(value)
		case "manifest":
			inv.Manifest, err = parse32(value)
		case "file":
			size, name, _ := strings.Cut(value, " ")
			inv.Files[name], err = strconv.ParseInt(size, 10, 64)
		}
		if err != nil {
			return nil, damage(path, -1, "line %q: %v", line, err)
		}
	}
	return inv, nil
}

func parse32(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// cutSum cuts the last line off, which holds the checksum of the others.
func cutSum(s string) (body string, sum uint64, ok bool) {
	at := strings.LastIndex(strings.TrimSuffix(s, "\n"), "\n") + 1
	hex, ok := strings.CutPrefix(strings.TrimSuffix(s[at:], "\n"), "sum ")
	if !ok {
		return "", 0, false
	}
	sum, err := strconv.ParseUint(hex, 16, 64)
	return s[:at], sum, err == nil
}
