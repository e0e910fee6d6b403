package awswire

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"
)

// Env is what all requests of an endpoint share.
type Env struct {
	// Scope is that of requests whose credential does not say another.
	Scope Scope
	// Credentials maps access keys to secrets; with none signatures are not
	// verified. It does not change.
	Credentials map[string]string
	// Clock is that of the endpoint.
	Clock Clock
	// Bodies bounds what requests take of memory, and Answers what large
	// answers do. They are apart, because a request needs its body before it
	// can wait for the memory of its answer: in one budget, bodies could take
	// all of it and wait for each other.
	Bodies  *Bodies
	Answers *Budget
	// Faults are those that were injected.
	Faults Faults
	// Lifetime says when the endpoint is closed.
	Lifetime *Lifetime
	// Logger gets our own failures; nil discards them.
	Logger *slog.Logger

	rates   Rates
	lastKey atomic.Pointer[signingKey]
}

// Verifies reports whether signatures are verified, so that the caller of a
// request is who it says.
func (e *Env) Verifies() bool { return len(e.Credentials) > 0 }

// Operation is one of a service model.
type Operation struct {
	// Name is what clients call it, such as "PutRecords".
	Name string
	// Input is a structure.
	Input *Shape
	// Run carries the operation out and writes its answer to Call.Out; nothing
	// written is an empty body. It runs on the goroutine of the request.
	Run func(*Call) error
	// Fast reads the usual form of a body without building Params, and reports
	// whether it did. It must have checked the input as Validate does; false
	// leaves the rest of the work, and every error, to the general way. What it
	// has read does not refer to the body. Nil is always false.
	Fast func(*Call) bool
	// Lenient returns a shape that holds for a request in place of Input, which
	// it breaks, or nil for none: some members are required or not depending on
	// what the request is about. It must not answer what the caller may not know.
	Lenient func(*Call) *Shape
	// Rate is applied if the service has Rates set; nil for none.
	Rate *Rate
}

// Service is one AWS service: what its model says, and what a request needs to
// be carried out. It does not change while it is served.
type Service struct {
	// Name is that for which requests are signed, such as "kinesis".
	Name string
	// TargetPrefix begins X-Amz-Target, before the operation, with the dot. It is
	// empty for a service whose operations are not named by targets.
	TargetPrefix string
	// Namespace is that of the XML of answers, for a service that speaks Query.
	Namespace string
	// Version is that of the model, which requests of the query protocol name.
	Version string
	// Protocols are those that clients may speak.
	Protocols []*Protocol
	// Operations are those of the model, by name.
	Operations map[string]*Operation
	// Rates applies the rates of the operations.
	Rates bool
	// PresignedLife is how long requests live that were signed beforehand, if they
	// do not say less. With 0 they have to say it, and may say up to seven days.
	PresignedLife time.Duration

	// Begin makes a request, so that a service can keep more about one than a
	// Call does, in one allocation: its own type has a Call as a part and stands
	// in Session. Nil makes a plain Call.
	Begin func() *Call
	// Authorize decides whether the caller may do what is asked for. It is
	// called when the input is known to be valid and before anything is looked
	// for, so that a stranger does not learn what exists. Nil allows all.
	Authorize func(*Call) error
	// Resource returns the name of what a request is about, such as a stream,
	// for faults; nil if the service has none.
	Resource func(*Call) string
	// Throttled returns the error of a request that a fault throttles. It is
	// required.
	Throttled func(*Call) error
	// Explain turns an error of the service's domain into an answer; nil, as
	// the function or as its result, is a failure of ours, which is logged.
	Explain func(*Call, error) *Error
	// Done is called after the answer was sent; nil if there is nothing to do.
	Done func(*Call)

	Admin
}

// Queries reports whether the service speaks the query protocol, and no other.
func (s *Service) Queries() bool { return s.Protocols[0] == Query }

