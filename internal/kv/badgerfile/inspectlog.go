package badgerfile

import (
	"encoding/binary"
	"fmt"

	"github.com/shardlog/shardlog"
)

// header checks the header of a log file; ok says that the rest can be read.
func (in *inspection) header(f File, l *Log) (ok bool) {
	path := in.Dir.File(f.Name)
	switch {
	case f.Size < LogHeader:
		in.damaged(damage(path, f.Size, "it ends inside its header"))
	case !in.Keys.Has(l.KeyID):
		in.damaged(withoutKeys(damage(path, 0, "its header names data key %d, which %s lacks", l.KeyID, RegistryName)))
	default:
		return true
	}
	return false
}

// walFiles reads the write-ahead logs. One that is empty was about to be made or
// removed: Badger empties a file before it removes it.
func (in *inspection) walFiles() error {
	if in.Keys == nil {
		return nil
	}
	last := in.inLast()
	note := func(e Entry) { last(e); in.own(e) }
	for _, f := range in.Dir.WALs {
		if f.Size == 0 {
			in.Empty = append(in.Empty, f)
			continue
		}
		l, err := ReadLog(in.Dir.File(f.Name), f.Number, in.Keys, false, note)
		if err != nil {
			return err
		}
		if in.header(f, l) {
			in.wals = append(in.wals, wal{f, l})
		}
	}
	return nil
}

// walRules reports whether acknowledged commits are missing from the write-ahead
// logs. What a process had written is there in full as long as the system has
// run since. After a crash of the system that is so only for
// what was synced: each commit but the last, those up to a known one, or nothing.
// After such a crash what is missing stays missing, which Inventory.Gaps says.
func (in *inspection) walRules() error {
	if in.Keys == nil {
		return nil
	}
	inv := in.Inventory
	strict := inv.SameBoot()
	synced := in.synced()
	blank := len(in.wals) == 0
	for i, w := range in.wals {
		l, path := w.log, in.Dir.File(w.Name)
		if l.Blank && !l.Torn() {
			blank = blank || len(in.wals) == 1
			if i+1 < len(in.wals) {
				in.damaged(damage(path, 0, "it has no header, and is not the newest write-ahead log"))
			}
			continue
		}
		if l.Cut() || l.Blank && l.Torn() {
			d := damage(path, l.Stop, "the write-ahead log cannot be read from there on, and was written up to %d", l.Written)
			d.Lost = in.lostBehind(l)
			if strict || synced && l.After.Versions >= 2 || l.Last > 0 && l.Last < in.durable && !in.flushed(l.Last) {
				in.damaged(d)
			} else {
				in.warn(d)
			}
		}
		if i > 0 && synced && l.First > 0 {
			if p := in.wals[i-1].log; p.Last > 0 && !p.Cut() && l.First > max(p.Last, inv.Gaps)+1 {
				in.damaged(damage(path, LogHeader, "it begins with commit %d, and the log before it ends with %d", l.First, p.Last))
			}
		}
	}
	if synced {
		in.emptied()
	}
	// An open store always has one.
	if blank && strict && inv.State == StateOpen {
		d := damage(in.Dir.Path, -1, "the write-ahead log is missing or empty, and the database was not closed")
		d.Lost = "what was written in the last moments before"
		in.damaged(d)
	}
	return nil
}

// synced reports whether all that was committed must be there, but for the last
// commit. Where there is a redo log, and where no inventory has the opposite, commits
// were not synced one by one.
func (in *inspection) synced() bool {
	inv := in.Inventory
	return inv.SameBoot() || in.Dir.Redo == nil && inv != nil && inv.Sync
}

// newestInTables returns the highest version in the tables; ok is false if they
// cannot all be read, which is reported already.
func (in *inspection) newestInTables() (last uint64, ok bool) {
	if in.Manifest == nil {
		return 0, false
	}
	for number, t := range in.Manifest.Tables {
		err := ReadTable(in.Dir.File(TableName(number)), t, in.Keys, func(e Entry) bool { last = max(last, e.Version); return true })
		if err != nil {
			return 0, false
		}
	}
	return last, true
}

