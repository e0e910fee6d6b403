package badgerfile

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
)

// ParsePointer decodes a pointer as Badger stores it in place of a value.
func ParsePointer(b []byte) (p Pointer, ok bool) {
	if len(b) != 12 {
		return p, false
	}
	// Badger writes the struct as it is in memory.
	ne := binary.NativeEndian
	return Pointer{ne.Uint32(b), ne.Uint32(b[4:]), ne.Uint32(b[8:])}, true
}

// CheckPlace reads the header of the entry that a pointer names, in an open file
// of the value log, and returns a *shardlog.DamageError unless it is that of an
// entry of this size with a key of keyLen bytes. Badger, which believes
// headers, then finds the value where it looks for it. The value itself is not
// read, but for its last byte if end is set.
func CheckPlace(f *os.File, p Pointer, keyLen int, end bool) error {
	var buf [maxEntryHeader]byte
	head := buf[:min(int64(len(buf)), int64(p.Size))]
	if n, err := f.ReadAt(head, int64(p.Start)); err != nil {
		if err == io.EOF {
			return damage(f.Name(), int64(p.Start)+int64(n), "a value is missing: the file is shorter")
		}
		return damage(f.Name(), int64(p.Start), "a value cannot be read: %v", err)
	}
	n := 2
	var fields [3]uint64 // lengths of the key and the value, and when it expires
	for i := range fields {
		v, k := binary.Uvarint(head[min(n, len(head)):])
		if k <= 0 {
			return damage(f.Name(), int64(p.Start), "the header of a value makes no sense")
		}
		fields[i], n = v, n+k
	}
	if fields[0] != uint64(keyLen)+8 || fields[1] > uint64(p.Size) || uint64(n)+fields[0]+fields[1]+crc32.Size != uint64(p.Size) {
		return damage(f.Name(), int64(p.Start), "the header of a value says another length than its key")
	}
	if end {
		if _, err := f.ReadAt(head[:1], int64(p.Start)+int64(p.Size)-1); err != nil {
			return damage(f.Name(), int64(p.Start), "a value is cut short: %v", err)
		}
	}
	return nil
}

// MissingValues is the damage of a file of the value log that is missing.
func MissingValues(path string) error {
	return damage(path, -1, "it is missing, and values are in it")
}

// CountEntries counts the entries of a log file by their headers alone; whole
// says that they fill the file.
func CountEntries(path string) (n int, whole bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return 0, false, err
	}
	r := &logReader{w: window{f: f, size: fi.Size(), step: maxEntryHeader}}
	at := int64(LogHeader)
	for at < fi.Size() {
		raw, _, _, _, ok := r.parse(at)
		if !ok {
			return n, false, r.w.err
		}
		at += raw.size
		n++
	}
	return n, true, r.w.err
}
