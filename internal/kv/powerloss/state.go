//go:build linux

package powerloss

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shardlog/shardlog/internal/kv/badgerfile"
)

// Fate is how much a power loss leaves of what was not synced.
type Fate int

// Fates.
const (
	Lost  Fate = iota
	Kept       // as it was at the moment
	Some       // each sector lost or kept
	Older      // each sector as it was at any time since the sync
	Torn       // everything up to some write, which is torn, and nothing behind it
	fates
)

// String returns the name of a fate.
func (f Fate) String() string { return [...]string{"lost", "kept", "some", "older", "torn"}[f] }

// Choice is one of the states that a power loss may leave.
type Choice struct {
	Seed  int64
	Fates map[Class]Fate // of each class; Lost for those that are missing
	// Journal says that names appear in the order in which they were made, as
	// in a journalling file system. Otherwise each is there or not, like the
	// contents of its class.
	Journal bool
	// Killed says that the power is not lost, but the process: everything is there,
	// and the system has not been started again.
	Killed bool
}

// String returns all of a choice, for the messages of tests.
func (c Choice) String() string {
	if c.Killed {
		return "killed"
	}
	var parts []string
	for b := RingHead; b <= Other; b <<= 1 {
		parts = append(parts, fmt.Sprintf("%s %s", className(b), c.Fates[b]))
	}
	return fmt.Sprintf("seed %d, journal %t: %s", c.Seed, c.Journal, strings.Join(parts, ", "))
}

func className(c Class) string {
	names := [...]string{"ring head", "ring body", "wal", "values", "table", "manifest", "other"}
	for i, s := range names {
		if c == 1<<i {
			return s
		}
	}
	return "?"
}

// Set returns a choice with a fate for the classes of a set, and another for the
// others.
func Set(classes Class, fate, others Fate) Choice {
	c := Choice{Fates: map[Class]Fate{}}
	for b := RingHead; b <= Other; b <<= 1 {
		if classes.Has(b) {
			c.Fates[b] = fate
		} else {
			c.Fates[b] = others
		}
	}
	return c
}

// Killed returns the choice in which the power stays.
func Killed() Choice {
	c := Set(All, Kept, Kept)
	c.Killed = true
	return c
}

// Systematic returns the choices in which classes are kept or lost as a whole.
func Systematic() (all []Choice) {
	all = append(all, Set(All, Lost, Lost), Set(All, Kept, Kept), Killed(), Killed())
	for b := RingHead; b <= Other; b <<= 1 {
		all = append(all, Set(b, Kept, Lost), Set(b, Lost, Kept))
	}
	for _, set := range []Class{Table | Manifest, WAL | Values, Ring, WAL | Manifest, Values | Table, Ring | WAL} {
		all = append(all, Set(set, Kept, Lost), Set(set, Lost, Kept))
	}
	return all
}

// Random returns a choice that follows from a seed.
func Random(seed int64) Choice {
	rnd := rand.New(rand.NewSource(seed))
	c := Choice{Seed: seed, Fates: map[Class]Fate{}, Journal: rnd.Intn(2) == 0}
	for b := RingHead; b <= Other; b <<= 1 {
		c.Fates[b] = Fate(rnd.Intn(int(fates)))
	}
	return c
}

// Point is a moment at which the power may be lost. It is valid during OnPoint.
type Point struct {
	What string
	r    *Recorder
}

// ErrBusy says that the store never rested while its files were read, so that they
// are not what a process that is killed leaves.
var ErrBusy = errors.New("the store is writing")

// Settle reads the files again, for a choice that is Killed. What is built then is of
// the moment at which it returns: what the test counts is to be looked at after it. The
// error may be ErrBusy.
func (p *Point) Settle() error {
	settled, err := p.r.settle()
	if err == nil && !settled {
		err = ErrBusy
	}
	return err
}

// Build makes the directory that a choice leaves, on a disk of which the system
// has been started again, unless the choice is Killed; see Settle for that.
func (p *Point) Build(dir string, c Choice) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	rnd := rand.New(rand.NewSource(c.Seed))
	files := p.names(c, rnd)
	bases := make([]string, 0, len(files))
	for base := range files {
		bases = append(bases, base)
	}
	slices.Sort(bases)
	for _, base := range bases {
		if err := files[base].write(filepath.Join(dir, base), c, rnd); err != nil {
			return err
		}
	}
	if c.Killed {
		return nil
	}
	return anotherBoot(dir)
}

