package badgerfile

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"slices"

	"github.com/dgraph-io/badger/v4/y"
)

// Values reads values from the value log, and verifies them. It is for one
// goroutine.
type Values struct {
	dir   *Dir
	keys  Keys
	files map[uint32]*valueFile
}

// valueFile is an open file of the value log.
type valueFile struct {
	f   *os.File
	key []byte
	iv  []byte
}

// Values returns what reads the value log. Close it after use.
func (r *Report) Values() *Values {
	v := &Values{dir: r.Dir, keys: r.Keys, files: map[uint32]*valueFile{}}
	if v.keys == nil {
		v.keys = Keys{} // what is not encrypted can be read
	}
	return v
}

// Get returns the value of a version of a key from its place. The error is a
// *shardlog.DamageError.
func (v *Values) Get(key []byte, version uint64, p *Pointer) ([]byte, error) {
	path := v.dir.File(ValueName(uint64(p.File)))
	vf, err := v.file(p.File)
	if err != nil {
		return nil, damage(path, -1, "a value is in it, and it cannot be read: %v", err)
	}
	bad := func(what string) ([]byte, error) {
		return nil, damage(path, int64(p.Start), "the value there %s", what)
	}
	b := make([]byte, p.Size)
	if p.Size < 10 {
		return bad("has no room")
	}
	if _, err := vf.f.ReadAt(b, int64(p.Start)); err != nil {
		return bad("is missing: the file is shorter")
	}
	body := b[:len(b)-crc32.Size]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(body):]) {
		return bad("fails its checksum")
	}
	n := 2
	var fields [3]uint64
	for i := range fields {
		x, k := binary.Uvarint(body[n:])
		if k <= 0 {
			return bad("makes no sense")
		}
		fields[i], n = x, n+k
	}
	if uint64(len(body)-n) != fields[0]+fields[1] || fields[0] < 8 {
		return bad("makes no sense")
	}
	kv := body[n:]
	if vf.key != nil {
		iv := binary.BigEndian.AppendUint32(slices.Clone(vf.iv), p.Start)
		if kv, err = y.XORBlockAllocate(kv, vf.key, iv); err != nil {
			return bad("cannot be decrypted")
		}
	}
	if stored := kv[:fields[0]]; string(y.ParseKey(stored)) != string(key) || y.ParseTs(stored) != version {
		return bad("belongs to another key, or another version of it")
	}
	return kv[fields[0]:], nil
}

// file returns an open file of the value log.
func (v *Values) file(number uint32) (*valueFile, error) {
	if vf := v.files[number]; vf != nil {
		return vf, nil
	}
	path := v.dir.File(ValueName(uint64(number)))
	b, err := readUpTo(path, LogHeader)
	if err != nil {
		return nil, err
	}
	if len(b) < LogHeader {
		return nil, errors.New("it ends inside its header")
	}
	id := binary.BigEndian.Uint64(b)
	if !v.keys.Has(id) {
		return nil, errors.New("the data key that its header names is unknown")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	vf := &valueFile{f: f, key: v.keys[id], iv: b[8:]}
	v.files[number] = vf
	return vf, nil
}

// Each calls f for each value that can be read of the value log from a file on, until
// it returns an error.
func (v *Values) Each(from uint32, f func(Entry) error) error {
	for _, file := range v.dir.Values {
		if file.Size < LogHeader || file.Number < uint64(from) {
			continue
		}
		var failed error
		_, err := ReadLog(v.dir.File(file.Name), file.Number, v.keys, true, func(e Entry) {
			if failed == nil {
				failed = f(e)
			}
		})
		if errors.Is(err, os.ErrNotExist) && failed == nil {
			continue // Badger has removed it since, because it has no values
		}
		if err := errors.Join(failed, err); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the files.
func (v *Values) Close() {
	for _, vf := range v.files {
		vf.f.Close()
	}
}
