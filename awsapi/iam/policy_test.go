package iam

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

const testARN = "arn:aws:kinesis:us-east-1:111122223333:stream/orders"

var testRules = Rules{Service: "kinesis", Resource: testARN, MaxBytes: 20_480}

// with returns a policy of one statement, whose elements are replaced or, with
// "", left out.
func with(change map[string]string) string {
	elements := map[string]string{"Effect": `"Allow"`, "Principal": `{"AWS":"111122223333"}`, "Action": `"kinesis:GetRecords"`, "Resource": `"` + testARN + `"`}
	for k, v := range change {
		if elements[k] = v; v == "" {
			delete(elements, k)
		}
	}
	var list []string
	for _, k := range []string{"Sid", "Effect", "effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"} {
		if v, ok := elements[k]; ok {
			list = append(list, fmt.Sprintf("%q:%s", k, v))
		}
	}
	return `{"Version":"2012-10-17","Statement":[{` + strings.Join(list, ",") + `}]}`
}

func one(element, value string) string { return with(map[string]string{element: value}) }

func TestParseResourcePolicy(t *testing.T) {
	p, err := ParseResourcePolicy(` {"Id":"x","Statement":{"Sid":"a","Effect":"Deny","NotPrincipal":{"AWS":["*","111122223333"],"Service":"lambda.amazonaws.com"},
		"NotAction":["kinesis:Get*","KINESIS:*"],"Resource":["`+testARN+`"],"Condition":{"ForAnyValue:StringLikeIfExists":{"aws:PrincipalTag/team":["a",1,true]},"Null":{"aws:SourceVpce":"true"}}}} `, testRules)
	require.NoError(t, err)
	require.Equal(t, &Policy{Version: "2008-10-17", ID: "x", Statements: []Statement{{
		Sid: "a", NotPrincipal: true, NotAction: true,
		Principals: []Principal{{"AWS", "*"}, {"AWS", "111122223333"}, {"Service", "lambda.amazonaws.com"}},
		Actions:    []string{"kinesis:Get*", "KINESIS:*"}, Resources: []string{testARN},
		Conditions: []Condition{{"ForAnyValue:StringLikeIfExists", "aws:PrincipalTag/team", []string{"a", "1", "true"}}, {"Null", "aws:SourceVpce", []string{"true"}}},
	}}}, p)
}

func TestWhatAPolicyMayHave(t *testing.T) {
	for _, doc := range []string{
		with(nil), one("Principal", `"*"`), one("Sid", `""`), one("Action", `["kinesis:*","Kinesis:put?ecord"]`),
		one("Principal", `{"AWS":["arn:aws:iam::111122223333:root","arn:aws:iam::111122223333:role/a/b","arn:aws:sts::111122223333:assumed-role/r/s","arn:aws-cn:iam::111122223333:user/u"]}`),
		one("Principal", `{"Federated":"cognito-identity.amazonaws.com"}`),
		one("Condition", `{}`), one("Condition", `{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","::1"]},"DateLessThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z","aws:EpochTime":1},"NumericLessThan":{"a:b":"1.5"},`+
			`"ArnLike":{"aws:SourceArn":"arn:aws:lambda:*:*:function:*"},"Bool":{"aws:SecureTransport":false},"BinaryEquals":{"a:b":"QQ=="},"StringEquals":{"a:c":"${aws:username}"}}`),
		`{"Statement":` + with(nil)[len(`{"Version":"2012-10-17","Statement":`):],
		strings.ReplaceAll(with(nil), ":[{", ":[\n"+strings.Repeat(" ", 30_000)+"{"),
	} {
		_, err := ParseResourcePolicy(doc, testRules)
		require.NoError(t, err, doc)
	}
}

