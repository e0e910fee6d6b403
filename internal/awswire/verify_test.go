package awswire

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	testKey    = "AKIDEXAMPLE"
	testSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

// signedCall returns a request of an endpoint with credentials. Change is made
// before the signature, which covers the headers that are named, in order.
func signedCall(change func(*http.Request), signed ...string) *Call {
	body := []byte("{}")
	r := httptest.NewRequest("POST", "http://127.0.0.1:4567/", bytes.NewReader(body))
	date := time.Now().UTC().Format(signedTime)
	r.Header.Set("Content-Type", JSON11.Media)
	r.Header.Set("X-Amz-Target", "Words_2026.LookUp")
	r.Header.Set("X-Amz-Date", date)
	key, scope := testKey, date[:8]+"/eu-west-1/words/aws4_request"
	if change != nil {
		change(r)
	}
	if k := r.Header.Get("Test-Key"); k != "" {
		key = k
	}
	if s := r.Header.Get("Test-Scope"); s != "" {
		scope = strings.Replace(s, "DATE", date[:8], 1)
	}
	q := canonical{r: r, host: r.Host, length: r.ContentLength, signed: strings.Join(signed, ";"), body: body}
	r.Header.Set("Authorization", algorithm+" Credential="+key+"/"+scope+", SignedHeaders="+q.signed+", Signature="+q.compute(testSecret, date, scope))
	return &Call{
		Env: &Env{Credentials: map[string]string{testKey: testSecret, "ASIAEXAMPLE": testSecret}, Scope: Scope{"000000000000", "us-east-1"}},
		R:   r, Body: body, Service: &Service{Name: "words"},
	}
}

var usual = []string{"content-type", "host", "x-amz-date", "x-amz-target"}

func TestWhatASignatureCovers(t *testing.T) {
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	add := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Add(name, value) }
	}
	with := func(more ...string) []string {
		return append([]string{"content-type", "host", "x-amz-date", "x-amz-target"}, more...)
	}
	const empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" // of {}
	for name, c := range map[string]struct {
		change func(*http.Request)
		signed []string
		want   string // "" for none
	}{
		"as SDKs sign":               {nil, usual, ""},
		"names in capitals":          {nil, []string{"Content-Type", "host", "X-Amz-Date", "X-Amz-Target"}, ""},
		"another header is free":     {set("User-Agent", "x"), usual, ""},
		"a trace":                    {set("X-Amzn-Trace-Id", "Root=1"), usual, ""},
		"target":                     {nil, []string{"content-type", "host", "x-amz-date"}, "not signed: x-amz-target"},
		"content type":               {nil, []string{"host", "x-amz-date", "x-amz-target"}, "not signed: content-type"},
		"date":                       {nil, []string{"content-type", "host", "x-amz-target"}, "not signed: x-amz-date"},
		"host alone":                 {nil, []string{"host"}, "not signed: content-type, x-amz-date, x-amz-target"},
		"a header of tomorrow":       {set("X-Amz-New", "x"), usual, "not signed: x-amz-new"},
		"a name that only begins so": {set("X-Amz-Target-More", "x"), usual, "not signed: x-amz-target-more"},
		"a sum, not signed":          {set("X-Amz-Content-Sha256", empty), usual, "not signed: x-amz-content-sha256"},
		"a right sum":                {set("X-Amz-Content-Sha256", empty), with("x-amz-content-sha256"), ""},
		"a wrong sum":                {set("X-Amz-Content-Sha256", strings.Repeat("0", 64)), with("x-amz-content-sha256"), "does not match what was computed"},
		"no sum":                     {set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), with("x-amz-content-sha256"), "does not match what was computed"},
		"two targets":                {add("X-Amz-Target", "Words_2026.Define"), usual, "'X-Amz-Target' must not be in the request more than once"},
		"two dates":                  {add("X-Amz-Date", "20200101T000000Z"), usual, "'X-Amz-Date' must not be in the request more than once"},
		"two content types":          {add("Content-Type", CBOR11.Media), usual, "'Content-Type' must not be in the request more than once"},
		"two headers that are free":  {func(r *http.Request) { r.Header.Add("X", "1"); r.Header.Add("X", "2") }, usual, ""},
		"a token":                    {set("X-Amz-Security-Token", "x"), with("x-amz-security-token"), "UnrecognizedClientException"},
		"a token, not signed":        {set("X-Amz-Security-Token", "x"), usual, "UnrecognizedClientException"},
		"an empty token":             {set("X-Amz-Security-Token", ""), with("x-amz-security-token"), ""},
		"a session without a token":  {set("Test-Key", "ASIAEXAMPLE"), usual, "UnrecognizedClientException"},
		"an unknown key":             {set("Test-Key", "AKIDOTHER"), usual, "UnrecognizedClientException"},
		"another service":            {set("Test-Scope", "DATE/eu-west-1/kinesis/aws4_request"), usual, "correct service: 'words'"},
		"a service in capitals":      {set("Test-Scope", "DATE/eu-west-1/WORDS/aws4_request"), usual, "correct service: 'words'"},
		"no region":                  {set("Test-Scope", "DATE//words/aws4_request"), usual, "valid region, not ''"},
		"a region that cannot be":    {set("Test-Scope", "DATE/EU_WEST/words/aws4_request"), usual, "valid region, not 'EU_WEST'"},
		"another day":                {set("Test-Scope", "20200101/eu-west-1/words/aws4_request"), usual, "does not match YYYYMMDD"},
		"another end":                {set("Test-Scope", "DATE/eu-west-1/words/aws4"), usual, "exactly 5"},
		"a scope that is longer":     {set("Test-Scope", "DATE/eu-west-1/words/aws4_request/aws4_request"), usual, "exactly 5"},
		"white space in a value":     {set("X-Amz-New", " a  b\tc "), with("x-amz-new"), ""},
		"PHP":                        {set("User-Agent", "aws-sdk-php/3.300.0 ua/2.0"), []string{"host", "x-amz-date", "x-amz-target"}, ""},
		"a Date in place of X-Amz-Date": {func(r *http.Request) {
			r.Header.Del("X-Amz-Date")
			r.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
		}, []string{"content-type", "date", "host", "x-amz-target"}, ""},
		"a Date of another day": {func(r *http.Request) {
			r.Header.Del("X-Amz-Date")
			r.Header.Set("Date", "Sat, 01 Aug 2020 00:00:00 GMT")
		}, []string{"content-type", "date", "host", "x-amz-target"}, "does not match YYYYMMDD"},
		"no date at all":       {func(r *http.Request) { r.Header.Del("X-Amz-Date") }, []string{"content-type", "host", "x-amz-target"}, "existence of either a 'X-Amz-Date' or a 'Date' header"},
		"PHP without a target": {set("User-Agent", "aws-sdk-php/3.300.0 ua/2.0"), []string{"host", "x-amz-date"}, "not signed: x-amz-target"},
	} {
		t.Run(name, func(t *testing.T) {
			call := signedCall(c.change, c.signed...)
			err := call.Authenticate()
			if c.want == "" {
				require.NoError(t, err)
				require.Equal(t, Scope{"000000000000", "eu-west-1"}, call.Caller)
				return
			}
			require.ErrorContains(t, err, c.want)
			var e *Error
			require.ErrorAs(t, err, &e)
			if strings.Contains(c.want, "not signed: ") {
				require.Equal(t, "AccessDeniedException", e.Code)
				require.Equal(t, 403, e.StatusCode())
			}
		})
	}
}

