package awswire

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
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
	q := canonical{r: r, host: r.Host, length: r.ContentLength, signed: strings.Join(signed, ";"), body: hexSum(body)}
	r.Header.Set("Authorization", algorithm+" Credential="+key+"/"+scope+", SignedHeaders="+q.signed+", Signature="+q.compute(newSigningKey(testSecret, scope), date))
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
		"JavaScript, version 2":      {set("User-Agent", "aws-sdk-nodejs/2.1692.0 linux/v20.19.0 promise"), []string{"host", "x-amz-date", "x-amz-target"}, ""},
		"JavaScript in a page":       {set("X-Amz-User-Agent", "aws-sdk-js/2.1692.0 callback"), []string{"host", "x-amz-date", "x-amz-target", "x-amz-user-agent"}, ""},
		"a name that is not signed":  {set("X-Amz-User-Agent", "aws-sdk-js/2.1692.0 callback"), []string{"host", "x-amz-date", "x-amz-target"}, "not signed: x-amz-user-agent"},
		"JavaScript, version 3":      {set("User-Agent", "aws-sdk-js/3.900.0"), []string{"host", "x-amz-date", "x-amz-target"}, "not signed: content-type"},
		"PHP within another name":    {set("User-Agent", "x aws-sdk-php/3.300.0"), []string{"host", "x-amz-date", "x-amz-target"}, "not signed: content-type"},
		"CBOR by the name of PHP": {func(r *http.Request) {
			r.Header.Set("User-Agent", "aws-sdk-php/3.300.0 ua/2.0")
			r.Header.Set("Content-Type", " Application/X-Amz-CBOR-1.1; charset=utf-8")
		}, []string{"host", "x-amz-date", "x-amz-target"}, "not signed: content-type"},
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
		"a second Authorization":   {func(c *Call) { c.R.Header.Add("Authorization", c.R.Header.Get("Authorization")) }, "'Authorization' must not be"},
		"a part that nobody knows": {func(c *Call) { c.R.Header.Set("Authorization", c.R.Header.Get("Authorization")+", X=1, X=2") }, ""},
		"a date that is not asked": {func(c *Call) { c.R.Header.Set("Date", "Sat, 01 Aug 2020 00:00:00 GMT") }, ""},
		"another credential after it": {func(c *Call) {
			c.R.Header.Set("Authorization", c.R.Header.Get("Authorization")+", Credential=AKIDOTHER/20260101/eu-west-1/words/aws4_request")
		}, "UnrecognizedClientException"},
		"the hexadecimal in capitals": {func(c *Call) {
			before, after, _ := strings.Cut(c.R.Header.Get("Authorization"), "Signature=")
			c.R.Header.Set("Authorization", before+"Signature="+strings.ToUpper(after))
		}, "does not match"},
		"tabs between the parts": {func(c *Call) {
			c.R.Header.Set("Authorization", strings.ReplaceAll(c.R.Header.Get("Authorization"), " ", "\t"))
		}, ""},
		"the algorithm in lower case": {func(c *Call) {
			c.R.Header.Set("Authorization", strings.Replace(c.R.Header.Get("Authorization"), "AWS4", "aws4", 1))
		}, "Unsupported AWS 'algorithm'"},
		"another port":               {func(c *Call) { c.R.Host = "127.0.0.1:4568" }, "does not match"},
		"no port":                    {func(c *Call) { c.R.Host = "127.0.0.1" }, "does not match"},
		"another path":               {func(c *Call) { c.R.URL.Path = "/x" }, "does not match"},
		"a query":                    {func(c *Call) { c.R.URL.RawQuery = "a=b" }, "does not match"},
		"a query that Go leaves out": {func(c *Call) { c.R.URL.RawQuery = "a;b" }, "does not match"},
		"a query that is malformed":  {func(c *Call) { c.R.URL.RawQuery = "a%zz" }, "query-string is malformed"},
		"a signature in the query":   {func(c *Call) { c.R.URL.RawQuery = "X-Amz-Signature=00" }, "does not match"},
		"another method":             {func(c *Call) { c.R.Method = "PUT" }, "does not match"},
		"an amz header":              {func(c *Call) { c.R.Header.Set("X-Amz-Target", "Words_2026.Define") }, "does not match"},
		"a folded value":             {func(c *Call) { c.R.Header.Set("X-Amz-Target", "Words_2026. Define") }, "does not match"},
		"the signature cut":          {func(c *Call) { a := c.R.Header.Get("Authorization"); c.R.Header.Set("Authorization", a[:len(a)-1]) }, "does not match"},
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

