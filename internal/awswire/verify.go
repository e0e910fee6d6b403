package awswire

import (
	"crypto/subtle"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxSkew is how far a signature's date may be from ours, as on AWS.
const maxSkew = 5 * time.Minute

// Authenticate checks that a signature is there as a whole and, if the endpoint
// has credentials to check it with, that it is right. It sets Scope, Caller and
// AccessKey.
func (c *Call) Authenticate() error {
	header := c.R.Header.Get("Authorization")
	var query url.Values
	var malformed error
	if c.R.URL.RawQuery != "" {
		query, malformed = parseQuery(c.R.URL.RawQuery)
	}
	inQuery := query.Has("X-Amz-Algorithm")
	switch {
	case header != "" && inQuery:
		return Errorf(codeSignature, "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")
	case header == "" && !inQuery:
		return Errorf(codeMissingToken, "Missing Authentication Token")
	}
	var sig signature
	var err error
	if inQuery {
		sig, err = querySignature(query)
	} else {
		sig, err = c.headerSignature(header)
	}
	if err != nil {
		return err
	}
	// The scope is that of the credential that is verified, and of no other
	// that the header may name.
	c.Scope = c.Env.Scope.of(sig.credential)
	c.Caller = c.Scope
	c.AccessKey, _, _ = strings.Cut(sig.credential, "/")
	switch {
	case !c.Env.Verifies():
		return nil
	case malformed != nil:
		// What cannot be read would not be part of what is verified.
		return badSignature("The query-string is malformed.")
	}
	return c.verify(sig, query)
}

// headerSignature reads the Authorization header. AWS takes its parts in any
// order, separated by commas, white space or both.
func (c *Call) headerSignature(header string) (sig signature, err error) {
	rest := ""
	if i := strings.IndexAny(header, " \t"); i >= 0 {
		sig.algorithm, rest = header[:i], header[i+1:]
	} else {
		sig.algorithm = header
	}
	for rest != "" {
		var part string
		if i := strings.IndexAny(rest, ", \t"); i >= 0 {
			part, rest = rest[:i], rest[i+1:]
		} else {
			part, rest = rest, ""
		}
		switch k, v, _ := strings.Cut(part, "="); k {
		case "Credential":
			sig.credential = v
		case "Signature":
			sig.signature = v
		case "SignedHeaders":
			sig.signed = v
		}
	}
	if sig.date = c.R.Header.Get("X-Amz-Date"); sig.date == "" {
		if t, err := http.ParseTime(c.R.Header.Get("Date")); err == nil {
			sig.date = t.UTC().Format(signedTime)
		}
	}
	msg := ""
	for _, p := range []struct{ name, value string }{{"Credential", sig.credential}, {"Signature", sig.signature}, {"SignedHeaders", sig.signed}} {
		if p.value == "" {
			msg += "Authorization header requires '" + p.name + "' parameter. "
		}
	}
	if c.R.Header.Get("X-Amz-Date") == "" && c.R.Header.Get("Date") == "" {
		msg += "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
	}
	if msg != "" {
		return sig, Errorf(codeIncomplete, "%s", msg+"Authorization="+shorten(header))
	}
	return sig, nil
}

// querySignature reads the parameters of a request that was signed beforehand.
func querySignature(q url.Values) (sig signature, err error) {
	msg := ""
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"} {
		if q.Get(name) == "" {
			msg += "AWS query-string parameters must include '" + name + "'. "
		}
	}
	if msg != "" {
		return sig, Errorf(codeIncomplete, "%s", msg+"Re-examine the query-string parameters.")
	}
	return signature{q.Get("X-Amz-Algorithm"), q.Get("X-Amz-Credential"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Signature"), q.Get("X-Amz-Date"), true}, nil
}

func badSignature(format string, args ...any) error {
	return Errorf(codeSignature, format, args...)
}

// verify computes the signature as the client should have, and compares.
func (c *Call) verify(sig signature, query url.Values) error {
	if sig.algorithm != algorithm {
		return Errorf(codeIncomplete, "Unsupported AWS 'algorithm': '%s'.", shorten(sig.algorithm))
	}
	scope := strings.Split(sig.credential, "/")
	if len(scope) != 5 || scope[4] != scopeEnd {
		return Errorf(codeIncomplete, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", shorten(sig.credential))
	}
	secret, known := c.Env.Credentials[scope[0]]
	if !known || !c.tokenFits(scope[0], query) {
		return Errorf(codeUnrecognized, "The security token included in the request is invalid.")
	}
	if scope[3] != c.Service.Name {
		return badSignature("Credential should be scoped to correct service: '%s'. ", c.Service.Name)
	}
	if !ValidRegion(scope[2]) {
		return badSignature("Credential should be scoped to a valid region, not '%s'. ", shorten(scope[2]))
	}
	date, err := time.Parse(signedTime, sig.date)
	if err != nil {
		return Errorf(codeIncomplete, "Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", shorten(sig.date))
	}
	if sig.date[:8] != scope[1] {
		return badSignature("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.", shorten(scope[1]), sig.date[:8], sig.date)
	}
	if sig.query {
		err = c.checkLife(date, sig, query)
	} else {
		err = c.checkAge(date, sig, maxSkew)
	}
	if err != nil {
		return err
	}
	q := canonical{r: c.R, host: c.R.Host, length: c.R.ContentLength, query: query, signed: sig.signed, body: hexSum(c.Body)}
	if sig.query {
		q.query = maps.Clone(query)
		delete(q.query, "X-Amz-Signature")
	}
	if !q.signsHost() {
		return badSignature("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	want := q.compute(c.Env.signingKey(secret, strings.Join(scope[1:], "/")), sig.date)
	if subtle.ConstantTimeCompare([]byte(want), []byte(sig.signature)) != 1 {
		return badSignature("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. " +
			"Consult the service documentation for details.")
	}
	if left := q.unsigned(); len(left) > 0 {
		return &Error{Code: codeDenied, Status: http.StatusForbidden,
			Message: "There were headers present in the request which were not signed: " + shorten(strings.Join(left, ", "))}
	}
	return c.checkSigned(query, q.body)
}

// signingKey returns the key of a secret in a scope. That of the last request is
// kept, because it holds for all of a client's requests of a day.
func (e *Env) signingKey(secret, scope string) *signingKey {
	k := e.lastKey.Load()
	if k == nil || k.secret != secret || k.scope != scope {
		k = newSigningKey(secret, scope)
		e.lastKey.Store(k)
	}
	return k
}

// temporary begins the access keys of sessions (IAM user guide, unique
// identifiers). A session's requests are to carry its token.
const temporary = "ASIA"

// tokenFits reports whether the session token of a request, if any, goes with
// its access key. The endpoint gives out no tokens, so none is right, and a key
// that needs one is never complete.
func (c *Call) tokenFits(key string, query url.Values) bool {
	if strings.HasPrefix(key, temporary) {
		return false
	}
	for _, list := range [][]string{c.R.Header["X-Amz-Security-Token"], query["X-Amz-Security-Token"]} {
		for _, token := range list {
			if token != "" {
				return false
			}
		}
	}
	return true
}

// single are the headers that a request has once. Two readers of a request with
// two may each take another, and one of them would not be what was checked.
var single = []string{"Authorization", "X-Amz-Date", "X-Amz-Target", "X-Amz-Security-Token", "X-Amz-Content-Sha256", "Content-Type"}

// checkSigned checks what a right signature does not show: the client has signed
// a request that says two things. Sum is that of the body, in hexadecimal.
func (c *Call) checkSigned(query url.Values, sum string) error {
	for _, name := range single {
		if len(c.R.Header[name]) > 1 {
			return badSignature("The header '%s' must not be in the request more than once.", name)
		}
	}
	for name, values := range query {
		if len(values) > 1 && strings.HasPrefix(name, "X-Amz-") {
			return badSignature("The query-string parameter '%s' must not be in the request more than once.", shorten(name))
		}
	}
	// The body is always what is signed. A header that says another sum, or
	// that there is none, is of a client that means another body.
	if sums := c.R.Header["X-Amz-Content-Sha256"]; len(sums) == 1 && !strings.EqualFold(sums[0], sum) {
		return badSignature("The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	return nil
}

// maxLife is the longest life of a request that was signed beforehand, seven
// days (IAM user guide, signed requests in the query).
const maxLife = 604_800

// checkLife checks the dates of a request that was signed beforehand: it lives
// for the seconds that it says, from its date on, and no longer than the service
// allows.
func (c *Call) checkLife(date time.Time, sig signature, query url.Values) error {
	most := c.Service.PresignedLife
	if most > 0 && !query.Has("X-Amz-Expires") {
		return c.checkAge(date, sig, most)
	}
	text := query.Get("X-Amz-Expires")
	if text == "" {
		return Errorf(codeIncomplete, "AWS query-string parameters must include 'X-Amz-Expires'. Re-examine the query-string parameters.")
	}
	seconds, err := strconv.ParseUint(text, 10, 32)
	if err != nil || seconds < 1 || seconds > maxLife {
		return Errorf(codeIncomplete, "X-Amz-Expires must be a number of seconds from 1 to %d.", maxLife)
	}
	life := time.Duration(seconds) * time.Second
	if most > 0 {
		life = min(life, most)
	}
	return c.checkAge(date, sig, life)
}

// checkAge checks the date of a signature, which is good for some time, against
// the clock of the endpoint.
func (c *Call) checkAge(date time.Time, sig signature, life time.Duration) error {
	now := c.Now().UTC()
	switch {
	case date.Before(now.Add(-life)):
		return badSignature("Signature expired: %s is now earlier than %s (%s - %s.)", sig.date, now.Add(-life).Format(signedTime), now.Format(signedTime), shownLife(life))
	case date.After(now.Add(maxSkew)):
		return badSignature("Signature not yet current: %s is still later than %s (%s + %s.)", sig.date, now.Add(maxSkew).Format(signedTime), now.Format(signedTime), shownLife(maxSkew))
	}
	return nil
}

// shownLife returns a life as errors of AWS show it, in minutes where they are
// whole.
func shownLife(d time.Duration) string {
	if d%time.Minute == 0 {
		return strconv.Itoa(int(d/time.Minute)) + " min"
	}
	return strconv.Itoa(int(d/time.Second)) + " s"
}

// SignedService returns the service that a request says it is signed for, or
// "". It is not verified.
func SignedService(r *http.Request) string {
	credential := r.URL.Query().Get("X-Amz-Credential")
	if _, rest, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
		credential, _, _ = strings.Cut(rest, ",")
	}
	if parts := strings.Split(credential, "/"); len(parts) >= 4 {
		return parts[3]
	}
	return ""
}
