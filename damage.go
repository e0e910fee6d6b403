package shardlog

import (
	"fmt"
	"strings"
)

// DamageError says that a file of a database is damaged, so that the database
// cannot be opened as it is. It matches ErrCorrupt. Nothing was written. Where
// several files are damaged there is one for each, joined.
type DamageError struct {
	// Path is the file, or the directory if files are missing from it.
	Path string
	// Offset is where in the file the damage begins, in bytes; -1 when it is
	// about the whole file.
	Offset int64
	// Reason says what is wrong.
	Reason string
	// Lost estimates what cannot be read because of it; "" when not known.
	Lost string
	// Remedy says what to do.
	Remedy string
}

// Error describes e in one line.
func (e *DamageError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "damaged file %s", e.Path)
	if e.Offset >= 0 {
		fmt.Fprintf(&b, ", offset %d", e.Offset)
	}
	b.WriteString(": " + e.Reason)
	if e.Lost != "" {
		b.WriteString("; lost: " + e.Lost)
	}
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	return b.String()
}

// Unwrap returns ErrCorrupt.
func (e *DamageError) Unwrap() error { return ErrCorrupt }
