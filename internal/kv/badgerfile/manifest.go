package badgerfile

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"

	"github.com/dgraph-io/badger/v4/pb"
	"google.golang.org/protobuf/proto"

	"github.com/shardlog/shardlog"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Table is what the manifest says of a table.
type Table struct {
	Level uint32
	KeyID uint64 // of the data key that encrypts it; 0 for none
	// Compressed tables are not written by this module, and their blocks are
	// not looked at.
	Compressed bool
}

// Manifest is the content of a manifest.
type Manifest struct {
	// Tables are those that make up the database, by number.
	Tables map[uint64]Table
	// Named are the numbers of all tables that it ever mentions.
	Named map[uint64]bool
	// End is where the last whole entry ends. What follows up to Size is torn:
	// written by a process that was killed, or cut off.
	End, Size int64
	// Torn is damage at End if no entry follows it: a crash of the system may have
	// left part of an entry that was being written, with the size of all of it. Badger
	// does not open such a manifest, and does once it is cut at End.
	Torn *shardlog.DamageError
}

const manifestHeader = 8

// ReadManifest reads a manifest. The error is a *shardlog.DamageError, or that
// of the file system.
func ReadManifest(path string) (*Manifest, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m, err := readManifest(path, b)
	var d *shardlog.DamageError
	if errors.As(err, &d) && m != nil && !entryBehind(b, m.End) {
		m.Torn, err = d, nil
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// manifestEntry returns the size of the entry at the beginning of b, with its header,
// if it is whole and has something in it.
func manifestEntry(b []byte) (size int64, ok bool) {
	if len(b) < 8 {
		return 0, false
	}
	n := uint64(binary.BigEndian.Uint32(b))
	if n == 0 || n > uint64(len(b)-8) {
		return 0, false
	}
	return 8 + int64(n), crc32.Checksum(b[8:8+n], castagnoli) == binary.BigEndian.Uint32(b[4:])
}

// entryBehind reports whether a whole entry follows what is at an offset.
func entryBehind(b []byte, at int64) bool {
	for at++; at < int64(len(b)); at++ {
		if _, ok := manifestEntry(b[at:]); ok {
			return true
		}
	}
	return false
}

// readManifest returns what it could read also if there is damage behind the header.
func readManifest(path string, b []byte) (*Manifest, error) {
	m := &Manifest{Tables: map[uint64]Table{}, Named: map[uint64]bool{}, Size: int64(len(b))}
	if len(b) < manifestHeader || string(b[:4]) != "Bdgr" {
		return nil, damage(path, 0, "it does not begin as a manifest does")
	}
	if v := binary.BigEndian.Uint16(b[6:]); v != 8 {
		return nil, damage(path, 6, "manifest version %d; this program knows 8", v)
	}
	if v := binary.BigEndian.Uint16(b[4:]); v != 0 {
		return nil, damage(path, 4, "application version %d; it is 0 in all databases of this log", v)
	}
	m.End = manifestHeader
	for {
		rest := b[m.End:]
		if len(rest) < 8 {
			return m, nil
		}
		n := uint64(binary.BigEndian.Uint32(rest))
		if n > uint64(len(b)) {
			return m, damage(path, m.End, "an entry of %d bytes in a file of %d", n, len(b))
		}
		if n > uint64(len(rest)-8) {
			return m, nil
		}
		body := rest[8 : 8+n]
		if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(rest[4:]) {
			return m, damage(path, m.End, "an entry fails its checksum")
		}
		var set pb.ManifestChangeSet
		if err := proto.Unmarshal(body, &set); err != nil {
			return nil, damage(path, m.End, "an entry cannot be decoded: %v", err)
		}
		if err := m.apply(path, &set); err != nil {
			return nil, err
		}
		m.End += 8 + int64(n)
	}
}

func (m *Manifest) apply(path string, set *pb.ManifestChangeSet) error {
	for _, c := range set.Changes {
		switch c.Op {
		case pb.ManifestChange_CREATE:
			if _, ok := m.Tables[c.Id]; ok {
				return damage(path, m.End, "table %d is created twice", c.Id)
			}
			m.Tables[c.Id] = Table{Level: c.Level, KeyID: c.KeyId, Compressed: c.Compression != 0}
		case pb.ManifestChange_DELETE:
			delete(m.Tables, c.Id)
		default:
			return damage(path, m.End, "unknown change %d of table %d", c.Op, c.Id)
		}
		m.Named[c.Id] = true
	}
	return nil
}
