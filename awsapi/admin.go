package awsapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

const (
	adminPrefix = "/_shardlog/"
	// maxAdminBody bounds the bodies of admin requests, which are some short
	// members of JSON.
	maxAdminBody = 64 << 10
)

// serveAdmin answers below /_shardlog/. Anyone who reaches it can delete
// everything, so it is for programs on this machine only, unless told otherwise.
func (e *Endpoint) serveAdmin(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, adminPrefix)
	if path == "health" || path == "ready" {
		e.health(w, path == "ready")
		return
	}
	site := r.Header.Get("Sec-Fetch-Site") // browsers say in it who asks
	switch {
	case !e.opts.Admin:
		adminError(w, http.StatusNotFound, "the admin paths are turned off")
		return
	case !e.opts.AdminRemote && (!fromLoopback(r) || forwarded(r)):
		adminError(w, http.StatusForbidden, "the admin paths are for this machine only")
		return
	case !e.opts.AdminRemote && !localName(r):
		// To a browser, a page is of the same origin as we are if the attacker
		// lets its name resolve to us. It sends no Origin then.
		adminError(w, http.StatusForbidden, "the admin paths are for requests to localhost or to an address")
		return
	case r.Header.Get("Origin") != "" || site != "" && site != "none":
		// A page must not delete the streams of the person who visits it.
		adminError(w, http.StatusForbidden, "the admin paths are not for browsers")
		return
	}
	do := e.adminAction(r.Method + " " + path)
	if do == nil {
		adminError(w, http.StatusNotFound, "no such admin path: "+r.Method+" "+path)
		return
	}
	err := do(r)
	switch {
	case errors.Is(err, shardlog.ErrInvalid):
		adminError(w, http.StatusBadRequest, err.Error())
	case errors.Is(err, shardlog.ErrNotFound):
		adminError(w, http.StatusNotFound, err.Error())
	case err != nil:
		adminError(w, http.StatusInternalServerError, err.Error())
	default:
		writeAdmin(w, http.StatusOK, e.adminState())
	}
}

// adminAction returns what an admin request does, or nil if there is no such
// path. Paths of the endpoint come before those of services.
func (e *Endpoint) adminAction(path string) func(*http.Request) error {
	switch path {
	case "GET faults", "GET clock":
		return func(*http.Request) error { return nil } // the state is the answer to all
	case "POST reset":
		return func(r *http.Request) error { return e.Reset(r.Context()) }
	case "POST faults":
		return e.adminFault
	case "DELETE faults":
		return func(*http.Request) error { e.ClearFaults(); return nil }
	case "PUT clock":
		return e.adminClock
	}
	for _, s := range e.services {
		if do := s.Paths[path]; do != nil {
			return func(r *http.Request) error { return do(r.Context(), &e.env, bodyDecoder(r)) }
		}
	}
	return nil
}

// faultText is a Fault whose latency is text, such as "100ms".
type faultText struct {
	Fault
	Latency awswire.Duration `json:"latency,omitempty"`
}

// readFault reads a fault in the form that all services have.
func readFault(decode func(any) error) (Fault, error) {
	var f faultText
	if err := decode(&f); err != nil {
		return Fault{}, err
	}
	f.Fault.Latency = time.Duration(f.Latency)
	return f.Fault, nil
}

// adminFault injects a fault. The service is in the query, so that the body can
// be read in its own form. A body that has the service as well must not
// contradict the query: the fault would hit another service than was meant.
func (e *Endpoint) adminFault(r *http.Request) error {
	name := r.URL.Query().Get("service")
	s := e.service(name)
	if s == nil {
		return &shardlog.InvalidError{Field: "service", Value: name, Limit: "a service of the endpoint"}
	}
	read := readFault
	if s.ReadFault != nil {
		read = s.ReadFault
	}
	f, err := read(bodyDecoder(r))
	if err != nil {
		return err
	}
	if f.Service != "" && f.Service != s.Name {
		return &shardlog.InvalidError{Field: "service", Value: f.Service, Limit: fmt.Sprintf("%q, or in the query as ?service=NAME", s.Name)}
	}
	f.Service = s.Name
	_, err = e.InjectFault(f)
	return err
}

// adminState is what every admin request answers with.
func (e *Endpoint) adminState() map[string]any {
	list := []any{}
	for _, f := range e.Faults() {
		if s := e.service(f.Service); s.ShowFault != nil {
			list = append(list, s.ShowFault(f))
			continue
		}
		list = append(list, faultText{f, awswire.Duration(f.Latency)})
	}
	return map[string]any{"faults": list, "offset": e.ClockOffset().String(), "now": e.env.Clock.Now().UTC().Format(time.RFC3339Nano)}
}

func fromLoopback(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr == "pipe" // an in-memory network
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// forwarded reports whether a proxy has forwarded a request, which can come from
// anywhere then.
func forwarded(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if r.Header[name] != nil {
			return true
		}
	}
	return false
}

// localName reports whether a request was sent to localhost or to an address,
// and not to a name that somebody else controls.
func localName(r *http.Request) bool {
	if r.RemoteAddr == "pipe" {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

func writeAdmin(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", plainJSON)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // if it fails, the client is gone
}

func adminError(w http.ResponseWriter, status int, msg string) {
	writeAdmin(w, status, map[string]string{"error": msg})
}

// bodyDecoder returns a function that reads the body of a request as JSON.
func bodyDecoder(r *http.Request) func(any) error {
	return func(v any) error {
		d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxAdminBody))
		d.DisallowUnknownFields()
		err := d.Decode(v)
		var invalid *shardlog.InvalidError
		switch {
		case errors.As(err, &invalid): // a member that says itself what is wrong
			return invalid
		case err != nil:
			return &shardlog.InvalidError{Field: "body", Value: err, Limit: "the JSON that this path takes"}
		}
		return nil
	}
}

// health reports whether the process answers, or whether the services do too.
func (e *Endpoint) health(w http.ResponseWriter, ready bool) {
	closed := e.env.Lifetime.Closed()
	for _, s := range e.services {
		if ready && !closed && s.Ready != nil {
			closed = s.Ready(e.env.Lifetime.Context()) != nil
		}
	}
	if closed {
		writeAdmin(w, http.StatusServiceUnavailable, map[string]string{"status": "closed"})
		return
	}
	writeAdmin(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (e *Endpoint) adminClock(r *http.Request) error {
	var v struct{ Offset string }
	if err := bodyDecoder(r)(&v); err != nil {
		return err
	}
	d, err := time.ParseDuration(v.Offset)
	if err != nil {
		return &shardlog.InvalidError{Field: "Offset", Value: v.Offset, Limit: "a duration such as 5m1s"}
	}
	e.SetClockOffset(d)
	return nil
}
