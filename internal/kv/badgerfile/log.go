package badgerfile

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"strconv"

	"github.com/dgraph-io/badger/v4/y"
)

// LogHeader is the size of the header of a log file, in bytes: the number of a
// data key, and an IV.
const LogHeader = 20

// maxLogKey is the longest key of an entry, as Badger has it.
const maxLogKey = 1 << 16

// Log is what a log file holds: the write-ahead log of a memtable, or a file of
// the value log. Both are runs of entries, and most entries belong to
// transactions, which end with an entry that marks the end.
type Log struct {
	KeyID uint64
	Size  int64
	// Blank says that the header was never written, or was lost.
	Blank bool
	// End is where the last whole transaction ends, and Last its version, or 0
	// if there is none. First is the version of the first transaction.
	End         int64
	First, Last uint64
	// Newest is the highest version of an entry outside of transactions, as all
	// are in the value log.
	Newest uint64
	// Stop is where reading stopped: at the end of the file, at bytes that are
	// zero, or at an entry that cannot be read. In the last case Whole says
	// that the entry's checksum was written, so that a write which was cut off
	// does not explain it.
	Stop  int64
	Whole bool
	// Short says that the file ends inside an entry. The file of a process that
	// is killed does not: it is longer than what is written to it.
	Short bool
	// Written is how far the file has bytes that are not zero.
	Written int64
	// After counts what was found behind an entry that cannot be read.
	After After
}

// After is what follows damage in a log.
type After struct {
	Entries int
	Commits int    // whole transactions
	Last    uint64 // the highest version of a transaction
	// Versions is how many transactions there are pieces of.
	Versions int
}

// Torn reports whether something other than zeros follows the last entry that
// can be read.
func (l *Log) Torn() bool { return l.Written > l.Stop }

// Cut reports whether what is behind the last whole transaction cannot be
// explained by a write that a killed process did not finish.
func (l *Log) Cut() bool {
	return l.Torn() && (l.Whole || l.Short || l.After.Entries > 0 || l.Written >= l.Size)
}

// ReadLog reads a log file and calls each, unless it is nil, with the entries
// of whole transactions, and those outside of transactions. Entries that belong
// to the log of values have their value in Value and their place in Pointer.
// Salvage says to call each also for entries that follow damage. The error is
// that of the file system.
func ReadLog(path string, number uint64, keys Keys, salvage bool, each func(Entry)) (*Log, error) {
	return readLogFrom(path, number, keys, LogHeader, salvage, each)
}

// readLogFrom is ReadLog from an offset on, where an entry begins.
func readLogFrom(path string, number uint64, keys Keys, from int64, salvage bool, each func(Entry)) (*Log, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r := &logReader{w: window{f: f, size: fi.Size()}, number: uint32(number), each: each, log: &Log{Size: fi.Size(), End: from, Stop: from}}
	head := make([]byte, LogHeader) // not through the window, which begins elsewhere
	if _, err := f.ReadAt(head, 0); err == io.EOF {
		r.log.Blank, r.log.End, r.log.Stop = true, 0, 0
		return r.log, nil
	} else if err != nil {
		return nil, err
	}
	r.log.KeyID = binary.BigEndian.Uint64(head)
	r.log.Blank = allZero(head)
	if !keys.Has(r.log.KeyID) {
		return r.log, r.w.err // what cannot be decrypted is not taken for data
	}
	r.key, r.iv = keys[r.log.KeyID], append([]byte(nil), head[8:]...)
	r.run(from, salvage)
	return r.log, r.w.err
}

// logReader reads the entries of a log file.
type logReader struct {
	w       window
	log     *Log
	number  uint32
	key, iv []byte
	each    func(Entry)
	txn     []Entry // of the transaction that is being read
	version uint64  // of it; 0 between transactions
}

// rawEntry is an entry as it is in the file.
type rawEntry struct {
	meta       byte
	key, value []byte // encrypted if the file is
	size       int64
}

// maxEntryHeader is the longest header of an entry, in bytes.
const maxEntryHeader = 22

