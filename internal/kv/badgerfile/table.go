package badgerfile

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"os"

	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// Entry is one version of a key, in a table or a log.
type Entry struct {
	Key     []byte // without the version
	Version uint64
	// Deleted marks a version that removes the key. Otherwise Value holds the
	// value, or Pointer says where it is.
	Deleted bool
	Value   []byte
	Pointer *Pointer
}

// Pointer is the place of a value in the value log.
type Pointer struct {
	File        uint32
	Size, Start uint32 // of the whole entry of the value log
}

// Bits of an entry's meta byte.
const (
	metaDelete  = 1 << 0
	metaPointer = 1 << 1
	metaTxn     = 1 << 6
	metaEndTxn  = 1 << 7
)

// newEntry takes a key with its version, and a value as Badger stores it.
func newEntry(key []byte, meta byte, value []byte) (e Entry, ok bool) {
	if len(key) < 8 {
		return e, false
	}
	n := len(key) - 8
	e = Entry{Key: key[:n], Version: math.MaxUint64 - binary.BigEndian.Uint64(key[n:]), Value: value}
	switch {
	case meta&metaDelete != 0:
		e.Deleted, e.Value = true, nil
	case meta&metaPointer != 0:
		p, ok := ParsePointer(value)
		if !ok {
			return e, false
		}
		e.Pointer, e.Value = &p, nil
	}
	return e, true
}

// tableFile is a table that is being read.
type tableFile struct {
	path string
	data []byte
	key  []byte // of the encryption; nil for none
	each func(Entry) bool
	// from and to bound the keys that each needs; nil for no bound. All blocks are verified.
	from, to []byte
	skip     func(error) // receives the damage of a block that is left out; nil to end there
}

// ReadTable verifies all of a table and calls each, unless it is nil, for its
// entries in the order of their keys, until it returns false. Key and Value are
// each's until it returns. The error is a *shardlog.DamageError or that of the
// file system; with one, each may have been called for what precedes it.
func ReadTable(path string, t Table, keys Keys, each func(Entry) bool) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f := &tableFile{path: path, data: b, key: keys[t.KeyID], each: each}
	index, end, err := f.index()
	if err != nil {
		return err
	}
	return f.blocks(index, end, t)
}

// readRange is ReadTable that calls each for the entries alone of blocks that may have keys
// in a range.
func readRange(path string, t Table, keys Keys, from, to []byte, each func(Entry)) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f := &tableFile{path: path, data: b, key: keys[t.KeyID], from: from, to: to, each: func(e Entry) bool { each(e); return true }}
	index, end, err := f.index()
	if err != nil {
		return err
	}
	return f.blocks(index, end, t)
}

// wanted reports whether block i of n may have keys that each needs. The keys of the index
// are those with which blocks begin, with their versions.
func (f *tableFile) wanted(index *fb.TableIndex, i, n int) bool {
	var o fb.BlockOffset
	if f.to != nil && index.Offsets(&o, i) && bytes.Compare(o.KeyBytes(), f.to) >= 0 {
		return false
	}
	return f.from == nil || i+1 == n || !index.Offsets(&o, i+1) || bytes.Compare(o.KeyBytes(), f.from) >= 0
}

// salvageTable is ReadTable that leaves out blocks that are damaged. If the index
// is lost, and the table is not encrypted, it takes the blocks that it can find
// from the beginning.
func salvageTable(path string, t Table, keys Keys, each func(Entry) bool, skip func(error)) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f := &tableFile{path: path, data: b, key: keys[t.KeyID], each: each, skip: skip}
	index, end, err := f.index()
	if err != nil {
		if f.key == nil && !t.Compressed {
			f.scan()
		}
		return err
	}
	return f.blocks(index, end, t)
}

// scan reads blocks without the index. A block ends with its checksum and the
// size of that, so its end is where these fit what precedes them.
func (f *tableFile) scan() {
	at := 0
	for end := at + 12; end <= len(f.data) && end-at < 4<<20; end++ {
		if size := binary.BigEndian.Uint32(f.data[end-4:]); size == 0 || size > 16 {
			continue
		}
		if more, err := f.block(at, f.data[at:end], true); err != nil || !more {
			continue
		}
		at, end = end, end+11
	}
}

// footer returns the n bytes before the offset end, which they then are moved
// before.
func (f *tableFile) footer(end *int, n uint64, what string) ([]byte, error) {
	if n > uint64(*end) {
		return nil, damage(f.path, int64(*end), "its %s would begin before the file does: it is cut short, or something follows it", what)
	}
	*end -= int(n)
	return f.data[*end : *end+int(n)], nil
}

