package awswire

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Signatures of AWS, version 4 (IAM user guide, signing elements): what signing
// and verifying have in common.

const (
	algorithm  = "AWS4-HMAC-SHA256"
	signedTime = "20060102T150405Z"
	scopeEnd   = "aws4_request"
)

// signature is what a request says about how it was signed.
type signature struct {
	algorithm, credential, signed, signature, date string
	query                                          bool // it is in the query, not in a header
}

// canonical is a request in the form that is signed. Host and length are apart,
// because a client has them elsewhere in its http.Request than a server.
type canonical struct {
	r      *http.Request
	host   string
	length int64
	query  url.Values // without the signature itself
	signed string     // the names of the headers, joined by semicolons
	body   string     // the SHA-256 of the body, in hexadecimal
}

// hexSum returns the SHA-256 of b in hexadecimal.
func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// signingKey is the key that signs the requests of a secret in a scope, which is
// DATE/REGION/SERVICE/aws4_request.
type signingKey struct {
	secret, scope string
	key           []byte
}

func newSigningKey(secret, scope string) *signingKey {
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	return &signingKey{secret, scope, key}
}

// compute returns the signature of a request, in hexadecimal.
func (q canonical) compute(k *signingKey, date string) string {
	path := q.r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	request := strings.Join([]string{q.r.Method, path, canonicalQuery(q.query), q.headers(), q.signed, q.body}, "\n")
	return hex.EncodeToString(mac(k.key, algorithm+"\n"+date+"\n"+k.scope+"\n"+hexSum([]byte(request))))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// signsHost reports whether the host is among the signed headers, without which
// a signature would be good for any other server.
func (q canonical) signsHost() bool {
	names := strings.Split(q.signed, ";")
	return slices.Contains(names, "host") || slices.Contains(names, ":authority")
}

// amzPrefix begins the headers that change what a request of AWS means.
const amzPrefix = "X-Amz-"

// unsigned returns the headers that a signature has to cover and does not: all
// that begin with x-amz-, and the content type. Without that, a request that
// was seen once could be sent again as another operation.
func (q canonical) unsigned() (names []string) {
	for name := range q.r.Header {
		matters := len(name) > len(amzPrefix) && strings.EqualFold(name[:len(amzPrefix)], amzPrefix) ||
			name == "Content-Type" && !leavesTypeOut(q.r)
		if matters && !q.signs(name) {
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)
	return names
}

// signs reports whether a header is among those signed.
func (q canonical) signs(name string) bool {
	for signed := range strings.SplitSeq(q.signed, ";") {
		if strings.EqualFold(signed, name) {
			return true
		}
	}
	return false
}

// typeless begin the names of clients that do not sign the content type, and that
// AWS serves: its SDK for PHP before June 2026, async-aws, and version 2 of its SDK
// for JavaScript, which in a page has the browser's name as User-Agent.
var typeless = []string{"aws-sdk-php/", "Symfony HttpClient", "aws-sdk-nodejs/2.", "aws-sdk-js/2."}

// leavesTypeOut reports whether a request may have a content type that is not
// signed. Who sends a request of somebody else again can write any name into it, so
// the name must not open anything: none of these clients speaks CBOR, which leaves
// each service with one type, and the body itself is always signed.
func leavesTypeOut(r *http.Request) bool {
	if mediaOf(r) == CBOR11.Media {
		return false
	}
	for _, agent := range []string{r.UserAgent(), r.Header.Get("X-Amz-User-Agent")} {
		for _, name := range typeless {
			if strings.HasPrefix(agent, name) {
				return true
			}
		}
	}
	return false
}

// headers returns the signed headers with their values, in their order.
func (q canonical) headers() string {
	var b strings.Builder
	for name := range strings.SplitSeq(q.signed, ";") {
		value := ""
		switch name {
		case "host", ":authority":
			value = q.host
		case "content-length":
			value = strconv.FormatInt(q.length, 10)
		default:
			values := slices.Clone(q.r.Header.Values(name))
			for i := range values {
				values[i] = strings.Join(strings.Fields(values[i]), " ")
			}
			value = strings.Join(values, ",")
		}
		b.WriteString(name + ":" + value + "\n")
	}
	return b.String()
}

// parseQuery reads a query as it is signed, and as forms are read: a semicolon
// separates nothing. With url.URL.Query, a parameter that has one would be part of
// the request and not of what is verified.
func parseQuery(raw string) (url.Values, error) {
	return url.ParseQuery(strings.ReplaceAll(raw, ";", "%3B"))
}

// canonicalQuery returns the parameters, sorted.
func canonicalQuery(q url.Values) string {
	var list [][2]string
	for k, values := range q {
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

// uriEncode escapes all but the unreserved characters of RFC 3986.
func uriEncode(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}
