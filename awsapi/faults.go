package awsapi

import (
	"fmt"
	"slices"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// Fault says which requests are to fail and how, by what all services have. A
// service may have a form of its own that chooses more exactly, such as
// kinesisapi.Fault.
type Fault = awswire.Fault

// Action is what an injected fault does.
type Action = awswire.Action

// The actions.
const (
	Throttle = awswire.Throttle // refuses with the service's own error
	Internal = awswire.Internal // fails with InternalFailure, status 500
	Latency  = awswire.Latency  // only delays
	Drop     = awswire.Drop     // closes the connection before anything is done
	Lost     = awswire.Lost     // does what was asked for and closes the connection then
)

// Injectable is a Fault, or a service's own form of one.
type Injectable interface {
	// ToFault returns the form that all services have. The error matches
	// shardlog.ErrInvalid.
	ToFault() (Fault, error)
}

// InjectFault adds a fault and returns its ID. One that names no service is of
// the first. The error matches shardlog.ErrInvalid.
func (e *Endpoint) InjectFault(f Injectable) (id int, err error) {
	common, err := f.ToFault()
	if err == nil {
		err = e.checkFault(&common)
	}
	if err != nil {
		return 0, &shardlog.Error{Op: "inject fault", Err: err}
	}
	return e.env.Faults.Inject(common), nil
}

// checkFault fills in what a fault leaves to be chosen, and checks it.
func (e *Endpoint) checkFault(f *Fault) error {
	bad := func(field string, value any, limit string) error {
		return &shardlog.InvalidError{Field: "Fault." + field, Value: value, Limit: limit}
	}
	s := e.service(f.Service)
	if s == nil {
		return bad("Service", f.Service, "a service of the endpoint")
	}
	f.Service = s.Name
	if f.Rate == 0 {
		f.Rate = 1
	}
	switch {
	case !slices.Contains(awswire.Actions, f.Action):
		return bad("Action", string(f.Action), "throttle, internal, latency, drop or lost")
	case f.Operation != "" && s.Operations[f.Operation] == nil:
		return bad("Operation", f.Operation, fmt.Sprintf("an operation of %s", s.Name))
	case !(f.Rate > 0 && f.Rate <= 1):
		return bad("Rate", f.Rate, "above 0 and at most 1")
	case f.Skip < 0 || f.Count < 0 || f.Latency < 0:
		return bad("Skip, Count or Latency", min(f.Skip, f.Count, int(f.Latency)), "0 or more")
	}
	return nil
}

// service returns the service with a name, the first if it is empty, or nil.
func (e *Endpoint) service(name string) *Service {
	for _, s := range e.services {
		if name == "" || s.Name == name {
			return s
		}
	}
	return nil
}

// Faults returns the faults that are injected, those of services in the form
// that all have, with what the service adds in Part.
func (e *Endpoint) Faults() []Fault { return e.env.Faults.List() }

// ClearFaults removes the faults with the IDs, or all if there are none given.
func (e *Endpoint) ClearFaults(ids ...int) { e.env.Faults.Clear(ids...) }
