package badgerkv

import "github.com/shardlog/shardlog/internal/kv/badgerfile"

// closeTables is from how many tables in level zero on Close merges them.
const closeTables = 4

// manyTables reports whether a directory has so many small tables that Close should
// merge them. Each Close writes the memtable to a table, and Badger begins to merge
// tables up to a second after it was opened; so a program that opens a database
// for less than that would leave one more table each time, and each is
// read when the directory is opened, and synced when it is closed.
//
// Badger merges those whose ranges of keys overlap, as they do where each run
// changes the same key, such as the one that says how it left the database.
//
// It merges only where there is much room: Close must not wait for some.
func (s *Store) manyTables(r *badgerfile.Report) bool {
	if r.Manifest == nil {
		return false
	}
	n := 0
	for _, t := range r.Manifest.Tables {
		if t.Level == 0 {
			n++
		}
	}
	free, err := s.space.free()
	return n >= closeTables && err == nil && free >= fillFar
}