// index returns the table's index, and where it begins, which is where the
// blocks end.
func (f *tableFile) index() (*fb.TableIndex, int, error) {
	end := len(f.data)
	var parts [4][]byte
	size := uint64(4)
	for i, what := range []string{"footer", "checksum", "index size", "index"} {
		p, err := f.footer(&end, size, what)
		if err != nil {
			return nil, 0, err
		}
		parts[i] = p
		switch i {
		case 0, 2:
			size = uint64(binary.BigEndian.Uint32(p))
		case 1:
			size = 4
		}
	}
	data := parts[3]
	var sum pb.Checksum
	if err := proto.Unmarshal(parts[1], &sum); err != nil || len(data) < 16 || !checks(data, &sum) {
		return nil, 0, damage(f.path, int64(end), "its index fails its checksum: the file is cut short, or something follows it, or it is damaged")
	}
	if f.key != nil {
		var err error
		if data, err = decrypt(data, f.key); err != nil {
			return nil, 0, damage(f.path, int64(end), "its index cannot be decrypted: %v", err)
		}
	}
	return fb.GetRootAsTableIndex(data, 0), end, nil
}

// checks reports whether data has the checksum.
func checks(data []byte, sum *pb.Checksum) bool {
	return sum.Algo == pb.Checksum_CRC32C && sum.Sum == uint64(crc32.Checksum(data, castagnoli))
}

// decrypt undoes the encryption of data with the IV at its end.
func decrypt(data, key []byte) ([]byte, error) {
	n := len(data) - 16
	if n < 0 {
		return nil, y.ErrEOF
	}
	return y.XORBlockAllocate(data[:n], key, data[n:])
}

// blocks verifies the blocks, which fill the file up to end.
func (f *tableFile) blocks(index *fb.TableIndex, end int, t Table) (err error) {
	at := 0
	defer func() {
		// The index has a checksum, so what makes no sense in it was not written
		// by Badger; its decoder panics then.
		if p := recover(); p != nil {
			err = damage(f.path, int64(at), "its index makes no sense: %v", p)
		}
	}()
	n := index.OffsetsLength()
	for i := range n {
		var o fb.BlockOffset
		if !index.Offsets(&o, i) || int(o.Offset()) != at || int(o.Len()) > end-at {
			return damage(f.path, int64(at), "block %d of %d is not where the index says", i, n)
		}
		if !t.Compressed {
			more, err := f.block(at, f.data[at:at+int(o.Len())], f.each != nil && f.wanted(index, i, n))
			if err != nil && f.skip != nil {
				f.skip(err)
				more, err = true, nil
			}
			if err != nil || !more {
				return err
			}
		}
		at += int(o.Len())
	}
	if n == 0 || at != end {
		return damage(f.path, int64(at), "its %d blocks end at %d, and the index begins at %d", n, at, end)
	}
	return nil
}

// block verifies a block and, if it is wanted, calls each with its entries.
func (f *tableFile) block(at int, data []byte, wanted bool) (more bool, err error) {
	bad := func() (bool, error) {
		return false, damage(f.path, int64(at), "the block there fails its checksum")
	}
	if f.key != nil {
		if data, err = decrypt(data, f.key); err != nil {
			return bad()
		}
	}
	if len(data) < 8 {
		return bad()
	}
	n := len(data) - 4
	size := uint64(binary.BigEndian.Uint32(data[n:]))
	if size > uint64(n-4) {
		return bad()
	}
	var sum pb.Checksum
	body := data[:n-int(size)]
	if err := proto.Unmarshal(data[len(body):n], &sum); err != nil || !checks(body, &sum) {
		return bad()
	}
	if !wanted {
		return true, nil
	}
	return f.entries(at, body)
}

func (f *tableFile) entries(at int, body []byte) (more bool, err error) {
	n := len(body) - 4
	count := int(binary.BigEndian.Uint32(body[n:]))
	list := n - 4*count
	if count == 0 || list < 0 {
		return false, damage(f.path, int64(at), "the block there has no entries")
	}
	var base, key []byte
	ne := binary.NativeEndian
	for i := range count {
		from, to := int(ne.Uint32(body[list+4*i:])), list
		if i+1 < count {
			to = int(ne.Uint32(body[list+4*(i+1):]))
		}
		overlap, diff := int(ne.Uint16(body[from:])), int(ne.Uint16(body[from+2:]))
		rest := body[from+4 : to]
		key = append(append(key[:0], base[:overlap]...), rest[:diff]...)
		if i == 0 {
			base = append([]byte(nil), key...)
		}
		value := rest[diff:]
		_, expires := binary.Uvarint(value[2:])
		e, ok := newEntry(key, value[0], value[2+expires:])
		if !ok {
			return false, damage(f.path, int64(at), "entry %d of the block there makes no sense", i)
		}
		if !f.each(e) {
			return false, nil
		}
	}
	return true, nil
}
