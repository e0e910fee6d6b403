package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// Earlier versions had the entries of the journal as values of the store, each under
// a number that was used again. They are read when a log is opened, and a repaired
// database has its journal in them.

const (
	slotHeader  = 32
	slotMagic   = 0x314a4c53 // "SLJ1"
	slotVersion = 1
)

// Slots makes values of the entries of a journal, as earlier versions had them. The zero
// value is ready.
type Slots struct {
	number uint32 // of the next value
	group  uint64 // of the next value
}

// Keep notes a pair of the store that is kept: those of Values follow it.
func (s *Slots) Keep(key, value []byte) {
	n, ok := parseSlotKey(key)
	if !ok {
		return
	}
	s.number = max(s.number, n+1)
	if group, _, err := decodeSlot(value); err == nil || group > 0 {
		s.group = max(s.group, group+1)
	}
}

// Values calls f with keys and values for what is intact of an entry, until it returns an
// error. Each has about 256 KiB at most.
func (s *Slots) Values(entry []byte, f func(key, value []byte) error) error {
	parts, _ := decodeEntry(entry) // Verify reports what is damaged
	for len(parts) > 0 {
		v := make([]byte, slotHeader)
		n := 0
		for n < len(parts) && (n == 0 || len(v)+parts[n].b.Size() <= keptEntry) {
			v = appendEntry(v, parts[n].id, &parts[n].b)
			n++
		}
		parts = parts[n:]
		if err := f(s.value(v, n)); err != nil {
			return err
		}
	}
	return nil
}

// value completes a value that has some parts.
func (s *Slots) value(v []byte, parts int) (key, value []byte) {
	le := binary.LittleEndian
	le.PutUint32(v[8:], slotMagic)
	v[12] = slotVersion
	le.PutUint64(v[16:], s.group)
	le.PutUint32(v[24:], uint32(parts))
	sum, _ := slotSum(v)
	le.PutUint32(v[28:], sum)
	le.PutUint64(v, xxhash.Sum64(v[8:]))
	key = slotKey(s.number)
	s.number, s.group = s.number+1, s.group+1
	return key, v
}

// slotSum covers what no block's checksum does: whose parts a value has. Ok
// is false if they do not fit into it.
func slotSum(v []byte) (sum uint32, ok bool) {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(v[8:28]) // never fails
	rest := v[slotHeader:]
	for range binary.LittleEndian.Uint32(v[24:]) {
		if len(rest) < partHead {
			return 0, false
		}
		size := uint64(binary.LittleEndian.Uint32(rest[8:]))
		_, _ = d.Write(rest[:partHead])
		if rest = rest[partHead:]; size > uint64(len(rest)) {
			return 0, false
		}
		rest = rest[size:]
	}
	return uint32(d.Sum64()), true
}

// decodeSlot returns the parts of a value, which keep its memory, and a number that
// is higher for those that were written later. With an error it returns those that
// are intact.
func decodeSlot(v []byte) (group uint64, parts []journalPart, err error) {
	le := binary.LittleEndian
	switch {
	case len(v) < slotHeader:
		return 0, nil, errors.New("journal value shorter than its header")
	case le.Uint32(v[8:]) != slotMagic:
		return 0, nil, errors.New("journal value without its magic number")
	case v[12] != slotVersion:
		return 0, nil, fmt.Errorf("journal version %d is not known", v[12])
	}
	group = le.Uint64(v[16:])
	sum, whole := slotSum(v)
	if le.Uint64(v) != xxhash.Sum64(v[8:]) {
		// The blocks have checksums of their own: what is intact is used, if
		// it is sure whose it is.
		err = errors.New("journal value fails its checksum")
		if !whole || sum != le.Uint32(v[28:]) {
			return group, nil, err
		}
	}
	if !whole {
		return group, nil, errors.New("the parts of a journal value run over its end") // also one in bare form
	}
	parts, damage := decodeEntry(v[slotHeader:])
	if damage != nil {
		err = damage
	} else if n := le.Uint32(v[24:]); err == nil && int(n) != len(parts) {
		err = fmt.Errorf("a journal value has %d parts, and says %d", len(parts), n)
	}
	return group, parts, err
}
