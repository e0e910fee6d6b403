package awswire

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestForms(t *testing.T) {
	tag := Structure(Required("Key", Text(-1, -1, "")), Optional("Value", Text(-1, -1, "")))
	input := Structure(Optional("Name", Text(-1, -1, "")), Optional("Tags", List(tag, -1, -1)), Optional("Keys", List(Text(-1, -1, ""), -1, -1)), Optional("Tag", tag))
	for form, want := range map[string]Params{
		"":                           {},
		"Action=A&Version=1":         {},
		"Name=a%20b%2Bc+d&Other.X=1": {"Name": "a b+c d"},
		"Name":                       {"Name": ""},
		"&&Name=a&":                  {"Name": "a"},
		"Tags.member.1.Key=a&Tags.member.2.Key=b&Tags.member.1.Value=c": {"Tags": []any{Params{"Key": "a", "Value": "c"}, Params{"Key": "b"}}},
		"Keys.member.1=a&Keys.member.2=b":                               {"Keys": []any{"a", "b"}},
		"member.1=a":                                                    {},
		"Tag.Key=a":                                                     {"Tag": Params{"Key": "a"}},
	} {
		require.NoError(t, WellFormed(Query.Reader([]byte(form))), form)
		got, err := Decode(Query.Reader([]byte(form)), input)
		require.NoError(t, err, form)
		require.Equal(t, want, got, form)
	}
	for _, form := range []string{"Name=%", "Name=%zz", "Name=%ff", "=a", "Name=a&Name=b", "Name=a&N%61me=b", "Tag=a&Tag.Key=b", strings.Repeat("a.", MaxDepth) + "b=c"} {
		err := WellFormed(Query.Reader([]byte(form)))
		require.ErrorIs(t, err, ErrSyntax, form)
	}
}

// A form of few bytes must not make a tree of many.
func TestTreeOfAFormIsBounded(t *testing.T) {
	form := func(members, depth int) []byte {
		var b strings.Builder
		for i := range members {
			fmt.Fprintf(&b, "&%d%s=", i, strings.Repeat(".a", depth-1))
		}
		return []byte(b.String())
	}
	require.NoError(t, WellFormed(Query.Reader(form(maxFormMembers/50, 50))))
	require.NoError(t, WellFormed(Query.Reader(form(maxFormMembers, 1))))
	require.ErrorIs(t, WellFormed(Query.Reader(form(maxFormMembers+1, 1))), ErrSyntax)
	require.ErrorIs(t, WellFormed(Query.Reader(form(maxFormMembers/50+2, 50))), ErrSyntax)
}

func TestXML(t *testing.T) {
	e := Encoder{Format: FormatXML}
	e.Open()
	e.TextField("A", "<&>\"\r\x00\xff")
	e.IntField("B", -5)
	e.BoolField("C", true)
	e.TimeField("D", time.UnixMilli(1500))
	e.Key("E")
	e.Blob([]byte("x"))
	e.Key("F")
	e.Raw([]byte("12"))
	e.TextsField("G", []string{"a", "b"})
	e.Key("H")
	e.List()
	e.Open()
	e.TextField("I", "c")
	e.Close()
	e.List()
	e.Text("d")
	e.EndList()
	e.EndList()
	e.Key("J")
	e.Open()
	e.TextField("K", "")
	e.Close()
	e.Key("L")
	e.List()
	e.EndList()
	e.Close()
	require.Equal(t, "<A>&lt;&amp;&gt;&quot;&#xD;\ufffd\ufffd</A><B>-5</B><C>true</C><D>1970-01-01T00:00:01.5Z</D><E>eA==</E><F>12</F><G><member>a</member><member>b</member></G>"+
		"<H><member><I>c</I></member><member><member>d</member></member></H><J><K></K></J><L></L>", string(e.Buf))
}

func TestErrorsOfQuery(t *testing.T) {
	for _, c := range []struct {
		err        *Error
		status     int
		kind, code string
	}{
		{Errorf(codeSignature, "x"), 403, "Sender", "SignatureDoesNotMatch"},
		{Errorf(codeIncomplete, "x"), 400, "Sender", "IncompleteSignature"},
		{Errorf(codeUnrecognized, "x"), 403, "Sender", "InvalidClientTokenId"},
		{Errorf(codeMissingToken, "x"), 403, "Sender", "MissingAuthenticationToken"},
		{&Error{Code: CodeSerialization}, 400, "Sender", "MalformedQueryString"},
		{Unavailable(), 503, "Receiver", "ServiceUnavailable"},
		{InternalError(), 500, "Receiver", "InternalFailure"},
		{Errorf("InvalidAction", "a<b"), 400, "Sender", "InvalidAction"},
	} {
		w := httptest.NewRecorder()
		w.Header()["x-amzn-RequestId"] = []string{"id"}
		call := &Call{Env: &Env{}, W: w, R: httptest.NewRequest("POST", "/", nil), Protocol: Query, Service: &Service{Namespace: "ns"}}
		call.Fail(c.err)
		require.Equal(t, c.status, w.Code)
		require.Equal(t, "text/xml", w.Header().Get("Content-Type"))
		var got struct {
			XMLName xml.Name `xml:"ns ErrorResponse"`
			Error   struct{ Type, Code, Message string }
			ID      string `xml:"RequestId"`
		}
		require.NoError(t, xml.Unmarshal(w.Body.Bytes(), &got), w.Body)
		require.Equal(t, c.kind+c.code+"id", got.Error.Type+got.Error.Code+got.ID)
		require.NotEmpty(t, got.Error.Message)
	}
}

// FuzzForm compares the form with what is verified of it, which takes more.
func FuzzForm(f *testing.F) {
	for _, s := range []string{"Action=A&Version=1", "A.member.1.B=c&A.member.2.B=d", "a=%41+b", "a;b=c", "%=1", "a.b.c=1&a=2", "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, form string) {
		list, err := parseForm(form)
		if err == nil {
			want, err := parseQuery(form)
			require.NoError(t, err)
			require.Len(t, list, len(want))
			for _, m := range list {
				require.Equal(t, []string{m.value}, want[m.name])
			}
		}
		first := WellFormed(Query.Reader([]byte(form)))
		if first == nil {
			require.NoError(t, err)
		}
		_, err = Decode(Query.Reader([]byte(form)), Structure(Optional("A", List(Text(-1, -1, ""), -1, -1)), Optional("B", Structure(Optional("C", Boolean())))))
		_ = err // it must not panic
	})
}

// FuzzXMLText reads back with encoding/xml what was written.
func FuzzXMLText(f *testing.F) {
	f.Add("a<b>&\"'\r\n\t]]>")
	f.Add("\x00\xff\ufffe\U0001F600")
	f.Fuzz(func(t *testing.T, text string) {
		d := xml.NewDecoder(strings.NewReader("<A>" + string(appendXMLText(nil, text)) + "</A>"))
		var got strings.Builder
		for {
			tok, err := d.Token()
			if err == io.EOF {
				break
			}
			require.NoError(t, err, "%q", text)
			if c, ok := tok.(xml.CharData); ok {
				got.Write(c)
			}
		}
		want := strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
				return utf8.RuneError
			}
			return r
		}, text)
		if utf8.ValidString(text) {
			require.Equal(t, want, got.String())
		}
	})
}
