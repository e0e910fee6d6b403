package awsapi

import (
	"net/http"
	"strings"

	"github.com/shardlog/shardlog/internal/awswire"
)

// plainJSON is the content type of requests that AWS parses and then refuses.
const plainJSON = "application/json"

// route finds the service and the operation of a request: by its target, or
// else the service by what the request is signed for. An operation that the
// service does not have, or that the form names, is nil.
func (e *Endpoint) route(r *http.Request) (*Service, *awswire.Operation) {
	target := r.Header.Get("X-Amz-Target")
	for _, s := range e.services {
		if s.TargetPrefix == "" {
			continue // its operations are not named by targets
		}
		if name, ok := strings.CutPrefix(target, s.TargetPrefix); ok {
			return s, s.Operations[name]
		}
	}
	if len(e.services) > 1 {
		name := awswire.SignedService(r)
		for _, s := range e.services {
			// A form that is not signed is for the service that takes forms.
			if s.Name == name || name == "" && target == "" && s.Queries() && awswire.IsForm(r) {
				return s, nil
			}
		}
	}
	return e.services[0], nil
}

// protocolOf returns the service's protocol with a content type. Without one,
// known is false and errors are answered in the last protocol of the service,
// which for Kinesis is CBOR, as on AWS.
func protocolOf(s *Service, media string) (p *awswire.Protocol, known bool) {
	for _, p := range s.Protocols {
		if p.Media == media {
			return p, true
		}
	}
	return s.Protocols[len(s.Protocols)-1], false
}

// serve runs a request. The order of the checks is that of AWS, which clients
// can see: of several things that are wrong, the first is reported.
func serve(c *awswire.Call, closed bool) error {
	if c.Service.Queries() {
		return serveQuery(c, closed)
	}
	media, _, _ := strings.Cut(c.R.Header.Get("Content-Type"), ";")
	media = strings.TrimSpace(media)
	var known bool
	c.Protocol, known = protocolOf(c.Service, media)
	c.Out.Format = c.Protocol.Format
	switch {
	case len(c.Body) == 0 && c.Op != nil:
		return &awswire.Error{Code: awswire.CodeSerialization}
	case len(c.Body) == 0:
		return &awswire.Error{Code: awswire.CodeUnknownOp}
	case media == plainJSON:
		refusePlain(c)
		return nil
	case !known:
		refuseMedia(c)
		return nil
	}
	// The fast way checks the whole input before anything else was checked. It
	// answers nothing, so that the order of the errors is kept.
	parsed := c.Op != nil && c.Op.Fast != nil && c.Op.Fast(c)
	if !parsed {
		if err := awswire.WellFormed(c.Protocol.Reader(c.Body)); err != nil {
			return err
		}
	}
	if c.Op == nil {
		return &awswire.Error{Code: awswire.CodeUnknownOp}
	}
	if err := authenticate(c); err != nil {
		return err
	}
	if parsed {
		c.RecycleBody()
	} else if err := c.Decode(); err != nil {
		return err
	}
	if closed {
		return awswire.Unavailable()
	}
	return c.Run()
}

// refusePlain answers requests of type application/json, whose body AWS parses
// before it says that it knows no such operation.
func refusePlain(c *awswire.Call) {
	code, status := awswire.CodeUnknownOp, http.StatusNotFound
	if err := awswire.WellFormed(awswire.JSON11.Reader(c.Body)); err != nil {
		code, status = awswire.CodeSerialization, http.StatusBadRequest
	}
	c.Raw(status, plainJSON, `{"Output":{"__type":"com.amazon.coral.service#`+code+`"},"Version":"1.0"}`)
}

// refuseMedia answers requests of a type that the service does not speak.
func refuseMedia(c *awswire.Call) {
	if service, op, ok := strings.Cut(c.R.Header.Get("X-Amz-Target"), "."); !ok || service == "" || op == "" {
		c.Deny()
		return
	}
	c.Raw(http.StatusNotFound, "", "<UnknownOperationException/>\n")
}
