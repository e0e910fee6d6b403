package awswire

import (
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// The query protocol (Smithy, AWS query): a request is a form, in the body or in
// the query, whose member Action names the operation and Version the model, and
// an answer is XML.

const (
	formMedia = "application/x-www-form-urlencoded"
	xmlMedia  = "text/xml"
	// maxFormMembers bounds what a form takes of memory, as members and as the
	// structures that they are in. The largest inputs of services that speak the
	// protocol have a few hundred.
	maxFormMembers = 10_000
)

// Query is the query protocol. Values are text: an operation with other members
// needs a reader that knows their shapes.
var Query = &Protocol{Media: formMedia, Answer: xmlMedia, Format: FormatXML, reader: newFormReader}

// Form is the input of a request in the query protocol.
type Form struct {
	// Action is the operation, and Version that of the model.
	Action, Version string
	// Body is the whole form, for Query.Reader.
	Body []byte
}

// IsForm reports whether a request is one of the query protocol, as far as its
// headers and its query show.
func IsForm(r *http.Request) bool {
	return mediaOf(r) == formMedia || r.URL.RawQuery != "" && r.URL.Query().Has("Action")
}

// mediaOf returns the content type of a request without parameters.
func mediaOf(r *http.Request) string {
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// ReadForm reads what the query and the body of a request say together. What is
// in both is an error. It sets Call.Form.
func (c *Call) ReadForm() (Form, error) {
	text := c.R.URL.RawQuery
	if len(c.Body) > 0 && mediaOf(c.R) == formMedia {
		if text != "" {
			text += "&"
		}
		text += string(c.Body)
	}
	f := Form{Body: []byte(text)}
	c.Form = f.Body
	list, err := parseForm(text)
	if err != nil {
		return f, err
	}
	for _, m := range list {
		switch m.name {
		case "Action":
			f.Action = m.value
		case "Version":
			f.Version = m.value
		}
	}
	return f, nil
}

// formMember is a member of a form, decoded.
type formMember struct{ name, value string }

// parseForm reads a form. It is stricter than url.ParseQuery: a name comes once,
// because readers differ in which of two they take.
func parseForm(text string) (list []formMember, err error) {
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		var m formMember
		m.name, err = url.QueryUnescape(name)
		if err == nil {
			m.value, err = url.QueryUnescape(value)
		}
		if err != nil || m.name == "" || seen[m.name] || !utf8.ValidString(m.name) || !utf8.ValidString(m.value) || len(list) == maxFormMembers {
			return nil, ErrSyntax
		}
		seen[m.name] = true
		list = append(list, m)
	}
	return list, nil
}

// formNode is a value of a form: text, or members by name. A list has one
// member, "member", whose own members are the numbers from 1.
type formNode struct {
	name    string
	text    string
	leaf    bool
	members []*formNode
	index   map[string]*formNode
}

// child returns the member with a name, and makes it if there is none.
func (n *formNode) child(name string) *formNode {
	if c := n.index[name]; c != nil {
		return c
	}
	if n.index == nil {
		n.index = map[string]*formNode{}
	}
	c := &formNode{name: name}
	n.index[name] = c
	n.members = append(n.members, c)
	return c
}

// list returns the elements if the node is a list.
func (n *formNode) list() []*formNode {
	if len(n.members) == 1 && n.members[0].name == "member" {
		return n.members[0].members
	}
	return nil
}

// formReader reads a form as a structure, "A.B" as member B of A.
type formReader struct {
	root *formNode // nil before the beginning
	err  error
	// open are the lists and maps that are open, with the members that follow.
	open []formLevel
	at   *formNode // the value that is read next
}

type formLevel struct {
	list bool
	left []*formNode
}

// newFormReader returns a reader of a form.
func newFormReader(body []byte) Reader {
	r := &formReader{root: &formNode{}}
	list, err := parseForm(string(body))
	nodes := 0
	for _, m := range list {
		n := r.root
		path := strings.SplitN(m.name, ".", MaxDepth+1) // a longer one is refused, whatever its length
		if len(path) > MaxDepth || nodes > maxFormMembers {
			err = ErrSyntax
			break
		}
		for _, name := range path {
			if n.index[name] == nil {
				nodes++
			}
			n = n.child(name)
		}
		n.text, n.leaf = m.value, true
	}
	r.err, r.at = err, r.root
	return r
}

// Value implements Reader.
func (r *formReader) Value() (Token, error) {
	if r.err != nil || r.at == nil {
		return Token{}, ErrSyntax
	}
	n := r.at
	r.at = nil
	elements := n.list()
	if n == r.root {
		elements = nil // the form itself is a structure, whatever its members are called
	}
	switch {
	case n.leaf && len(n.members) > 0:
		return Token{}, ErrSyntax // a value and members of it
	case n.leaf:
		return Token{Kind: TokenString, Text: []byte(n.text)}, nil
	case elements != nil:
		r.open = append(r.open, formLevel{true, elements})
		return Token{Kind: TokenList}, nil
	}
	r.open = append(r.open, formLevel{false, n.members})
	return Token{Kind: TokenMap}, nil
}

// More implements Reader.
func (r *formReader) More() (bool, error) {
	top := &r.open[len(r.open)-1]
	if len(top.left) == 0 {
		r.open = r.open[:len(r.open)-1]
		return false, nil
	}
	if top.list {
		r.at, top.left = top.left[0], top.left[1:]
	}
	return true, nil
}

// Key implements Reader.
func (r *formReader) Key() ([]byte, error) {
	top := &r.open[len(r.open)-1]
	r.at, top.left = top.left[0], top.left[1:]
	return []byte(r.at.name), nil
}

// End implements Reader.
func (r *formReader) End() error { return r.err }

// queryErrors are the codes that the query protocol has for errors that all
// services have, with their status; texts that differ are there too.
var queryErrors = map[string]Error{
	codeDenied:        {Code: "AccessDenied", Status: http.StatusForbidden},
	codeSignature:     {Code: "SignatureDoesNotMatch", Status: http.StatusForbidden},
	codeIncomplete:    {Code: "IncompleteSignature", Status: http.StatusBadRequest},
	codeUnrecognized:  {Code: "InvalidClientTokenId", Status: http.StatusForbidden},
	codeMissingToken:  {Code: "MissingAuthenticationToken", Status: http.StatusForbidden, Message: "Request is missing Authentication Token"},
	CodeSerialization: {Code: "MalformedQueryString", Status: http.StatusBadRequest, Message: "The query string is malformed."},
	CodeValidation:    {Code: "ValidationError", Status: http.StatusBadRequest},
}

// forQuery returns an error as the query protocol has it.
func (e *Error) forQuery() *Error {
	q := *e
	if known, ok := queryErrors[e.Code]; ok {
		q.Code, q.Status = known.Code, known.Status
		if known.Message != "" {
			q.Message = known.Message
		}
	}
	return &q
}

// envelope returns what is before and after the members of an answer.
func (c *Call) envelope() (before, after string) {
	id := c.requestID()
	before = "<" + c.Op.Name + "Response xmlns=\"" + c.Service.Namespace + "\"><" + c.Op.Name + "Result>"
	return before, "</" + c.Op.Name + "Result><ResponseMetadata><RequestId>" + id + "</RequestId></ResponseMetadata></" + c.Op.Name + "Response>"
}

// requestID returns what Preflight has chosen.
func (c *Call) requestID() string {
	if id := map[string][]string(c.W.Header())["x-amzn-RequestId"]; len(id) == 1 { // written as AWS writes it
		return id[0]
	}
	return ""
}

// failQuery writes an error of the query protocol to Out.
func (c *Call) failQuery(e *Error) {
	kind := "Sender"
	if e.StatusCode() >= http.StatusInternalServerError {
		kind = "Receiver"
	}
	o := &c.Out
	o.Buf = append(o.Buf, "<ErrorResponse xmlns=\""+c.Service.Namespace+"\">"...)
	o.Key("Error")
	o.Open()
	o.TextField("Type", kind)
	o.TextField("Code", e.Code)
	o.OptionalText("Message", e.Message)
	o.Close()
	o.TextField("RequestId", c.requestID())
	o.Buf = append(o.Buf, "</ErrorResponse>"...)
}