// Admin is what a service does for the admin paths. All of it may be nil.
type Admin struct {
	// Ready returns an error if the service cannot work.
	Ready func(context.Context) error
	// Reset deletes everything that the service keeps.
	Reset func(context.Context) error
	// Paths are those below /_shardlog/ that the service adds, by method and
	// path, such as "PUT limits". Decode reads the body, once.
	Paths map[string]func(ctx context.Context, env *Env, decode func(any) error) error
	// ReadFault reads a fault from the body of a request, and ShowFault returns
	// what is written as JSON of one; nil uses the form that all services have.
	ReadFault func(decode func(any) error) (Fault, error)
	ShowFault func(Fault) any
}

// Call is one request, from its bytes to its answer. It belongs to the
// goroutine of the request, and must not be used after the answer was sent.
type Call struct {
	Env     *Env
	Ctx     context.Context
	W       http.ResponseWriter
	R       *http.Request
	Service *Service
	// Origin is what a page is answered with as the one that may read the answer.
	Origin string
	// Op is nil until the operation is known.
	Op *Operation
	// Protocol is that of the request; before it is known, the one in which an
	// error is answered.
	Protocol *Protocol
	// Caller is the scope of the credential. It does not change.
	Caller Scope
	// Scope is what the request works in: that of the credential, until the
	// service finds that the request names another, which MayUse has to allow.
	Scope Scope
	// AccessKey is that of the credential. It was verified if the endpoint has
	// credentials.
	AccessKey string
	// Body may be referred to by the input, unless Fast has read it, and is valid
	// until Reply, ReleaseBody or RecycleBody was called.
	Body []byte
	// Form is the input of a request of the query protocol, from ReadForm.
	Form []byte
	// In is the input, unless Fast has read it.
	In Params
	// Out takes the answer.
	Out Encoder
	// Session is the service's own, see Service.Begin.
	Session any
	// Answered is set by an operation that has answered by itself through W.
	Answered bool

	body       Body
	loseAnswer bool // by a fault: the operation is done, the answer is not sent
}

// MayUse reports whether the caller may work in the account and the region of a
// scope, which a name or a token in the request has said. Where signatures are
// verified, a caller has its own account only, and a region is reached by
// signing for it.
func (c *Call) MayUse(s Scope) bool { return !c.Env.Verifies() || s == c.Caller }

// Now returns the time of the endpoint.
func (c *Call) Now() time.Time { return c.Env.Clock.Now() }

// ReadBody reads the body within the bounds of the endpoint. If status is not 0
// it is all there is to answer.
func (c *Call) ReadBody() (status int) {
	status = c.Env.Bodies.Read(c.W, c.R, &c.body)
	c.Body = c.body.Bytes
	return status
}

// ReleaseBody returns the memory of the body. It may be called more than once.
// A request that lasts calls it as soon as it does not need the input.
func (c *Call) ReleaseBody() {
	c.Body = nil
	c.body.Release()
}

// RecycleBody lets other requests use the memory of the body, which the input does
// not refer to. What the body takes of the bounds of the endpoint stays with the
// request, because the input takes about as much. The next requests are faster in
// memory that was used a moment ago than in that of requests which wait.
func (c *Call) RecycleBody() {
	c.Body = nil
	c.body.Recycle()
}

// Decode reads the input and checks it against the model.
func (c *Call) Decode() error {
	body := c.Body
	if c.Form != nil {
		body = c.Form
	}
	in, err := Decode(c.Protocol.Reader(body), c.Op.Input)
	if err != nil {
		return err
	}
	c.In = in
	err = Validate(c.Op.Input, in)
	if err != nil && c.Op.Lenient != nil {
		if s := c.Op.Lenient(c); s != nil {
			err = Validate(s, in)
		}
	}
	return err
}

// Run carries the operation out, once its input is known to be valid.
func (c *Call) Run() error {
	if c.Service.Authorize != nil {
		if err := c.Service.Authorize(c); err != nil {
			return err
		}
	}
	if err := c.injectWhole(); err != nil {
		return err
	}
	if c.Service.Rates {
		if err := c.Env.rates.admit(c); err != nil {
			return err
		}
	}
	err := c.Op.Run(c)
	if err == nil && c.loseAnswer {
		abort()
	}
	return err
}
