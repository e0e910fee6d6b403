package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"unicode/utf8"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/logstore"
)

// Bounds of attributes. They are kept in memory with the rest of the metadata.
const (
	// MaxAttributes is the largest number of attributes of a stream.
	MaxAttributes = 100
	// MaxAttributeName is the longest name of an attribute, in bytes.
	MaxAttributeName = 256
	// MaxAttributeBytes is the longest value of an attribute.
	MaxAttributeBytes = 64 << 10
)

// checkAttributes finds faults of a stream's attributes.
func checkAttributes(attrs map[string]string) error {
	if len(attrs) > MaxAttributes {
		return &shardlog.InvalidError{Field: "Attributes", Value: len(attrs), Limit: fmt.Sprintf("at most %d", MaxAttributes)}
	}
	var errs []error
	for name, value := range attrs {
		errs = append(errs, checkAttribute(name, value))
	}
	return errors.Join(errs...)
}

func checkAttribute(name, value string) error {
	if name == "" || len(name) > MaxAttributeName || !utf8.ValidString(name) {
		return &shardlog.InvalidError{Field: "attribute name", Value: name, Limit: fmt.Sprintf("1 to %d bytes of valid UTF-8", MaxAttributeName)}
	}
	if len(value) > MaxAttributeBytes || !utf8.ValidString(value) {
		return &shardlog.InvalidError{Field: "attribute " + name, Value: fmt.Sprintf("of %d bytes", len(value)),
			Limit: fmt.Sprintf("at most %d bytes of valid UTF-8", MaxAttributeBytes)}
	}
	return nil
}

// Attributes returns what SetAttributes and Config.Attributes have set. The
// map is the caller's.
func (st *Stream) Attributes() map[string]string { return maps.Clone(st.meta.Load().Attributes) }

// Attribute returns one attribute, "" if it is not set. It does not allocate.
func (st *Stream) Attribute(name string) string { return st.meta.Load().Attributes[name] }

// SetAttributes sets attributes, and removes those whose value is "". They are
// text that a program keeps with the stream, as durable as its records, gone
// with it, and of no meaning to the log. The change is made as a whole. The
// error matches shardlog.ErrInvalid or ErrNotFound.
func (st *Stream) SetAttributes(ctx context.Context, attrs map[string]string) error {
	return st.update(ctx, "set attributes", func(m *streamMeta) error {
		next := make(map[string]string, len(m.Attributes)+len(attrs))
		maps.Copy(next, m.Attributes)
		for name, value := range attrs {
			if next[name] = value; value == "" {
				delete(next, name)
			}
		}
		m.Attributes = next
		return errors.Join(checkAttributes(attrs), checkAttributes(next))
	})
}

// Attribute returns what SetAttribute has stored under the name, "" if nothing.
func (db *DB) Attribute(ctx context.Context, name string) (string, error) {
	if err := db.enter(ctx, "attribute", ""); err != nil {
		return "", err
	}
	v, err := db.log.Get(append([]byte(prefixAttr), name...))
	if errors.Is(err, shardlog.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", &shardlog.Error{Op: "attribute", Err: err}
	}
	return string(v), nil
}

// SetAttribute stores text under a name, for a program that keeps something
// about the database in it. The value may be "", but names are never removed,
// so they should be few. The error matches shardlog.ErrInvalid, or
// shardlog.ErrUnknownOutcome if ctx ends while the value is being stored, which
// may be stored later then.
func (db *DB) SetAttribute(ctx context.Context, name, value string) error {
	if err := db.enter(ctx, "set attribute", ""); err != nil {
		return err
	}
	err := checkAttribute(name, value)
	if err == nil {
		err = db.log.Do(ctx, func(tx *logstore.Tx) error {
			tx.Set(append([]byte(prefixAttr), name...), []byte(value))
			return nil
		})
	}
	if err != nil {
		return &shardlog.Error{Op: "set attribute", Err: err}
	}
	return nil
}
