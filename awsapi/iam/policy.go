package iam

import (
	"fmt"
	"slices"
	"strings"
)

// Policy is a policy document.
type Policy struct {
	// Version is that of the language: "2012-10-17" or, also if the document has
	// none, "2008-10-17".
	Version string
	// ID is the document's own name; "" for none.
	ID         string
	Statements []Statement
}

// Statement is one rule of a policy.
type Statement struct {
	// Sid names the statement; "" for none.
	Sid string
	// Allow is for Effect Allow, and false for Deny.
	Allow bool
	// Principals are those whom the statement is about or, with NotPrincipal, all
	// others.
	Principals   []Principal
	NotPrincipal bool
	// Actions are patterns such as "kinesis:Get*" or, with NotAction, of those
	// that the statement is not about.
	Actions   []string
	NotAction bool
	// Resources are patterns of ARNs.
	Resources []string
	// Conditions all have to hold.
	Conditions []Condition
}

// Principal is a caller, or several.
type Principal struct {
	// Type is "AWS", "Service" or "Federated". Everybody is "AWS" with ID "*".
	Type string
	// ID is an account or an ARN, a service's name, or a provider.
	ID string
}

// Condition compares a value of the request.
type Condition struct {
	// Operator is as written, such as "ForAnyValue:StringLikeIfExists".
	Operator string
	// Key is what is compared, such as "aws:SourceArn".
	Key string
	// Values are those of which one has to fit.
	Values []string
}

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

// Rules are what a service demands of the policies of its resources, in addition
// to the grammar.
type Rules struct {
	// Service begins all actions, such as "kinesis".
	Service string
	// Resource is the ARN of what the policy is of. A policy is about nothing
	// else.
	Resource string
	// MaxBytes is the size of a document without the white space between its
	// values.
	MaxBytes int
}

// ParseResourcePolicy reads the policy of a resource (IAM user guide, grammar of
// the policy language), in which a principal is demanded. The error is an *Error.
func ParseResourcePolicy(document string, rules Rules) (*Policy, error) {
	if compactSize(document) > rules.MaxBytes {
		return nil, faulty("", "the policy is larger than %d bytes", rules.MaxBytes)
	}
	doc, err := readJSON(document)
	if err != nil {
		return nil, faulty("", "%v", err)
	}
	p := &Policy{Version: "2008-10-17"}
	f := fields{what: "the policy"}
	if err := f.of("", doc, "Version", "Id", "Statement"); err != nil {
		return nil, err
	}
	if v := f.get("Version"); v != nil {
		p.Version = v.text
		if v.kind != kindText || p.Version != "2012-10-17" && p.Version != "2008-10-17" {
			return nil, faulty("Version", `must be "2012-10-17" or "2008-10-17"`)
		}
	}
	if v := f.get("Id"); v != nil {
		if p.ID = v.text; v.kind != kindText {
			return nil, faulty("Id", "must be a string")
		}
	}
	list := f.get("Statement")
	if list == nil {
		return nil, faulty("", "there is no Statement")
	}
	all := list.list
	if list.kind != kindList {
		all = []value{*list}
	}
	if len(all) == 0 {
		return nil, faulty("Statement", "must not be empty")
	}
	sids := map[string]bool{}
	for i := range all {
		path := "Statement"
		if list.kind == kindList {
			path = fmt.Sprintf("Statement[%d]", i)
		}
		s, err := readStatement(path, all[i], rules)
		if err != nil {
			return nil, err
		}
		if s.Sid != "" && sids[s.Sid] {
			return nil, faulty(path+".Sid", "%q is that of another statement", shorten(s.Sid))
		}
		sids[s.Sid] = true
		p.Statements = append(p.Statements, s)
	}
	return p, nil
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

func readStatement(path string, v value, rules Rules) (s Statement, err error) {
	f := fields{what: "a statement"}
	if err := f.of(path, v, "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"); err != nil {
		return s, err
	}
	if v := f.get("Sid"); v != nil {
		if s.Sid = v.text; v.kind != kindText {
			return s, faulty(path+".Sid", "must be a string")
		}
	}
	switch v := f.get("Effect"); {
	case v == nil:
		return s, faulty(path, "there is no Effect")
	case v.kind != kindText || v.text != "Allow" && v.text != "Deny":
		return s, faulty(path+".Effect", `must be "Allow" or "Deny"`)
	default:
		s.Allow = v.text == "Allow"
	}
	who, not, at, err := f.oneOf(path, "Principal")
	if err == nil {
		s.NotPrincipal = not
		s.Principals, err = readPrincipals(at, *who)
	}
	if err != nil {
		return s, err
	}
	what, not, at, err := f.oneOf(path, "Action")
	if err == nil {
		s.NotAction = not
		s.Actions, err = texts(at, *what)
	}
	for i := 0; err == nil && i < len(s.Actions); i++ {
		err = checkAction(at, s.Actions[i], rules.Service)
	}
	if err != nil {
		return s, err
	}
	on, not, at, err := f.oneOf(path, "Resource")
	if err == nil && not {
		err = faulty(at, "a policy of a resource is about that resource, so that there must be Resource")
	}
	if err == nil {
		s.Resources, err = texts(at, *on)
	}
	for i := 0; err == nil && i < len(s.Resources); i++ {
		if s.Resources[i] != rules.Resource {
			err = faulty(at, "%q is not the ARN of the resource that the policy is of, %s", shorten(s.Resources[i]), rules.Resource)
		}
	}
	if v := f.get("Condition"); err == nil && v != nil {
		s.Conditions, err = readConditions(path+".Condition", *v)
	}
	return s, err
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

// checkAction checks a pattern of actions. Services and actions are not case
// sensitive.
func checkAction(path, action, service string) error {
	prefix, name, ok := strings.Cut(action, ":")
	if !ok || !strings.EqualFold(prefix, service) || !isASCII(prefix) {
		return faulty(path, "%q is no action of %s", shorten(action), service)
	}
	for _, c := range []byte(name) {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			if c != '*' && c != '?' && c-'0' > 9 {
				name = ""
				break
			}
		}
	}
	if name == "" {
		return faulty(path, "%q is no action of %s", shorten(action), service)
	}
	return nil
}

// isASCII reports whether folding the case of s cannot make another letter of
// it, as it makes k of the Kelvin sign.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
