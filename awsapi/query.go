package awsapi

import "github.com/shardlog/shardlog/internal/awswire"

// Codes of the query protocol for requests that name no operation.
const (
	codeNoAction      = "MissingAction"
	codeUnknownAction = "InvalidAction"
)

// mostOfName is how much an error repeats of a name in a request, in bytes.
const mostOfName = 200

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
		return awswire.Errorf(codeUnknownAction, "Could not find operation %s for version %s", awswire.Shorten(form.Action, mostOfName), awswire.Shorten(version, mostOfName))
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
