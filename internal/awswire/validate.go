package awswire

import (
	"fmt"
	"slices"
	"strings"
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

// Validate checks all constraints of the model: members that are required,
// lengths, ranges, numbers of members, patterns and enumerations, at any depth.
// The error is an *Error that names up to ten violations.
func Validate(s *Shape, p Params) error {
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
	return Errorf(CodeValidation, "%d validation error%s detected: %s", len(v), plural, strings.Join(v, "; "))
}

func (v *violations) structure(s *Shape, p Params, parent string) {
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

func (v *violations) value(s *Shape, value any, path string) {
	bad := func(constraint string) { v.add(path, "'"+shorten(printed(s, value))+"'", constraint) }
	if text, ok := value.(string); ok && !s.patternHolds(text) {
		bad("Member must satisfy regular expression pattern: " + s.text)
	}
	if s.enum != nil && !slices.Contains(s.enum, value.(string)) {
		bad(enumText(s))
	}
	v.bounds(s, value, bad)
	switch value := value.(type) {
	case Params:
		v.structure(s, value, path+".")
	case []any:
		v.list(s, value, path, bad)
	case Pairs:
		v.pairs(s, value, path, bad)
	}
}

func enumText(s *Shape) string {
	return "Member must satisfy enum value set: [" + strings.Join(s.enum, ", ") + "]"
}

func (v *violations) bounds(s *Shape, value any, bad func(string)) {
	what, n := size(value)
	if what == "" {
		return
	}
	if s.hasMin && n < s.min {
		bad(fmt.Sprintf("Member must have %s greater than or equal to %d", what, s.min))
	}
	if s.hasMax && n > s.max {
		bad(fmt.Sprintf("Member must have %s less than or equal to %d", what, s.max))
	}
}

// simple reports whether a value has no members of its own.
func simple(value any) bool {
	switch value.(type) {
	case Params, []any, Pairs:
		return false
	}
	return true
}

// holds reports whether a simple value satisfies all constraints of s.
func holds(s *Shape, value any) bool {
	if text, ok := value.(string); ok && (!s.patternHolds(text) || s.enum != nil && !slices.Contains(s.enum, text)) {
		return false
	}
	return s.fits(value)
}

// constraints lists those of the simple members of a list or map, whichever of
// them is broken, as AWS does.
func constraints(s *Shape, value any) string {
	what, _ := size(value)
	var all []string
	if s.enum != nil {
		all = append(all, enumText(s))
	}
	if s.hasMax {
		all = append(all, fmt.Sprintf("Member must have %s less than or equal to %d", what, s.max))
	}
	if s.hasMin {
		all = append(all, fmt.Sprintf("Member must have %s greater than or equal to %d", what, s.min))
	}
	if s.pattern != nil {
		all = append(all, "Member must satisfy regular expression pattern: "+s.text)
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// list checks the members of a list. The violation of a simple member names the
// whole list, that of any other the member.
func (v *violations) list(s *Shape, l []any, path string, bad func(string)) {
	for i, m := range l {
		if len(*v) == maxViolations {
			return
		}
		at := fmt.Sprintf("%s.%d.member", path, i+1)
		switch {
		case m == nil:
			v.add(at, "null", "Member must not be null")
		case !simple(m):
			v.value(s.elem, m, at)
		case !holds(s.elem, m):
			bad("Member must satisfy constraint: " + constraints(s.elem, m))
			return
		}
	}
}

// pairs checks the keys and values of a map.
func (v *violations) pairs(s *Shape, m Pairs, path string, bad func(string)) {
	if slices.ContainsFunc(m, func(p Pair) bool { return !holds(s.key, p.Key) }) {
		bad("Map keys must satisfy constraint: " + constraints(s.key, ""))
	}
	simpleBad := false
	for _, p := range m {
		if len(*v) == maxViolations {
			return
		}
		switch {
		case p.Value == nil:
			v.add(path+"."+p.Key+".member", "null", "Member must not be null")
		case !simple(p.Value):
			v.value(s.elem, p.Value, path+"."+p.Key+".member")
		case !simpleBad && !holds(s.elem, p.Value):
			simpleBad = true
			bad("Map value must satisfy constraint: " + constraints(s.elem, p.Value))
		}
	}
}

// printed returns what errors show of a value, which is how Java prints it.
func printed(s *Shape, value any) string {
	switch value := value.(type) {
	case []byte:
		return fmt.Sprintf("java.nio.HeapByteBuffer[pos=0 lim=%d cap=%[1]d]", len(value))
	case []any:
		var parts []string
		for _, m := range value {
			parts = append(parts, printedMember(s.elem, m))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case Pairs:
		var parts []string
		for _, p := range value {
			parts = append(parts, p.Key+"="+printedMember(s.elem, p.Value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case Params:
		var parts []string
		for i := range s.fields {
			if v, ok := value[s.fields[i].name]; ok {
				parts = append(parts, s.fields[i].label+"="+printedMember(s.fields[i].shape, v))
			}
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case nil:
		return "null"
	}
	return fmt.Sprint(value)
}

// printedMember returns what errors show of a value inside another.
func printedMember(s *Shape, value any) string {
	if s.printed != "" {
		return s.printed
	}
	return printed(s, value)
}