// parse reads the header of the entry at an offset; ok is false if it makes no
// sense.
func (r *logReader) parse(at int64) (e rawEntry, head int64, klen, vlen uint64, ok bool) {
	h := r.w.at(at, maxEntryHeader)
	if len(h) < 6 {
		return e, 0, 0, 0, false
	}
	e.meta = h[0]
	n := 2
	var fields [3]uint64
	for i := range fields {
		v, k := binary.Uvarint(h[n:])
		if k <= 0 {
			return e, 0, 0, 0, false
		}
		fields[i] = v
		n += k
	}
	klen, vlen = fields[0], fields[1]
	if klen == 0 || klen > maxLogKey || vlen > uint64(r.w.size) {
		return e, 0, 0, 0, false
	}
	e.size = int64(n) + int64(klen) + int64(vlen) + crc32.Size
	return e, int64(n), klen, vlen, at+e.size <= r.w.size
}

// entry reads the entry at an offset.
func (r *logReader) entry(at int64) (rawEntry, bool) {
	e, head, klen, _, ok := r.parse(at)
	if !ok {
		return e, false
	}
	b := r.w.at(at, e.size)
	if int64(len(b)) < e.size {
		return e, false
	}
	body := b[:e.size-crc32.Size]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(body):]) {
		return e, false
	}
	e.key, e.value = body[head:head+int64(klen)], body[head+int64(klen):]
	return e, true
}

// open decrypts and decodes an entry.
func (r *logReader) open(raw rawEntry, at int64) (Entry, bool) {
	key, value := raw.key, raw.value
	if r.key != nil {
		iv := binary.BigEndian.AppendUint32(append([]byte(nil), r.iv...), uint32(at))
		plain, err := y.XORBlockAllocate(append(append([]byte(nil), key...), value...), r.key, iv)
		if err != nil {
			return Entry{}, false
		}
		key, value = plain[:len(key)], plain[len(key):]
	} else if r.each != nil {
		key, value = bytes.Clone(key), bytes.Clone(value)
	}
	e, ok := newEntry(key, raw.meta, value)
	if e.Pointer == nil && !e.Deleted {
		e.Pointer = &Pointer{r.number, uint32(raw.size), uint32(at)}
	}
	return e, ok
}

// run reads from an offset to the end.
func (r *logReader) run(at int64, salvage bool) {
	for {
		raw, ok := r.entry(at)
		if !ok || !r.take(raw, at) {
			break
		}
		at += raw.size
	}
	l := r.log
	l.Stop = at
	l.Written = r.w.lastByte(at)
	if l.Written <= at {
		return
	}
	raw, _, _, _, ok := r.parse(at)
	// The checksum is the last that is written of an entry.
	l.Whole = ok && !allZero(r.w.at(at+raw.size-crc32.Size, crc32.Size)) || r.flipped(at)
	l.Short = r.short(at)
	r.txn, r.version = nil, 0
	if !salvage {
		r.each = nil
	}
	r.salvage(at)
}

// take adds an entry to its transaction; ok is false where Badger would end.
func (r *logReader) take(raw rawEntry, at int64) (ok bool) {
	l := r.log
	e, ok := r.open(raw, at)
	if !ok {
		return false
	}
	switch {
	case raw.meta&metaTxn != 0:
		if r.version == 0 {
			r.version = e.Version
		}
		if r.version != e.Version {
			return false
		}
		r.txn = append(r.txn, e)
	case raw.meta&metaEndTxn != 0:
		if v, err := strconv.ParseUint(string(e.Value), 10, 64); err != nil || v != r.version {
			return false
		}
		if l.First == 0 {
			l.First = r.version
		}
		l.Last = max(l.Last, r.version)
		r.emit(r.txn...)
		r.txn, r.version = r.txn[:0], 0
		l.End = at + raw.size
	default:
		if r.version != 0 {
			return false
		}
		r.emit(e)
		l.End, l.Newest = at+raw.size, max(l.Newest, e.Version)
	}
	return true
}

func (r *logReader) emit(entries ...Entry) {
	if r.each == nil {
		return
	}
	for _, e := range entries {
		r.each(e)
	}
}