// names chooses which names there are, and of which files.
func (p *Point) names(c Choice, rnd *rand.Rand) map[string]*inode {
	files := map[string]*inode{}
	bases := make([]string, 0, len(p.r.names))
	first := 0
	for base, n := range p.r.names {
		bases = append(bases, base)
		first = max(first, n.values[0].seq)
	}
	slices.Sort(bases)
	cut := first + rnd.Intn(p.r.seq-first+1)
	switch {
	case c.Fates[Other] == Kept:
		cut = p.r.seq
	case c.Fates[Other] == Lost:
		cut = first
	}
	for _, base := range bases {
		v := p.r.names[base].values
		i := len(v) - 1
		if c.Journal {
			for i > 0 && v[i].seq > cut {
				i--
			}
		} else {
			switch c.Fates[classOf(base)] {
			case Lost:
				i = 0
			case Kept:
			default:
				i = rnd.Intn(len(v))
			}
		}
		if v[i].n != nil {
			files[base] = v[i].n
		}
	}
	return files
}

// write writes the file as a choice leaves it.
func (n *inode) write(path string, c Choice, rnd *rand.Rand) (err error) {
	b := slices.Clone(n.durable[:n.high])
	sectors := make([]int, 0, len(n.unsynced))
	for k := range n.unsynced {
		sectors = append(sectors, k)
	}
	slices.Sort(sectors)
	odds := [...]float64{.1, .5, .9}[rnd.Intn(3)]
	torn := n.torn(sectors, rnd)
	for _, k := range sectors {
		v := n.unsynced[k]
		i := -1
		switch c.Fates[n.classAt(k)] {
		case Kept:
			i = len(v) - 1
		case Some:
			if rnd.Float64() < odds {
				i = len(v) - 1
			}
		case Older:
			i = rnd.Intn(len(v)+1) - 1
		case Torn:
			for i+1 < len(v) && (v[i+1].seq < torn.seq || v[i+1].seq == torn.seq && k <= torn.sector) {
				i++
			}
		}
		if i >= 0 {
			copy(b[k*sector:], v[i].data)
		}
	}
	size := n.sizes[0].size
	switch c.Fates[n.class] {
	case Lost:
	case Kept:
		size = n.size()
	default:
		size = n.sizes[rnd.Intn(len(n.sizes))].size
	}
	return writeSparse(path, b, size)
}

// classAt returns the class of a sector.
func (n *inode) classAt(k int) Class {
	if n.class == RingBody && k < ringHead/sector {
		return RingHead
	}
	return n.class
}

const ringHead = 4 * 4096

// place is up to where writes are kept that are torn.
type place struct{ seq, sector int }

func (n *inode) torn(sectors []int, rnd *rand.Rand) place {
	var all []place
	for _, k := range sectors {
		for _, v := range n.unsynced[k] {
			all = append(all, place{v.seq, k})
		}
	}
	if len(all) == 0 {
		return place{}
	}
	slices.SortFunc(all, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.sector, b.sector))
	})
	return all[rnd.Intn(len(all))]
}

// writeSparse writes a file without the sectors that are zero.
func writeSparse(path string, b []byte, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	const step = 8 * sector
	b = b[:min(int64(len(b)), size)]
	for from := 0; from < len(b) && err == nil; {
		to := from
		for to < len(b) && !bytes.Equal(b[to:min(to+step, len(b))], zeros[:min(step, len(b)-to)]) {
			to += step
		}
		if to > from {
			_, err = f.WriteAt(b[from:min(to, len(b))], int64(from))
		}
		from = to + step
	}
	return errors.Join(err, f.Truncate(size), f.Close())
}

var zeros [8 * sector]byte

// anotherBoot makes the inventory, if it can be read, that of an earlier run of
// the system.
func anotherBoot(dir string) error {
	inv, err := badgerfile.ReadInventory(dir)
	if err != nil || inv == nil {
		return nil
	}
	inv.Boot = "earlier"
	return inv.Write(dir)
}
