package iam

import (
	"fmt"
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
	if larger(document, rules.MaxBytes) {
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
