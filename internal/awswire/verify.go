package awswire

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxSkew is how far a signature's date may be from ours, as on AWS.
const maxSkew = 5 * time.Minute

// Authenticate checks that a signature is there as a whole and, if the endpoint
// has credentials to check it with, that it is right. It sets Scope and
// AccessKey.
func (c *Call) Authenticate() error {
	header := c.R.Header.Get("Authorization")
	var query url.Values
	if c.R.URL.RawQuery != "" {
		query = c.R.URL.Query()
	}
	inQuery := query.Has("X-Amz-Algorithm")
	switch {
	case header != "" && inQuery:
		return Errorf(codeSignature, "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")
	case header == "" && !inQuery:
		return Errorf("MissingAuthenticationTokenException", "Missing Authentication Token")
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
	c.AccessKey, _, _ = strings.Cut(sig.credential, "/")
	if len(c.Env.Credentials) > 0 {
		return c.verify(sig, query)
	}
	return nil
}

// headerSignature reads the Authorization header. AWS takes its parts in any
// order, separated by commas, spaces or both.
func (c *Call) headerSignature(header string) (sig signature, err error) {
	rest := ""
	sig.algorithm, rest, _ = strings.Cut(header, " ")
	for rest != "" {
		var part string
		if i := strings.IndexAny(rest, ", "); i >= 0 {
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
		return Errorf(codeIncomplete, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", sig.credential)
	}
	secret, known := c.Env.Credentials[scope[0]]
	if !known {
		return Errorf("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if scope[3] != c.Service.Name {
		return badSignature("Credential should be scoped to correct service: '%s'. ", c.Service.Name)
	}
	date, err := time.Parse(signedTime, sig.date)
	if err != nil {
		return Errorf(codeIncomplete, "Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", shorten(sig.date))
	}
	if sig.date[:8] != scope[1] {
		return badSignature("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.", scope[1], sig.date[:8], sig.date)
	}
	if err := c.checkAge(date, sig, query); err != nil {
		return err
	}
	q := canonical{r: c.R, host: c.R.Host, length: c.R.ContentLength, query: query, signed: sig.signed, body: c.Body}
	if !q.signsHost() {
		return badSignature("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	want := q.compute(secret, sig.date, strings.Join(scope[1:], "/"))
	if subtle.ConstantTimeCompare([]byte(want), []byte(sig.signature)) != 1 {
		return badSignature("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. " +
			"Consult the service documentation for details.")
	}
	return nil
}

// checkAge checks the date of a signature against the clock. One in the query
// lasts as long as it says, but not less than maxSkew.
func (c *Call) checkAge(date time.Time, sig signature, query url.Values) error {
	now := c.Now().UTC()
	life := maxSkew
	if sig.query {
		seconds, err := strconv.Atoi(query.Get("X-Amz-Expires"))
		if query.Has("X-Amz-Expires") && (err != nil || seconds < 1 || seconds > 604800) {
			return Errorf(codeIncomplete, "X-Amz-Expires must be a number of seconds from 1 to 604800.")
		}
		life = max(life, time.Duration(seconds)*time.Second)
	}
	switch {
	case date.Before(now.Add(-life)):
		return badSignature("Signature expired: %s is now earlier than %s (%s - %d min.)", sig.date, now.Add(-life).Format(signedTime), now.Format(signedTime), life/time.Minute)
	case date.After(now.Add(maxSkew)):
		return badSignature("Signature not yet current: %s is still later than %s (%s + %d min.)", sig.date, now.Add(maxSkew).Format(signedTime), now.Format(signedTime), maxSkew/time.Minute)
	}
	return nil
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
