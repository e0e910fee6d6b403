package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shardlog/shardlog"
)

// Ensure returns the stream with the name, and creates it as Create would if
// there is none. So a program that calls it works when it is run again, and
// when several goroutines call it at the same time one of them creates the
// stream and all get it.
//
// If the stream exists, its configuration has to be the one that cfg asks for:
// otherwise the error is a *ConfigMismatchError, which matches
// shardlog.ErrConflict, and nothing is changed. Fields of cfg that are zero ask
// for nothing, so an empty Config accepts any stream. Of Tags and Attributes
// those in cfg are compared; the stream may have others. Limits are compared as
// a whole unless all are 0.
//
// Config.Shards is the number of shards to begin with. It is compared until the
// stream is split, merged or resharded for the first time; from then on any
// number is accepted, so that a program which is run again need not know what
// was done since.
//
// A stream that is being deleted is one that does not exist any more: Ensure
// waits until it is removed, and creates another. It blocks, also while other
// streams are created or deleted, only if it has to create the stream. Other
// errors match shardlog.ErrInvalid, with all faults of cfg, also if the stream
// exists, ErrNoSpace, ErrClosed or ErrUnknownOutcome if the storage failed, or
// are that of ctx; the stream was not created then, except perhaps with
// ErrUnknownOutcome.
func (db *DB) Ensure(ctx context.Context, name string, cfg Config) (*Stream, error) {
	const op = "ensure"
	if err := db.enter(ctx, op, name); err != nil {
		return nil, err
	}
	fail := func(err error) (*Stream, error) {
		return nil, &shardlog.Error{Op: op, Stream: name, Err: err}
	}
	full, err := cfg.withDefaults(db.largestRecord())
	if err = errors.Join(checkName(name), err); err != nil {
		return fail(err)
	}
	st := db.lookUp(name)
	if st == nil || st.deleted.Load() {
		// With the lock a deletion is over, and another Ensure has created it.
		if err := db.lockStreams(ctx); err != nil {
			return fail(err)
		}
		defer db.unlockStreams()
		if st = db.lookUp(name); st == nil {
			if st, err = db.createLocked(ctx, name, full); err != nil {
				return fail(err)
			}
			return st, nil
		}
	}
	if differing := st.compare(&cfg); len(differing) > 0 {
		return fail(&ConfigMismatchError{Fields: differing})
	}
	return st, nil
}

// ConfigMismatchError says in which fields an existing stream differs from the
// Config that was given to DB.Ensure. It matches shardlog.ErrConflict.
type ConfigMismatchError struct {
	// Fields are those that differ, in the order of Config; never empty.
	Fields []FieldMismatch
}

// FieldMismatch is a field of a Config with both its values.
type FieldMismatch struct {
	// Field is its name in Config, for a tag or an attribute with the key, as
	// in Tags["team"].
	Field string
	// Want is what was asked for, Have what the stream has. Both have the type
	// of the field; Have is nil for a tag or an attribute that the stream lacks.
	Want, Have any
}

// Error describes e in one line.
func (e *ConfigMismatchError) Error() string {
	var b strings.Builder
	b.WriteString("the stream exists with another configuration: ")
	for i, f := range e.Fields {
		if i > 0 {
			b.WriteString(", ")
		}
		if f.Have == nil {
			fmt.Fprintf(&b, "%s is not set, asked for %s", f.Field, settingText(f.Want))
		} else {
			fmt.Fprintf(&b, "%s is %s, asked for %s", f.Field, settingText(f.Have), settingText(f.Want))
		}
	}
	return b.String()
}

// settingText is the value of a field as one would write it in a Config.
func settingText(v any) string {
	if v == Forever {
		return "Forever"
	}
	return fmt.Sprintf("%+v", v)
}

// Unwrap returns shardlog.ErrConflict.
func (e *ConfigMismatchError) Unwrap() error { return shardlog.ErrConflict }

// compare returns the fields in which the stream differs from what want sets.
func (st *Stream) compare(want *Config) (differing []FieldMismatch) {
	have := st.meta.Load()
	add := func(field string, want, have any) {
		differing = append(differing, FieldMismatch{field, want, have})
	}
	if open := st.routes.Load().open; want.Shards != 0 && want.Shards != len(open) && !resharded(open) {
		add("Shards", want.Shards, len(open))
	}
	if want.Retention != 0 && want.Retention != have.Retention {
		add("Retention", want.Retention, have.Retention)
	}
	if want.RetentionBytes != 0 && want.RetentionBytes != have.RetentionBytes {
		add("RetentionBytes", want.RetentionBytes, have.RetentionBytes)
	}
	if want.MaxRecordSize != 0 && want.MaxRecordSize != have.MaxRecordSize {
		add("MaxRecordSize", want.MaxRecordSize, have.MaxRecordSize)
	}
	if want.Compression != 0 && want.Compression != have.Compression {
		add("Compression", want.Compression, have.Compression)
	}
	if want.Hash != 0 && want.Hash != have.Hash {
		add("Hash", want.Hash, have.Hash)
	}
	if want.Limits != (Limits{}) && want.Limits != have.Limits {
		add("Limits", want.Limits, have.Limits)
	}
	if want.DedupWindow != 0 && want.DedupWindow != have.DedupWindow {
		add("DedupWindow", want.DedupWindow, have.DedupWindow)
	}
	differing = append(differing, compareTexts("Tags", want.Tags, have.Tags)...)
	return append(differing, compareTexts("Attributes", want.Attributes, have.Attributes)...)
}

// compareTexts compares tags or attributes, in the order of their keys.
func compareTexts(field string, want, have map[string]string) (differing []FieldMismatch) {
	for _, k := range slices.Sorted(maps.Keys(want)) {
		v, ok := have[k]
		if ok && v == want[k] {
			continue
		}
		m := FieldMismatch{Field: fmt.Sprintf("%s[%q]", field, k), Want: want[k]}
		if ok {
			m.Have = v
		}
		differing = append(differing, m)
	}
	return differing
}

// resharded reports whether the open shards are others than the first ones: the
// children of a reshard have parents, and their children as well.
func resharded(open []*streamShard) bool {
	return slices.ContainsFunc(open, func(sh *streamShard) bool { return len(sh.meta.Parents) > 0 })
}