// short reports whether the file ends inside the entry at an offset.
func (r *logReader) short(at int64) bool {
	h := r.w.at(at, maxEntryHeader)
	if len(h) < maxEntryHeader {
		return true
	}
	klen, n := binary.Uvarint(h[2:])
	if n <= 0 || klen == 0 || klen > maxLogKey {
		return false
	}
	vlen, m := binary.Uvarint(h[2+n:])
	return m > 0 && at+int64(2+n+m)+int64(klen)+int64(min(vlen, 1<<40)) > r.w.size
}

// flipped reports whether the entry at an offset, whose header makes no sense,
// becomes whole when one bit of the header is another.
func (r *logReader) flipped(at int64) bool {
	h := append([]byte(nil), r.w.at(at, maxEntryHeader)...)
	if len(h) < maxEntryHeader {
		return false
	}
	defer func() { r.w.patch = nil }()
	for i := range 8 * 12 { // the fields that are in use
		p := append([]byte(nil), h...)
		p[i/8] ^= 1 << (i % 8)
		r.w.patchAt, r.w.patch = at, p
		if _, ok := r.entry(at); ok {
			return true
		}
	}
	return false
}

// salvageBytes bounds the bytes whose checksums are computed to find entries
// behind damage.
const salvageBytes = 256 << 20

// salvage looks for entries behind the one at an offset.
func (r *logReader) salvage(at int64) {
	l := r.log
	versions := map[uint64]bool{}
	// If the length is intact, the next entry follows.
	if raw, _, _, _, ok := r.parse(at); ok {
		if _, ok := r.entry(at + raw.size); ok {
			at += raw.size - 1
		}
	}
	budget := int64(salvageBytes)
	for at++; at < l.Written && budget > 0; {
		raw, _, klen, _, ok := r.parse(at)
		if !ok || klen < 9 || r.w.at(at, 2)[1] != 0 {
			at++
			continue
		}
		budget -= raw.size
		if raw, ok = r.entry(at); !ok {
			at++
			continue
		}
		if e, ok := r.open(raw, at); ok {
			l.After.Entries++
			switch {
			case raw.meta&metaEndTxn != 0:
				l.After.Commits++
				fallthrough
			case raw.meta&metaTxn != 0:
				versions[e.Version] = true
				l.After.Last = max(l.After.Last, e.Version)
			}
			if raw.meta&metaEndTxn == 0 {
				r.emit(e)
			}
		}
		at += raw.size
	}
	l.After.Versions = len(versions)
}

// window reads a file through a buffer that moves forward.
type window struct {
	f    *os.File
	size int64
	from int64
	buf  []byte
	step int64 // how much is read together; windowBytes if 0
	err  error

	// patch replaces the bytes at patchAt; see flipped.
	patchAt int64
	patch   []byte
}

const windowBytes = 1 << 20

// at returns up to n bytes from an offset, which are the window's until the
// next call.
func (w *window) at(off, n int64) []byte {
	n = min(n, w.size-off)
	if n <= 0 {
		return nil
	}
	if off < w.from || off+n > w.from+int64(len(w.buf)) {
		step := w.step
		if step == 0 {
			step = windowBytes
		}
		want := min(max(n, step), w.size-off)
		if int64(cap(w.buf)) < want {
			w.buf = make([]byte, want)
		}
		w.buf = w.buf[:want]
		got, err := w.f.ReadAt(w.buf, off)
		if err != nil && err != io.EOF && w.err == nil {
			w.err = err
		}
		w.from, w.buf = off, w.buf[:got]
	}
	b := w.buf[off-w.from:]
	b = b[:min(int64(len(b)), n)]
	if w.patch != nil && off == w.patchAt {
		b = append([]byte(nil), b...)
		copy(b, w.patch)
	}
	return b
}

// lastByte returns where the last byte is, from an offset on, that is not zero:
// the offset behind it.
func (w *window) lastByte(from int64) int64 {
	last := from
	for at := from; at < w.size; {
		if at = skipHole(w.f, at, w.size); at >= w.size {
			break
		}
		b := w.at(at, windowBytes)
		if len(b) == 0 {
			break
		}
		if n := len(bytes.TrimRight(b, "\x00")); n > 0 {
			last = at + int64(n)
		}
		at += int64(len(b))
	}
	return last
}

// readUpTo returns the first n bytes of a file, or all if there are fewer.
func readUpTo(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(n)))
	return b, err
}