func TestWhatIsChangedAfterSigning(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Call)
		want   string
	}{
		"a second Authorization": {func(c *Call) { c.R.Header.Add("Authorization", c.R.Header.Get("Authorization")) }, "'Authorization' must not be"},
		"tabs between the parts": {func(c *Call) {
			c.R.Header.Set("Authorization", strings.ReplaceAll(c.R.Header.Get("Authorization"), " ", "\t"))
		}, ""},
		"the algorithm in lower case": {func(c *Call) {
			c.R.Header.Set("Authorization", strings.Replace(c.R.Header.Get("Authorization"), "AWS4", "aws4", 1))
		}, "Unsupported AWS 'algorithm'"},
		"another port":      {func(c *Call) { c.R.Host = "127.0.0.1:4568" }, "does not match"},
		"no port":           {func(c *Call) { c.R.Host = "127.0.0.1" }, "does not match"},
		"another path":      {func(c *Call) { c.R.URL.Path = "/x" }, "does not match"},
		"a query":           {func(c *Call) { c.R.URL.RawQuery = "a=b" }, "does not match"},
		"another method":    {func(c *Call) { c.R.Method = "PUT" }, "does not match"},
		"an amz header":     {func(c *Call) { c.R.Header.Set("X-Amz-Target", "Words_2026.Define") }, "does not match"},
		"a folded value":    {func(c *Call) { c.R.Header.Set("X-Amz-Target", "Words_2026. Define") }, "does not match"},
		"the signature cut": {func(c *Call) { a := c.R.Header.Get("Authorization"); c.R.Header.Set("Authorization", a[:len(a)-1]) }, "does not match"},
	} {
		t.Run(name, func(t *testing.T) {
			call := signedCall(nil, usual...)
			c.change(call)
			if err := call.Authenticate(); c.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.want)
			}
		})
	}
}

// Without credentials every signature is good, and a token is not looked at.
func TestWithoutCredentialsNothingIsVerified(t *testing.T) {
	call := signedCall(func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") }, "host")
	call.Env.Credentials = nil
	require.NoError(t, call.Authenticate())
	require.True(t, call.MayUse(Scope{"111111111111", "us-east-1"}))
}

// FuzzAuthenticate makes requests of any header and query. None of them knows
// the secret, so none is let in.
func FuzzAuthenticate(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-west-1/words/aws4_request, SignedHeaders=host, Signature=00", "", "20260101T000000Z")
	f.Add("", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20260101%2Feu-west-1%2Fwords%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00", "")
	f.Add("AWS4-HMAC-SHA256\tCredential=/////,,Signature=,SignedHeaders=;;", "%zz&a;b", "x")
	f.Fuzz(func(t *testing.T, header, query, date string) {
		c := signedCall(nil, usual...)
		c.R.Header.Del("Authorization")
		if header != "" {
			c.R.Header["Authorization"] = []string{header}
		}
		c.R.Header["X-Amz-Date"] = []string{date}
		c.R.URL.RawQuery = query
		var e *Error
		require.ErrorAs(t, c.Authenticate(), &e)
		SignedService(c.R) // it must not panic
	})
}
