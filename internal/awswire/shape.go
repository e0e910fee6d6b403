package awswire

import (
	"cmp"
	"iter"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// kind is the type of a member in a service model.
type kind uint8

const (
	kindString kind = iota
	kindInteger
	kindLong
	kindBoolean
	kindBlob
	kindTimestamp
	kindList
	kindMap
	kindStructure
)

// Shape is a type of a service model with its constraints. It does not change
// after it was made, and may be used by several members and goroutines.
type Shape struct {
	kind     kind
	min, max int64 // of a length, of a value or of a number of members
	hasMin   bool
	hasMax   bool
	pattern  *regexp.Regexp
	text     string // of the pattern, as the model has it
	enum     []string
	fields   []Field // of a structure
	elem     *Shape  // of a list, or of the values of a map
	key      *Shape  // of a map
	printed  string  // what errors show in place of a structure in a list
}

// Field is a member of a structure. Use Required and Optional.
type Field struct {
	name     string
	label    string // what errors call it
	shape    *Shape
	required bool
}

// Required returns a member that a request must have.
func Required(name string, s *Shape) Field {
	return Field{name: name, label: lowerFirst(name), shape: s, required: true}
}

// Optional returns a member that a request may have.
func Optional(name string, s *Shape) Field {
	return Field{name: name, label: lowerFirst(name), shape: s}
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// lookup returns the member with a name, or nil.
func (s *Shape) lookup(name []byte) *Field {
	for i := range s.fields {
		if s.fields[i].name == string(name) {
			return &s.fields[i]
		}
	}
	return nil
}

// Members returns the members of a structure, in order.
func (s *Shape) Members() iter.Seq2[string, *Shape] {
	return func(yield func(string, *Shape) bool) {
		for i := range s.fields {
			if !yield(s.fields[i].name, s.fields[i].shape) {
				return
			}
		}
	}
}

// bounded returns a shape with bounds; one that is negative is none.
func bounded(k kind, lo, hi int64) *Shape {
	return &Shape{kind: k, min: lo, max: hi, hasMin: lo >= 0, hasMax: hi >= 0}
}

// Text returns the shape of a string whose length in characters is from lo to
// hi, each without a bound if negative, and that matches pattern as a whole,
// unless that is empty. It panics if pattern is no regular expression.
func Text(lo, hi int64, pattern string) *Shape {
	s := bounded(kindString, lo, hi)
	s.text = pattern
	if pattern != "" {
		s.pattern = regexp.MustCompile("^(?:" + strings.TrimPrefix(pattern, "^") + ")$")
	}
	return s
}

// Enum returns the shape of a string that is one of values. Errors list them in
// the order of AWS.
func Enum(values ...string) *Shape {
	values = slices.Clone(values)
	slices.SortStableFunc(values, func(a, b string) int { return cmp.Compare(javaBucket(a), javaBucket(b)) })
	return &Shape{kind: kindString, enum: values}
}

// javaBucket returns where a text is in a hash table of Java with 32 places. Its
// iteration gives the order in which all texts of AWS that are known list the
// values of an enumeration.
func javaBucket(s string) uint32 {
	hash := uint32(0)
	for i := range len(s) { // names of values are ASCII
		hash = 31*hash + uint32(s[i])
	}
	return hash % 32
}

// Integer returns the shape of a 32-bit integer from lo to hi, each without a
// bound if negative.
func Integer(lo, hi int64) *Shape { return bounded(kindInteger, lo, hi) }

// Long returns the shape of a 64-bit integer from lo to hi, each without a bound
// if negative.
func Long(lo, hi int64) *Shape { return bounded(kindLong, lo, hi) }

// Blob returns the shape of lo to hi bytes, each without a bound if negative.
func Blob(lo, hi int64) *Shape { return bounded(kindBlob, lo, hi) }

// Boolean returns the shape of a boolean.
func Boolean() *Shape { return &Shape{kind: kindBoolean} }

// Timestamp returns the shape of a time.
func Timestamp() *Shape { return &Shape{kind: kindTimestamp} }

// List returns the shape of lo to hi members of elem, each without a bound if
// negative.
func List(elem *Shape, lo, hi int64) *Shape {
	s := bounded(kindList, lo, hi)
	s.elem = elem
	return s
}

// Map returns the shape of lo to hi keys with a value each, without a bound if
// negative.
func Map(key, elem *Shape, lo, hi int64) *Shape {
	s := bounded(kindMap, lo, hi)
	s.key, s.elem = key, elem
	return s
}

// Structure returns the shape of a structure.
func Structure(fields ...Field) *Shape { return &Shape{kind: kindStructure, fields: fields} }

// PrintedAs returns a copy of s for members of lists, which errors show as text:
// AWS shows the Java name of the type.
func (s *Shape) PrintedAs(text string) *Shape {
	c := *s
	c.printed = text
	return &c
}

// Extend returns a structure with the fields given, followed by those of s.
func (s *Shape) Extend(fields ...Field) *Shape {
	return Structure(append(fields, s.fields...)...)
}

// maxPatternText is how long a text may be for its pattern to be tried. No
// pattern of a model allows that much, and to match it would take seconds.
const maxPatternText = 16 << 10

// Matches reports whether a text satisfies the pattern and the bounds of s.
func (s *Shape) Matches(text string) bool { return s.patternHolds(text) && s.fits(text) }

func (s *Shape) patternHolds(text string) bool {
	return s.pattern == nil || len(text) <= maxPatternText && s.pattern.MatchString(text)
}

// size is what the bounds of a value are about: what, "length" or "value", and
// how much. Values without bounds have no what.
func size(value any) (what string, n int64) {
	switch value := value.(type) {
	case string:
		return "length", int64(utf8.RuneCountInString(value))
	case []byte:
		return "length", int64(len(value))
	case []any:
		return "length", int64(len(value))
	case Pairs:
		return "length", int64(len(value))
	case int64:
		return "value", value
	}
	return "", 0
}

// fits reports whether a value is within the bounds.
func (s *Shape) fits(value any) bool {
	what, n := size(value)
	return what == "" || (!s.hasMin || n >= s.min) && (!s.hasMax || n <= s.max)
}
