package kinesisapi

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxViolations is how many broken constraints an answer names.
const maxViolations = 10

// violations collects broken constraints.
type violations []string

func (v *violations) add(path, value, constraint string) {
	if len(*v) < maxViolations {
		*v = append(*v, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: %s", value, path, constraint))
	}
}

// maxPatternText is how long a text may be to be looked at for a pattern; the
// longest that any allows has 2,048 characters.
const maxPatternText = 16 << 10

// validate checks the constraints of the model.
func validate(s *shape, p params) error {
	var v violations
	v.structure(s, p, "")
	return v.err()
}

func (v violations) err() error {
	if len(v) == 0 {
		return nil
	}
	plural := "s"
	if len(v) == 1 {
		plural = ""
	}
	return fault(codeValidation, "%d validation error%s detected: %s", len(v), plural, strings.Join(v, "; "))
}

func (v *violations) structure(s *shape, p params, parent string) {
	for i := range s.fields {
		if len(*v) == maxViolations {
			return
		}
		f := &s.fields[i]
		path := parent + f.label
		switch value, ok := p[f.name]; {
		case ok:
			v.value(f.shape, value, path)
		case f.required:
			v.add(path, "null", "Member must not be null")
		}
	}
}

func (v *violations) value(s *shape, value any, path string) {
	bad := func(constraint string) { v.add(path, "'"+shorten(printed(s, value))+"'", constraint) }
	if s.pattern != nil {
		// Nothing that long is right, and matching it would take seconds.
		if text := value.(string); len(text) > maxPatternText || !s.pattern.MatchString(text) {
			bad("Member must satisfy regular expression pattern: " + s.text)
		}
	}
	if s.enum != nil && !slices.Contains(s.enum, value.(string)) {
		bad(enumText(s))
	}
	v.bounds(s, value, bad)
	switch value := value.(type) {
	case params:
		v.structure(s, value, path+".")
	case []any:
		v.members(s, value, path, bad)
	case pairs:
		if s.key != nil {
			v.tags(s, value, bad)
		}
	}
}

func enumText(s *shape) string {
	return "Member must satisfy enum value set: [" + strings.Join(s.enum, ", ") + "]"
}

func (v *violations) bounds(s *shape, value any, bad func(string)) {
	what, n := "length", int64(0)
	switch value := value.(type) {
	case string:
		n = int64(utf8.RuneCountInString(value))
	case []byte:
		n = int64(len(value))
	case []any:
		n = int64(len(value))
	case pairs:
		n = int64(len(value))
	case int64:
		what, n = "value", value
	default:
		return
	}
	if s.hasMin && n < s.min {
		bad(fmt.Sprintf("Member must have %s greater than or equal to %d", what, s.min))
	}
	if s.hasMax && n > s.max {
		bad(fmt.Sprintf("Member must have %s less than or equal to %d", what, s.max))
	}
}

func lengths(s *shape) string {
	return fmt.Sprintf("[Member must have length less than or equal to %d, Member must have length greater than or equal to %d]", s.max, s.min)
}

func (s *shape) fits(value string) bool {
	n := int64(utf8.RuneCountInString(value))
	return n >= s.min && n <= s.max
}

// members checks those of a list; the texts for strings name the whole list.
func (v *violations) members(s *shape, l []any, path string, bad func(string)) {
	for i, m := range l {
		switch m := m.(type) {
		case params:
			v.structure(s.elem, m, fmt.Sprintf("%s.%d.member.", path, i+1))
		case string:
			if s.elem.enum != nil && !slices.Contains(s.elem.enum, m) {
				bad("Member must satisfy constraint: [" + enumText(s.elem) + "]")
				return
			}
			if s.elem.hasMin && !s.elem.fits(m) {
				bad("Member must satisfy constraint: " + lengths(s.elem))
				return
			}
		case nil:
			v.add(fmt.Sprintf("%s.%d.member", path, i+1), "null", "Member must not be null")
		}
	}
}

func (v *violations) tags(s *shape, m pairs, bad func(string)) {
	if slices.ContainsFunc(m, func(p pair) bool { return !s.key.fits(p.key) }) {
		bad("Map keys must satisfy constraint: " + lengths(s.key))
	}
	if slices.ContainsFunc(m, func(p pair) bool { return !s.elem.fits(p.value) }) {
		bad("Map value must satisfy constraint: " + lengths(s.elem))
	}
}

// printed is how errors show a value: as Java prints it.
func printed(s *shape, value any) string {
	switch value := value.(type) {
	case []byte:
		return fmt.Sprintf("java.nio.HeapByteBuffer[pos=0 lim=%d cap=%[1]d]", len(value))
	case []any:
		var parts []string
		for _, m := range value {
			part := fmt.Sprint(m)
			if s.elem.member != "" {
				part = s.elem.member
			}
			parts = append(parts, part)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case pairs:
		var parts []string
		for _, p := range value {
			parts = append(parts, p.key+"="+p.value)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(value)
}
