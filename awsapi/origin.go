package awsapi

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// Without credentials every signature is good, so that a page that somebody
// visits could read and delete the streams of an endpoint on the same machine,
// or behind the same firewall. Browsers say in each request which page it comes
// from; programs do not say it at all. With credentials a page needs the keys,
// and the answers are those of AWS, which any page may read.

// anyOrigin in Options.AllowOrigins is every page, and every name of the host.
const anyOrigin = "*"

// origins are the pages whose requests are answered.
type origins struct {
	any     bool
	allowed map[string]bool
	// hosts are those of the allowed pages, without ports. A page that may do
	// anything gains nothing by resolving its name to this machine.
	hosts map[string]bool
}

// newOrigins reads Options.AllowOrigins.
func newOrigins(list []string) (origins, error) {
	o := origins{allowed: map[string]bool{}, hosts: map[string]bool{}}
	for _, text := range list {
		if text == anyOrigin {
			o.any = true
			continue
		}
		origin, host, ok := parseOrigin(text)
		if !ok {
			return o, &shardlog.InvalidError{Field: "Options.AllowOrigins", Value: fmt.Sprintf("%q", text), Limit: `"*", or origins such as "http://localhost:3000", without a path`}
		}
		o.allowed[origin], o.hosts[host] = true, true
	}
	return o, nil
}

// parseOrigin reads an origin as browsers write it: scheme, host and a port that
// is not the scheme's own, in lower case.
func parseOrigin(text string) (origin, host string, ok bool) {
	u, err := url.Parse(strings.ToLower(text))
	if err != nil || u.Scheme == "" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery || strings.Contains(text, "#") {
		return "", "", false
	}
	return u.Scheme + "://" + withoutPort(u.Scheme, u.Host), hostName(u.Host), true
}

// withoutPort removes the port that a scheme has by itself.
func withoutPort(scheme, host string) string {
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

// permits reports whether a request may be answered, and which origin is to be
// named to the browser in the answer, "" for none.
func (o *origins) permits(r *http.Request) (origin string, ok bool) {
	given := r.Header.Values("Origin")
	if o.any {
		if len(given) > 0 {
			origin = anyOrigin
		}
		return origin, true
	}
	// A browser says truly which page asks, so that for one that is allowed it does
	// not matter by which name it reaches us.
	if len(given) == 1 {
		if page, _, valid := parseOrigin(given[0]); valid && o.allowed[page] {
			return given[0], true
		}
	}
	// To a browser, a page is of the same origin as we are if the attacker lets
	// its name resolve to us. So we answer to names that nobody can have chosen.
	if !o.ownName(r) {
		return "", false
	}
	switch {
	case len(given) > 1:
		return "", false
	case len(given) == 1:
		origin, _, ok = parseOrigin(given[0])
		return given[0], ok && origin == ownOrigin(r)
	}
	// Some requests of pages have no Origin, such as those for images.
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" && site != "same-origin" {
		return "", false
	}
	if referer := r.Header.Get("Referer"); referer != "" {
		u, err := url.Parse(strings.ToLower(referer))
		if err != nil {
			return "", false
		}
		from := u.Scheme + "://" + withoutPort(u.Scheme, u.Host)
		return "", from == ownOrigin(r) || o.allowed[from]
	}
	return "", true
}

// ownOrigin returns the origin of pages that we would serve under the name of a
// request.
func ownOrigin(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + withoutPort(scheme, strings.ToLower(r.Host))
}

// ownName reports whether a request was sent to a name that an attacker cannot
// have let resolve to this machine. Requests of a browser have to prove it
// wherever they come from; others only where they come from this machine, since
// a program elsewhere reaches us by any name that its network has for us.
func (o *origins) ownName(r *http.Request) bool {
	ofPage := r.Header["Origin"] != nil || r.Header["Sec-Fetch-Site"] != nil || r.Header["Referer"] != nil
	return !ofPage && !fromLoopback(r) || localName(r) || privateName(r.Host) || o.hosts[hostName(r.Host)]
}

// privateName reports whether nobody can register a name: it has one label, as
// the services of a container network have, or is below .internal, which is
// reserved for private use and is what containers call their host.
func privateName(host string) bool {
	name := hostName(host)
	return name != "" && (!strings.Contains(name, ".") && !strings.Contains(name, ":") || strings.HasSuffix(name, ".internal"))
}

// hostName returns the name in a Host header, without its port.
func hostName(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		if _, err := netip.ParseAddr(host); err != nil {
			host = host[:i]
		}
	}
	return strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
}

// refuseOrigin answers a request of a page that may not make it. There are no
// headers of CORS in it, so that the page cannot read it either.
func refuseOrigin(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", awswire.JSON11.Media)
	h.Set("Connection", "close") // the body was not read
	w.WriteHeader(http.StatusForbidden)
	// If it fails, the client is gone.
	_, _ = io.WriteString(w, `{"__type":"AccessDeniedException","message":"Without credentials the endpoint does not answer pages of other origins or requests to names of other hosts. Allow the origin (serve -allow-origin), or serve with credentials."}`)
}