// signedBefore returns a request that was signed in its query at a time, with more
// in the query, as clients write it.
func signedBefore(at time.Time, more string) *Call {
	c := signedCall(nil, usual...)
	c.R.Header = http.Header{}
	date := at.UTC().Format(signedTime)
	scope := date[:8] + "/eu-west-1/words/aws4_request"
	c.R.URL.RawQuery = "X-Amz-Algorithm=" + algorithm + "&X-Amz-Credential=" + testKey + "/" + scope + "&X-Amz-Date=" + date + "&X-Amz-SignedHeaders=host" + more
	query, _ := parseQuery(c.R.URL.RawQuery) // what is malformed is refused
	q := canonical{r: c.R, host: c.R.Host, length: c.R.ContentLength, query: query, signed: "host", body: hexSum(c.Body)}
	c.R.URL.RawQuery += "&X-Amz-Signature=" + q.compute(newSigningKey(testSecret, scope), date)
	return c
}

func TestSignedBefore(t *testing.T) {
	const short, long = 10 * time.Second, time.Hour
	for name, c := range map[string]struct {
		most, age time.Duration // what the service allows, and how old the request is
		more      string
		want      string // "" for none
	}{
		"its life":                    {0, short, "&X-Amz-Expires=60", ""},
		"after its life":              {0, short, "&X-Amz-Expires=9", "Signature expired"},
		"the longest":                 {0, long, "&X-Amz-Expires=604800", ""},
		"longer":                      {0, short, "&X-Amz-Expires=604801", "from 1 to 604800"},
		"none":                        {0, short, "", "must include 'X-Amz-Expires'"},
		"an empty one":                {0, short, "&X-Amz-Expires=", "must include 'X-Amz-Expires'"},
		"with a space":                {0, short, "&X-Amz-Expires=60%20", "from 1 to 604800"},
		"with an exponent":            {0, short, "&X-Amz-Expires=1e3", "from 1 to 604800"},
		"0":                           {0, 0, "&X-Amz-Expires=0", "from 1 to 604800"},
		"in lower case":               {0, short, "&x-amz-expires=60", "must include 'X-Amz-Expires'"},
		"the service's":               {15 * time.Minute, 14 * time.Minute, "", ""},
		"after the service's":         {15 * time.Minute, 16 * time.Minute, "", "Signature expired"},
		"less than the service's":     {15 * time.Minute, short, "&X-Amz-Expires=9", "Signature expired"},
		"more than the service's":     {15 * time.Minute, 16 * time.Minute, "&X-Amz-Expires=3600", "Signature expired"},
		"empty, though the service's": {15 * time.Minute, short, "&X-Amz-Expires=", "must include 'X-Amz-Expires'"},
		"a semicolon":                 {0, short, "&X-Amz-Expires=60&a;b=c", ""},
		"two signatures":              {0, short, "&X-Amz-Expires=60&X-Amz-Signature=00", "does not match"},
		"malformed":                   {0, short, "&X-Amz-Expires=60&a=%", "query-string is malformed"},
		"tomorrow's":                  {0, -6 * time.Minute, "&X-Amz-Expires=60", "not yet current"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				call := signedBefore(time.Now().Add(-c.age), c.more)
				call.Service = &Service{Name: "words", PresignedLife: c.most}
				if err := call.Authenticate(); c.want == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, c.want)
				}
			})
		})
	}
	// A parameter that a reader of forms sees must be one that is verified.
	call := signedBefore(time.Now(), "&X-Amz-Expires=60")
	call.R.URL.RawQuery += "&RoleArn=a;b"
	require.ErrorContains(t, call.Authenticate(), "does not match")
}

// The content type may be left out by some clients, and by all who take their
// name. Another type does not make another request of a body: what is an object in
// JSON is no map in CBOR, whatever follows its first byte.
func TestNoBodyIsValidInTwoProtocols(t *testing.T) {
	for first := range 256 {
		json, cbor := false, false
		for second := range 256 {
			body := []byte{byte(first), byte(second)}
			t1, err := JSON11.Reader(body).Value()
			json = json || err == nil && t1.Kind == TokenMap
			t2, err := CBOR11.Reader(body).Value()
			cbor = cbor || err == nil && t2.Kind == TokenMap
		}
		require.False(t, json && cbor, "%x", first)
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

// The key of the last request is used again only for the same secret and scope.
func TestSignaturesInTurn(t *testing.T) {
	env := &Env{Credentials: map[string]string{testKey: testSecret, "AKIDOTHER": "another secret"}, Scope: Scope{"000000000000", "us-east-1"}}
	in := func(key, region string) *Call {
		c := signedCall(func(r *http.Request) {
			r.Header.Set("Test-Key", key)
			r.Header.Set("Test-Scope", "DATE/"+region+"/words/aws4_request")
		}, usual...)
		c.Env = env
		return c
	}
	for range 2 {
		for _, region := range []string{"eu-west-1", "eu-west-1", "us-east-1"} {
			require.NoError(t, in(testKey, region).Authenticate())
			require.ErrorContains(t, in("AKIDOTHER", region).Authenticate(), "does not match", "signed with the secret of the other")
		}
	}
}
