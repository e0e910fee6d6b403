package awswire

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// largeAnswer is one that may not fit into the buffers of a connection, so that
// writing it waits for the client.
const largeAnswer = 16 << 10

// Reply sends what was written to Out, which a client may have to wait for: see
// hold.
func (c *Call) Reply(status int) {
	c.hold()
	h := c.W.Header()
	media, before, after := c.Protocol.Media, "", ""
	if c.Protocol.Answer != "" {
		media = c.Protocol.Answer
	}
	if c.Protocol == Query && status == http.StatusOK {
		before, after = c.envelope()
	}
	h["Content-Type"] = []string{media}
	h["Content-Length"] = []string{strconv.Itoa(len(before) + len(c.Out.Buf) + len(after))}
	if c.Env.Clock.Offset() != 0 {
		// SDKs whose signature is too old or too new set their clock by this.
		h["Date"] = []string{c.Now().UTC().Format(http.TimeFormat)}
	}
	if len(c.Out.Buf) > largeAnswer {
		// A client that does not read would keep the memory for ever. Not every
		// ResponseWriter has deadlines; then the server's own hold.
		rc := http.NewResponseController(c.W)
		_ = rc.SetWriteDeadline(time.Now().Add(c.Env.Bodies.Timeout()))
		defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()
	}
	c.W.WriteHeader(status)
	// If a write fails, the client is gone.
	if before != "" {
		_, _ = io.WriteString(c.W, before)
	}
	_, _ = c.W.Write(c.Out.Buf)
	if after != "" {
		_, _ = io.WriteString(c.W, after)
	}
}

// Fail answers with an error, in place of what was written to Out.
func (c *Call) Fail(err error) {
	e := c.Error(err)
	c.Out = Encoder{Format: c.Protocol.Format, Buf: c.Out.Buf[:0]}
	if c.Protocol == Query {
		e = e.forQuery()
		c.failQuery(e)
		c.Reply(e.StatusCode())
		return
	}
	c.Out.Open()
	c.Out.TextField("__type", e.Code)
	switch {
	case e.Message == "":
	case e.Capital:
		c.Out.TextField("Message", e.Message)
	default:
		c.Out.TextField("message", e.Message)
	}
	c.Out.Close()
	c.Reply(e.StatusCode())
}

// Error turns any error of an operation into one that is answered with. What
// is a failure of ours is logged, and the client does not learn its reason.
func (c *Call) Error(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, ErrSyntax):
		return &Error{Code: CodeSerialization}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Unavailable()
	}
	if c.Service.Explain != nil {
		if e := c.Service.Explain(c, err); e != nil {
			return e
		}
	}
	if c.Env.Logger != nil {
		resource := ""
		if c.Service.Resource != nil {
			resource = c.Service.Resource(c)
		}
		c.Env.Logger.Error(c.Service.Name+": "+c.Op.Name+" failed", "resource", resource, "error", err)
	}
	return InternalError()
}

// Raw answers with a body that no protocol writes.
func (c *Call) Raw(status int, media, body string) {
	c.Answered = true
	h := c.W.Header()
	if h["Content-Type"] = nil; media != "" {
		h.Set("Content-Type", media)
	}
	c.W.WriteHeader(status)
	_, _ = io.WriteString(c.W, body) // if it fails, the client is gone
}

// Deny answers a request that names no service or operation, in XML: AWS
// refuses it before any protocol is chosen.
func (c *Call) Deny() {
	c.Raw(http.StatusForbidden, "", "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n</AccessDeniedException>\n")
}

// Preflight sets the headers of every answer, and answers what needs no
// operation: preflight requests of browsers, and methods other than POST, or
// than GET of the query protocol. Done
// reports whether it has answered. Header names are written as AWS writes them,
// which is why they do not go through Header.Set.
func (c *Call) Preflight() (done bool) {
	h := c.W.Header()
	h["x-amzn-RequestId"] = []string{newRequestID()}
	origin := c.R.Header.Get("Origin")
	options := c.R.Method == http.MethodOptions
	if !options || origin == "" {
		h["x-amz-id-2"] = []string{extendedID()}
	}
	if origin != "" {
		if h.Set("Access-Control-Allow-Origin", c.Origin); c.Origin != "*" {
			h.Set("Vary", "Origin")
		}
		if options {
			for from, to := range map[string]string{"Access-Control-Request-Headers": "Access-Control-Allow-Headers",
				"Access-Control-Request-Method": "Access-Control-Allow-Methods"} {
				if v := c.R.Header.Get(from); v != "" {
					h.Set(to, v)
				}
			}
			h.Set("Access-Control-Max-Age", "172800")
			h.Set("Content-Length", "0")
			c.W.WriteHeader(http.StatusOK)
			return true
		}
		h.Set("Access-Control-Expose-Headers", "x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,Date")
	}
	if c.R.Method != http.MethodPost && (c.R.Method != http.MethodGet || !c.Service.Queries()) {
		c.Deny()
		return true
	}
	return false
}