func TestWhatAPolicyMayNotHave(t *testing.T) {
	statement := with(nil)[len(`{"Version":"2012-10-17","Statement":[`) : len(with(nil))-2]
	for doc, want := range map[string]string{
		``:                                     "not valid JSON",
		`x`:                                    "not valid JSON",
		`[]`:                                   "the policy must be an object and is a list",
		`"x"`:                                  "must be an object",
		`{}`:                                   "there is no Statement",
		`null`:                                 "must be an object and is null",
		with(nil) + `x`:                        "something follows the document",
		with(nil) + `{}`:                       "something follows the document",
		with(nil) + "\x00":                     "something follows the document",
		"\ufeff" + with(nil):                   "not valid JSON",
		with(nil)[:50]:                         "not valid JSON",
		`{"Statement":[]}`:                     "Statement: must not be empty",
		`{"Statement":"x"}`:                    "Statement: a statement must be an object and is a string",
		`{"Statement":[{}]}`:                   "Statement[0]: there is no Effect",
		`{"Statement":[null]}`:                 "must be an object and is null",
		`{"statement":[]}`:                     `there is "statement", which has to be written "Statement"`,
		`{"Statement":[],"x":1}`:               `"x" is no element of the policy`,
		`{"Statement":[],"Statement":[]}`:      `"Statement" is there twice`,
		`{"Statement":[],"\u0053tatement":[]}`: `"Statement" is there twice`,
		strings.Replace(with(nil), "2012-10-17", "2012-10-18", 1): "Version: must be",
		strings.Replace(with(nil), `"2012-10-17"`, "20121017", 1): "Version: must be",
		strings.Replace(with(nil), `"2012-10-17"`, "null", 1):     "Version: must be",
		`{"Id":1,"Statement":[` + statement + `]}`:                "Id: must be a string",
		one("Sid", `1`):           "Statement[0].Sid: must be a string",
		one("Effect", ``):         "there is no Effect",
		one("Effect", `"allow"`):  `Statement[0].Effect: must be "Allow" or "Deny"`,
		one("Effect", `"Allow "`): `must be "Allow" or "Deny"`,
		one("Effect", `true`):     `must be "Allow" or "Deny"`,
		with(map[string]string{"Effect": "", "effect": `"Allow"`}): `has to be written "Effect"`,
		one("effect", `"Deny"`):                                              `has to be written "Effect"`,
		one("Principal", ``):                                                 "there is no Principal",
		one("Principal", `"111122223333"`):                                   "Principal: must be \"*\"",
		one("Principal", `{}`):                                               "must not be empty",
		one("Principal", `{"AWS":[]}`):                                       "Principal.AWS: must not be empty",
		one("Principal", `{"AWS":""}`):                                       "must be a string that is not empty",
		one("Principal", `{"AWS":"arn:aws:iam::111122223333:user/*"}`):       "is no principal",
		one("Principal", `{"AWS":"arn:aws:iam::11112222333:root"}`):          "is no principal",
		one("Principal", `{"AWS":"11112222333x"}`):                           "is no principal",
		one("Principal", `{"aws":"*"}`):                                      `has to be written "AWS"`,
		one("Principal", `{"User":"*"}`):                                     `"User" is no element of a principal`,
		one("Principal", `{"Service":"*"}`):                                  "is no principal",
		one("NotPrincipal", `"*"`):                                           "both Principal and NotPrincipal",
		one("Action", ``):                                                    "there is no Action",
		one("Action", `[]`):                                                  "must not be empty",
		one("Action", `"*"`):                                                 `"*" is no action of kinesis`,
		one("Action", `"kinesis:"`):                                          "is no action",
		one("Action", `"s3:GetObject"`):                                      "is no action of kinesis",
		one("Action", `"kinesis:Get Records"`):                               "is no action",
		one("Action", `" kinesis:GetRecords"`):                               "is no action",
		one("Action", `"\u212ainesis:GetRecords"`):                           "is no action",
		one("Action", `"kinesis:\uff0a"`):                                    "is no action",
		one("Action", `["kinesis:GetRecords",1]`):                            "must be a string",
		one("NotAction", `"kinesis:GetRecords"`):                             "both Action and NotAction",
		one("Resource", ``):                                                  "there is no Resource",
		one("Resource", `"*"`):                                               "is not the ARN of the resource",
		one("Resource", `["`+testARN+`","`+testARN+`2"]`):                    "is not the ARN of the resource",
		one("Resource", `"`+strings.ToUpper(testARN)+`"`):                    "is not the ARN of the resource",
		with(map[string]string{"Resource": "", "NotResource": `"x"`}):        "there must be Resource",
		one("Condition", `[]`):                                               "must be an object and is a list",
		one("Condition", `{"stringEquals":{"a:b":"c"}}`):                     "is no operator",
		one("Condition", `{"NullIfExists":{"a:b":"true"}}`):                  "is no operator",
		one("Condition", `{"ForAllValues:ForAnyValue:Bool":{"a:b":"true"}}`): "is no operator",
		one("Condition", `{"Bool":{}}`):                                      "must be an object that is not empty",
		one("Condition", `{"Bool":{"a:b":[]}}`):                              "must not be empty",
		one("Condition", `{"Bool":{"a:b":null}}`):                            "must be a string, a number or a boolean",
		one("Condition", `{"Bool":{"a:b":"yes"}}`):                           "is no value for this operator",
		one("Condition", `{"Bool":{"ab":"true"}}`):                           "is no key",
		one("Condition", `{"Bool":{"a:b":"true","A:B":"true"}}`):             "is there twice",
		one("Condition", `{"NumericEquals":{"a:b":"x"}}`):                    "is no value",
		one("Condition", `{"NumericEquals":{"a:b":"NaN"}}`):                  "is no value",
		one("Condition", `{"NumericEquals":{"a:b":"-Inf"}}`):                 "is no value",
		one("Condition", `{"NumericEquals":{"a:b":"0x1p-2"}}`):               "is no value",
		one("Condition", `{"NumericEquals":{"a:b":" 1"}}`):                   "is no value",
		one("Condition", `{"NumericEquals":{"a:b":1e999}}`):                  "is no value",
		one("Condition", `{"IpAddress":{"a:b":"10.0.0.0/33"}}`):              "is no value",
		one("Condition", `{"DateEquals":{"a:b":"today"}}`):                   "is no value",
		one("Condition", `{"ArnEquals":{"a:b":"x"}}`):                        "is no value",
		one("Sid", "\"\xff\""):                                               "not valid UTF-8",
		one("Sid", `"\ud800"`):                                               "not valid UTF-8",
		one("Sid", "\"\n\""):                                                 "not valid JSON",
		one("Sid", strings.Repeat("[", 10)+strings.Repeat("]", 10)):          "nested deeper",
		one("Sid", `"`+strings.Repeat("x", 20_480)+`"`):                      "larger than 20480 bytes",
		strings.Repeat("[", 10<<20):                                          "larger than",
		`{"Statement":[` + strings.Replace(statement, "{", `{"Sid":"a",`, 1) + "," + strings.Replace(statement, "{", `{"Sid":"a",`, 1) + `]}`: "Statement[1].Sid: \"a\" is that of another",
	} {
		_, err := ParseResourcePolicy(doc, testRules)
		require.ErrorContains(t, err, want, doc[:min(len(doc), 300)])
		var e *Error
		require.ErrorAs(t, err, &e)
		require.Less(t, len(e.Error()), 1000)
	}
}

