package iam

import (
	"fmt"
	"slices"
	"strings"
)

// Error is what is wrong with a policy.
type Error struct {
	// Path is where, such as "Statement[0].Effect"; "" for the document.
	Path string
	// Problem is what is wrong there.
	Problem string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Path == "" {
		return e.Problem
	}
	return e.Path + ": " + e.Problem
}

func faulty(path, format string, args ...any) error {
	return &Error{path, fmt.Sprintf(format, args...)}
}

// fields are the members of an object.
type fields struct {
	what   string
	values map[string]*value
}

// of reads an object that has no other members than those named. One that
// differs in case only is named in the error: it is what people write.
func (f *fields) of(path string, v value, names ...string) error {
	if v.kind != kindObject {
		return faulty(path, "%s must be an object and is %s", f.what, v.kind)
	}
	f.values = map[string]*value{}
	for i := range v.members {
		m := &v.members[i]
		if !slices.Contains(names, m.name) {
			for _, name := range names {
				if strings.EqualFold(name, m.name) {
					return faulty(path, "there is %q, which has to be written %q", shorten(m.name), name)
				}
			}
			return faulty(path, "%q is no element of %s", shorten(m.name), f.what)
		}
		f.values[m.name] = &m.value
	}
	return nil
}

// get returns a member, or nil.
func (f *fields) get(name string) *value { return f.values[name] }

// oneOf returns the one of two members that is there, one of which is demanded.
func (f *fields) oneOf(path, name string) (v *value, not bool, at string, err error) {
	yes, no := f.get(name), f.get("Not"+name)
	switch {
	case yes != nil && no != nil:
		return nil, false, "", faulty(path, "there must not be both %s and Not%[1]s", name)
	case yes != nil:
		return yes, false, path + "." + name, nil
	case no != nil:
		return no, true, path + ".Not" + name, nil
	}
	return nil, false, "", faulty(path, "there is no %s", name)
}

// texts reads a string or a list of them, which must not be empty.
func texts(path string, v value) ([]string, error) {
	all := v.list
	if v.kind != kindList {
		all = []value{v}
	}
	if len(all) == 0 {
		return nil, faulty(path, "must not be empty")
	}
	list := make([]string, len(all))
	for i := range all {
		if all[i].kind != kindText || all[i].text == "" {
			return nil, faulty(path, "must be a string that is not empty, or a list of them")
		}
		list[i] = all[i].text
	}
	return list, nil
}
