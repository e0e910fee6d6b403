package badgerfile

import (
	"maps"
	"os"
	"slices"

	"github.com/shardlog/shardlog"
)

// Badger reads the newest file of the value log from its beginning to find where
// it ends, and then never writes to it again. That is a whole file from the disk,
// which nothing needs: the write-ahead log, or else a table, says where one of the
// last values is, and only what follows that has to be read. So a large newest
// file gets an empty one behind it, which is what Badger reads then, and is cut
// here to what was written, as Badger would do. Badger removes the empty file when
// it opens the directory the next time.

const (
	// guardFrom is from which size on a file of the value log gets an empty one
	// behind it. Reading less costs no more than making the empty one.
	guardFrom = 256 << 10
	// zeroSlack is what is left behind the last byte that is not zero where it is
	// not known where entries end: more than a checksum, which may end with zeros.
	zeroSlack = 4096
)

// Trim says to cut a file to a size. What is cut off was never written.
type Trim struct {
	File File
	Size int64
}

// lastValues returns the file of the value log that was written to last, nil if
// there is none: files behind it have nothing but their header.
func (in *inspection) lastValues() *File {
	for i := len(in.Dir.Values) - 1; i >= 0; i-- {
		if f := &in.Dir.Values[i]; f.Size > LogHeader {
			return f
		}
	}
	return nil
}

// inLast returns a function that keeps the last place in the newest file of the
// value log of the entries that it is called with.
func (in *inspection) inLast() func(Entry) {
	f := in.lastValues()
	return func(e Entry) {
		p := e.Pointer
		if f == nil || e.Value != nil || p == nil || uint64(p.File) != f.Number || p.Start < LogHeader {
			return
		}
		if in.known == nil || p.Start > in.known.Start {
			in.known = &Pointer{p.File, p.Size, p.Start}
		}
	}
}

// place looks for a value in the newest file of the value log, near its end. The
// write-ahead logs were looked at; where they have none, because a memtable has
// just been flushed, the newest table that has one will do.
func (in *inspection) place() error {
	if in.known != nil || in.Manifest == nil {
		return nil
	}
	note := in.inLast()
	for _, number := range slices.Backward(slices.Sorted(maps.Keys(in.Manifest.Tables))) {
		err := ReadTable(in.Dir.File(TableName(number)), in.Manifest.Tables[number], in.Keys, func(e Entry) bool { note(e); return true })
		if os.IsNotExist(err) {
			err = nil
		}
		// Damage is reported already.
		if err = in.note(err, func(*shardlog.DamageError) {}); err != nil || in.known != nil {
			return err
		}
	}
	return nil
}

// tail reads the newest file of the value log from the last place in it that is
// known, or all of it if there is none. Lost says that the value there cannot
// be read.
func (in *inspection) tail(f File) (l *Log, lost bool, err error) {
	if in.full {
		l, err = ReadLog(in.Dir.File(f.Name), f.Number, in.Keys, false, nil)
		return l, false, err
	}
	if err := in.place(); err != nil {
		return nil, false, err
	}
	from := int64(LogHeader)
	if in.known != nil {
		from = int64(in.known.Start)
	}
	l, err = readLogFrom(in.Dir.File(f.Name), f.Number, in.Keys, from, false, nil)
	return l, err == nil && in.known != nil && l.Stop < int64(in.known.Start)+int64(in.known.Size), err
}

// guard puts an empty file behind the newest of the value log, and cuts that to
// what was written to it.
func (in *inspection) guard(f File, l *Log, damaged bool) {
	if last := in.Dir.Values[len(in.Dir.Values)-1]; last.Number == f.Number || last.Size == 0 {
		in.Guard = f.Number + 1
	}
	end := l.Stop
	if damaged {
		end = l.Written + zeroSlack
		if in.known != nil {
			end = max(end, int64(in.known.Start)+int64(in.known.Size)+zeroSlack)
		}
	}
	if end < f.Size {
		in.Trim = &Trim{f, end}
	}
}