func TestCompact(t *testing.T) {
	for doc, want := range map[string]string{
		"": "", " \t\r\n": "", ` { "a b" : [ 1 , "\" \\" ] } `: `{"a b":[1,"\" \\"]}`, "\"\u00a0\" ": "\"\u00a0\"", `"open `: `"open `,
	} {
		require.Equal(t, want, Compact(doc))
		require.False(t, larger(doc, len(want)))
		require.True(t, larger(doc+"x", len(want)))
	}
}

// plain returns a value as encoding/json has it.
func plain(v value) any {
	switch v.kind {
	case kindBool:
		return v.text == "true"
	case kindNumber:
		return json.Number(v.text)
	case kindText:
		return v.text
	case kindList:
		list := []any{}
		for _, e := range v.list {
			list = append(list, plain(e))
		}
		return list
	case kindObject:
		o := map[string]any{}
		for _, m := range v.members {
			o[m.name] = plain(m.value)
		}
		return o
	}
	return nil
}

// FuzzReadJSON compares the reader with encoding/json, which takes more.
func FuzzReadJSON(f *testing.F) {
	for _, s := range []string{with(nil), one("Condition", `{"Bool":{"a:b":["true",1.5e-3,null,false]}}`), `"\ud83d\ude00\u00e9\/"`, `[1,]`, `{"a":1,"a":2}`, "\xff", `-0`, `01`, `1e`, ``, `{"":""} `} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := readJSON(text)
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var want any
		if err == nil {
			require.True(t, json.Valid([]byte(text)) && utf8.ValidString(text), "taken: %q", text)
			require.NoError(t, d.Decode(&want))
			require.True(t, reflect.DeepEqual(want, plain(v)), "%q: %v and %v", text, want, plain(v))
			return
		}
		refused := strings.Contains(err.Error(), "twice") || strings.Contains(err.Error(), "UTF-8") || strings.Contains(err.Error(), "nested")
		require.True(t, refused || !json.Valid([]byte(text)), "refused: %q: %v", text, err)
	})
}

func FuzzParseResourcePolicy(f *testing.F) {
	f.Add(with(nil))
	f.Add(one("Condition", `{"ForAnyValue:StringLike":{"aws:PrincipalTag/a":["b","c"]}}`))
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseResourcePolicy(text, testRules)
		if err != nil {
			return
		}
		for _, s := range p.Statements {
			require.NotEmpty(t, s.Principals)
			require.NotEmpty(t, s.Actions)
			for _, r := range s.Resources {
				require.Equal(t, testARN, r)
			}
		}
	})
}
