package awsapi

import (
	"github.com/shardlog/shardlog/internal/awswire"
)

// Codes of the query protocol for requests that name no operation.
const (
	codeNoAction      = "MissingAction"
	codeUnknownAction = "InvalidAction"
)

// serveQuery runs a request of the query protocol, in which the input names the
// operation.
func serveQuery(c *awswire.Call, closed bool) error {
	c.Protocol = awswire.Query
	c.Out.Format = c.Protocol.Format
	form, err := c.ReadForm()
	if err != nil {
		return err
	}
	if form.Action == "" {
		return awswire.Errorf(codeNoAction, "The request must contain the parameter Action.")
	}
	if form.Version == c.Service.Version {
		c.Op = c.Service.Operations[form.Action]
	}
	if c.Op == nil {
		version := form.Version
		if version == "" {
			version = "NO_VERSION_SPECIFIED"
		}
		return awswire.Errorf(codeUnknownAction, "Could not find operation %s for version %s", shorten(form.Action), shorten(version))
	}
	if err := authenticate(c); err != nil {
		return err
	}
	if err := c.Decode(); err != nil {
		return err
	}
	if closed {
		return awswire.Unavailable()
	}
	return c.Run()
}

// authenticate sets the scope of a request, and checks its signature.
func authenticate(c *awswire.Call) error {
	c.Scope = c.Env.Scope
	return c.Authenticate()
}

// shorten cuts what an error repeats of a request.
func shorten(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
