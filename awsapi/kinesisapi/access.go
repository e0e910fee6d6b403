package kinesisapi

import (
	"strings"

	"github.com/shardlog/shardlog/internal/awswire"
)

// Who may use what. Names and tokens in a request can be of another account or
// region than its signature, and each way to say one leads through enter, which
// is the only place that changes the scope of a call. authorize asks before
// anything is looked for, so that a stranger does not learn what exists.

// namesResource reports whether a member of an input is an ARN of a stream or of
// something that a stream has. All such members of the model, and no others,
// end like this; a test goes through them.
func namesResource(member string) bool { return strings.HasSuffix(member, "ARN") }

// authorize refuses a request in which any member names what the caller may not
// use, also one that the operation does not look at.
func (c *call) authorize() error {
	if !c.Env.Verifies() {
		return nil
	}
	if c.put != nil {
		return c.mayName(c.put.arn)
	}
	for member := range c.Op.Input.Members() {
		if namesResource(member) {
			if err := c.mayName(c.In.Text(member)); err != nil {
				return err
			}
		}
	}
	return nil
}

// mayName returns an error if the caller may not use what an ARN names. What is
// not an ARN of Kinesis is left to the operation, which refuses it.
func (c *call) mayName(arn string) error {
	if p, ok := parseARN(arn); ok && !c.MayUse(p.scope) {
		return c.refuse(p.scope, p.stream, arn)
	}
	return nil
}

// enter makes the request one of a scope that a name or a token in it says. The
// error is for one that the caller may not use; arn may be empty for the stream.
func (c *call) enter(sc awswire.Scope, stream string) error {
	if !c.MayUse(sc) {
		return c.refuse(sc, stream, "")
	}
	c.Scope = sc
	return nil
}

// openPage opens the token with which a list continues. One of another account
// or region is none.
func (c *call) openPage(token, kind string) (pageToken, error) {
	p, err := c.svc.tokens.openPage(token, kind, c.Clock())
	if err == nil && !c.MayUse(awswire.Scope{Account: p.account, Region: p.region}) {
		return pageToken{}, invalid("NextToken is invalid.")
	}
	return p, err
}

// refuse returns the error for something that the caller may not use. In the
// caller's own account it is that there is no such stream: an endpoint of AWS
// has the streams of one region, which is that of the signature.
func (c *call) refuse(sc awswire.Scope, stream, arn string) error {
	if sc.Account == c.Caller.Account {
		return noStream(sc, stream)
	}
	if arn == "" {
		arn = streamARN(sc, stream)
	}
	return denied(c.Caller, c.Op.Name, arn)
}
