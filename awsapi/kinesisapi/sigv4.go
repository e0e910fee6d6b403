package kinesisapi

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Signatures of AWS, version 4 (IAM user guide, signing elements).

const (
	algorithm  = "AWS4-HMAC-SHA256"
	signedTime = "20060102T150405Z"
	// maxSkew is how far a signature's date may be from ours.
	maxSkew = 5 * time.Minute
)

// signature is what a request says about how it was signed.
type signature struct {
	algorithm, credential, signed, signature, date string
	query                                          bool
}

// authenticate checks that a signature is there as a whole and, if there are
// credentials to check it with, that it is right.
func (c *call) authenticate() error {
	header := c.r.Header.Get("Authorization")
	var query url.Values
	if c.r.URL.RawQuery != "" {
		query = c.r.URL.Query()
	}
	inQuery := query.Has("X-Amz-Algorithm")
	switch {
	case header != "" && inQuery:
		return fault("InvalidSignatureException", "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")
	case header == "" && !inQuery:
		return fault("MissingAuthenticationTokenException", "Missing Authentication Token")
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
	c.scope = c.h.scopeOf(sig.credential)
	if len(c.h.opts.Credentials) > 0 {
		return c.verify(sig, query)
	}
	return nil
}

func (c *call) headerSignature(header string) (sig signature, err error) {
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
	if sig.date = c.r.Header.Get("X-Amz-Date"); sig.date == "" {
		if t, err := http.ParseTime(c.r.Header.Get("Date")); err == nil {
			sig.date = t.UTC().Format(signedTime)
		}
	}
	msg := ""
	for _, p := range []struct{ name, value string }{{"Credential", sig.credential}, {"Signature", sig.signature}, {"SignedHeaders", sig.signed}} {
		if p.value == "" {
			msg += "Authorization header requires '" + p.name + "' parameter. "
		}
	}
	if c.r.Header.Get("X-Amz-Date") == "" && c.r.Header.Get("Date") == "" {
		msg += "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
	}
	if msg != "" {
		return sig, fault("IncompleteSignatureException", "%s", msg+"Authorization="+shorten(header))
	}
	return sig, nil
}

func querySignature(q url.Values) (sig signature, err error) {
	msg := ""
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"} {
		if q.Get(name) == "" {
			msg += "AWS query-string parameters must include '" + name + "'. "
		}
	}
	if msg != "" {
		return sig, fault("IncompleteSignatureException", "%s", msg+"Re-examine the query-string parameters.")
	}
	return signature{q.Get("X-Amz-Algorithm"), q.Get("X-Amz-Credential"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Signature"), q.Get("X-Amz-Date"), true}, nil
}

func badSignature(format string, args ...any) error {
	return fault("InvalidSignatureException", format, args...)
}

// verify computes the signature anew and compares.
func (c *call) verify(sig signature, query url.Values) error {
	if sig.algorithm != algorithm {
		return fault("IncompleteSignatureException", "Unsupported AWS 'algorithm': '%s'.", shorten(sig.algorithm))
	}
	scope := strings.Split(sig.credential, "/")
	if len(scope) != 5 || scope[4] != "aws4_request" {
		return fault("IncompleteSignatureException", "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", sig.credential)
	}
	secret, known := c.h.opts.Credentials[scope[0]]
	if !known {
		return fault("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if scope[3] != "kinesis" {
		return badSignature("Credential should be scoped to correct service: 'kinesis'. ")
	}
	date, err := time.Parse(signedTime, sig.date)
	if err != nil {
		return fault("IncompleteSignatureException", "Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", shorten(sig.date))
	}
	if sig.date[:8] != scope[1] {
		return badSignature("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.", scope[1], sig.date[:8], sig.date)
	}
	if err := c.fresh(date, sig, query); err != nil {
		return err
	}
	headers, ok := c.canonicalHeaders(sig.signed)
	if !ok {
		return badSignature("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	body := sha256.Sum256(c.body)
	path := c.r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	request := strings.Join([]string{c.r.Method, path, canonicalQuery(query), headers, sig.signed, hex.EncodeToString(body[:])}, "\n")
	sum := sha256.Sum256([]byte(request))
	toSign := algorithm + "\n" + sig.date + "\n" + strings.Join(scope[1:], "/") + "\n" + hex.EncodeToString(sum[:])
	key := []byte("AWS4" + secret)
	for _, part := range scope[1:] {
		key = mac(key, part)
	}
	want := hex.EncodeToString(mac(key, toSign))
	if subtle.ConstantTimeCompare([]byte(want), []byte(sig.signature)) != 1 {
		return badSignature("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. " +
			"Consult the service documentation for details.")
	}
	return nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// fresh checks the date of a signature against the clock.
func (c *call) fresh(date time.Time, sig signature, query url.Values) error {
	now := c.h.now().UTC()
	life := maxSkew
	if sig.query {
		seconds, err := strconv.Atoi(query.Get("X-Amz-Expires"))
		if query.Has("X-Amz-Expires") && (err != nil || seconds < 1 || seconds > 604800) {
			return fault("IncompleteSignatureException", "X-Amz-Expires must be a number of seconds from 1 to 604800.")
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

// canonicalHeaders returns the signed headers; ok is false if the host is not
// among them.
func (c *call) canonicalHeaders(signed string) (text string, ok bool) {
	var b strings.Builder
	for _, name := range strings.Split(signed, ";") {
		value := ""
		switch name {
		case "host", ":authority":
			value, ok = c.r.Host, true
		case "content-length":
			value = strconv.FormatInt(c.r.ContentLength, 10)
		default:
			values := slices.Clone(c.r.Header.Values(name))
			for i := range values {
				values[i] = strings.Join(strings.Fields(values[i]), " ")
			}
			value = strings.Join(values, ",")
		}
		b.WriteString(name + ":" + value + "\n")
	}
	return b.String(), ok
}

// canonicalQuery returns the parameters, without the signature, in order.
func canonicalQuery(q url.Values) string {
	var list [][2]string
	for k, values := range q {
		if k == "X-Amz-Signature" {
			continue
		}
		for _, v := range values {
			list = append(list, [2]string{uriEncode(k), uriEncode(v)})
		}
	}
	// By name and then by value; joined, "a-b=" would come before "a=".
	slices.SortFunc(list, func(a, b [2]string) int { return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1])) })
	parts := make([]string, len(list))
	for i, p := range list {
		parts[i] = p[0] + "=" + p[1]
	}
	return strings.Join(parts, "&")
}

// uriEncode escapes everything but the unreserved characters.
func uriEncode(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}
