package kinesisapi

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// maxAdminBody bounds the bodies of admin requests.
const maxAdminBody = 64 << 10

// serveAdmin answers below /_shardlog/.
func (h *Handler) serveAdmin(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, adminPrefix)
	if path == "health" || path == "ready" {
		h.health(w, path == "ready")
		return
	}
	site := r.Header.Get("Sec-Fetch-Site") // browsers say in it who asks
	switch {
	case !h.opts.Admin:
		adminError(w, http.StatusNotFound, "the admin paths are turned off")
		return
	case !h.opts.AdminRemote && (!fromLoopback(r) || forwarded(r)):
		adminError(w, http.StatusForbidden, "the admin paths are for this machine only")
		return
	case !h.opts.AdminRemote && !localName(r):
		// A page of a name that an attacker lets point at us is of the same
		// origin to a browser, which therefore sends no Origin.
		adminError(w, http.StatusForbidden, "the admin paths are for requests to localhost or to an address")
		return
	case r.Header.Get("Origin") != "" || site != "" && site != "none":
		// A page in a browser is not to delete the streams of whom shows it.
		adminError(w, http.StatusForbidden, "the admin paths are not for browsers")
		return
	}
	var err error
	switch r.Method + " " + path {
	case "POST reset":
		err = h.Reset(r.Context())
	case "GET faults":
	case "POST faults":
		err = h.adminFault(r)
	case "DELETE faults":
		h.ClearFaults()
	case "GET clock":
	case "PUT clock":
		err = h.adminClock(r)
	case "PUT limits":
		err = h.adminLimits(r)
	default:
		adminError(w, http.StatusNotFound, "no such admin path: "+r.Method+" "+path)
		return
	}
	switch {
	case errors.Is(err, shardlog.ErrInvalid):
		adminError(w, http.StatusBadRequest, err.Error())
	case errors.Is(err, shardlog.ErrNotFound):
		adminError(w, http.StatusNotFound, err.Error())
	case err != nil:
		adminError(w, http.StatusInternalServerError, err.Error())
	default:
		writeAdmin(w, http.StatusOK, h.adminState())
	}
}

// faultText is a Fault whose latency is text, such as "100ms".
type faultText struct {
	Fault
	Latency string `json:"latency,omitempty"`
}

func (h *Handler) adminFault(r *http.Request) error {
	var f faultText
	if err := readAdmin(r, &f); err != nil {
		return err
	}
	if f.Latency != "" {
		var err error
		if f.Fault.Latency, err = time.ParseDuration(f.Latency); err != nil {
			return &shardlog.InvalidError{Field: "latency", Value: f.Latency, Limit: "a duration such as 100ms"}
		}
	}
	_, err := h.InjectFault(f.Fault)
	return err
}

// adminState is what every admin request answers with.
func (h *Handler) adminState() map[string]any {
	list := []faultText{}
	for _, f := range h.Faults() {
		text := faultText{Fault: f}
		if f.Latency > 0 {
			text.Latency = f.Latency.String()
		}
		list = append(list, text)
	}
	return map[string]any{"faults": list, "offset": h.ClockOffset().String(), "now": h.now().UTC().Format(time.RFC3339Nano)}
}

func fromLoopback(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr == "pipe" // an in-memory network
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// forwarded tells whether a proxy sends a request on, which may come from
// anywhere then.
func forwarded(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if r.Header[name] != nil {
			return true
		}
	}
	return false
}

// localName tells whether a request was sent to localhost or to an address,
// and not to a name that somebody else has given us.
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
	_ = json.NewEncoder(w).Encode(v) // the client is gone then
}

func adminError(w http.ResponseWriter, status int, msg string) {
	writeAdmin(w, status, map[string]string{"error": msg})
}

func readAdmin(r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxAdminBody))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &shardlog.InvalidError{Field: "body", Value: err.Error(), Limit: "the JSON that this path takes"}
	}
	return nil
}

// health tells whether the process answers, or whether the database does too.
func (h *Handler) health(w http.ResponseWriter, ready bool) {
	h.mu.RLock()
	closed := h.closed
	h.mu.RUnlock()
	if ready && !closed {
		_, err := h.db.Attribute(h.quit, attrKey)
		closed = err != nil
	}
	if closed {
		writeAdmin(w, http.StatusServiceUnavailable, map[string]string{"status": "closed"})
		return
	}
	writeAdmin(w, http.StatusOK, map[string]string{"status": "ok"})
}

// Reset deletes all streams of the database, those that were made in the
// process as well, removes all faults and sets the clock right.
func (h *Handler) Reset(ctx context.Context) error {
	h.ClearFaults()
	h.SetClockOffset(0)
	streams, err := h.db.Streams(ctx)
	if err != nil {
		return err
	}
	for _, st := range streams {
		if err := h.remove(ctx, h.stateOf(st)); err != nil {
			return err
		}
	}
	return nil
}

func (h *Handler) adminClock(r *http.Request) error {
	var v struct{ Offset string }
	if err := readAdmin(r, &v); err != nil {
		return err
	}
	d, err := time.ParseDuration(v.Offset)
	if err != nil {
		return &shardlog.InvalidError{Field: "Offset", Value: v.Offset, Limit: "a duration such as 5m1s"}
	}
	h.SetClockOffset(d)
	return nil
}

// adminLimits sets the limits of one stream.
func (h *Handler) adminLimits(r *http.Request) error {
	var v struct {
		Account, Region, Stream string
		Limits                  stream.Limits
		Kinesis                 bool // those of AWS, in place of Limits
	}
	if err := readAdmin(r, &v); err != nil {
		return err
	}
	setDefault(&v.Account, h.opts.Account)
	setDefault(&v.Region, h.opts.Region)
	s, err := h.find(r.Context(), scope{v.Account, v.Region}, v.Stream)
	if isNotFound(err) {
		return &shardlog.Error{Op: "limits", Stream: v.Stream, Err: shardlog.ErrNotFound}
	}
	if err != nil {
		return err
	}
	if v.Kinesis {
		v.Limits = stream.KinesisLimits()
	}
	return s.st.SetLimits(r.Context(), v.Limits)
}