// flushed reports whether tables have a version behind one. Memtables become
// tables in their order, so all that the log with that one has is in tables.
func (in *inspection) flushed(version uint64) bool {
	last, ok := in.newestInTables()
	return ok && last > version
}

// emptied looks at write-ahead logs that are empty and older than one that is
// not: what they held must be in tables.
func (in *inspection) emptied() {
	if len(in.wals) == 0 || len(in.Empty) == 0 || in.Empty[0].Number > in.wals[0].Number {
		return
	}
	last, ok := in.newestInTables()
	if !ok {
		return
	}
	last = max(last, in.Inventory.Gaps)
	if first := in.wals[0].log.First; first > last+1 {
		d := damage(in.Dir.File(in.Empty[0].Name), -1, "it is empty, and neither the tables nor another log have commits %d to %d", last+1, first-1)
		d.Lost = fmt.Sprintf("%d commits", first-1-last)
		in.damaged(d)
	}
}

// lostBehind estimates what Badger would leave out.
func (in *inspection) lostBehind(l *Log) string {
	a := l.After
	if a.Entries == 0 {
		return fmt.Sprintf("the last commit, of up to %d bytes", l.Written-l.End)
	}
	return fmt.Sprintf("the commit there; %d commits behind it with %d changes are readable, up to number %d, and can be kept", a.Commits, a.Entries-a.Commits, a.Last)
}

// values looks at the files of the value log.
func (in *inspection) values() error {
	if in.Keys == nil {
		return nil
	}
	last := in.lastValues()
	for _, f := range in.Dir.Values {
		if f.Size == 0 {
			in.Empty = append(in.Empty, f)
			continue
		}
		if err := in.value(f, last != nil && f.Number == last.Number); err != nil {
			return err
		}
	}
	return nil
}

// value looks at one file of the value log. Damage in it does not keep the rest
// from being read, and is found again when the value is.
func (in *inspection) value(f File, newest bool) error {
	path := in.Dir.File(f.Name)
	if !newest && !in.full {
		l, err := readHeader(path)
		if err == nil && in.header(f, l) && l.Blank && f.Size > LogHeader {
			in.warn(damage(path, 0, "its header is empty"))
		}
		return err
	}
	var l *Log
	var err error
	lost := false
	if newest {
		l, lost, err = in.tail(f)
	} else {
		l, err = ReadLog(path, f.Number, in.Keys, false, nil)
	}
	if err != nil || !in.header(f, l) {
		return err
	}
	lost = lost || l.Cut() || l.Blank && l.Torn()
	if lost {
		d := damage(path, l.Stop, "a value cannot be read there")
		d.Lost = fmt.Sprintf("it, and whether others are in between: %d values behind it are readable", l.After.Entries)
		in.warn(d)
	}
	if newest && (lost || l.Stop >= guardFrom) {
		in.guard(f, l, lost)
	}
	return in.ahead(f, l)
}

// ahead compares the value log with the write-ahead log: a commit writes its
// values before its keys, so only those of the last commit can be without.
func (in *inspection) ahead(f File, l *Log) error {
	inv := in.Inventory
	if len(in.wals) == 0 || inv == nil || inv.State == StateClean || !inv.Sync && !inv.SameBoot() || len(in.Damage) > 0 {
		return nil
	}
	last := uint64(0)
	for _, w := range in.wals {
		last = max(last, w.log.Last)
	}
	if last > 0 && l.Newest > max(last, inv.Gaps)+1 {
		d := damage(in.Dir.File(in.wals[len(in.wals)-1].Name), -1, "the write-ahead log ends with commit %d, and %s has values of commit %d", last, f.Name, l.Newest)
		d.Lost = fmt.Sprintf("%d commits or more", l.Newest-1-last)
		in.damaged(d)
	}
	return nil
}

// readHeader reads nothing but the header of a log file.
func readHeader(path string) (*Log, error) {
	b, err := readUpTo(path, LogHeader)
	if err != nil || len(b) < LogHeader {
		return &Log{}, err
	}
	return &Log{KeyID: binary.BigEndian.Uint64(b), Blank: allZero(b)}, nil
}

// Errors returns everything that was found, the damage first.
func (r *Report) Errors() []*shardlog.DamageError {
	return append(append([]*shardlog.DamageError(nil), r.Damage...), r.Warnings...)
}
