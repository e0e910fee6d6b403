package awswire

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Action is what an injected fault does.
type Action string

// The actions.
const (
	// Throttle refuses with the error that the service has for it.
	Throttle Action = "throttle"
	// Internal fails with InternalFailure, status 500.
	Internal Action = "internal"
	// Latency only delays, by Fault.Latency.
	Latency Action = "latency"
	// Drop closes the connection before anything is done.
	Drop Action = "drop"
	// Lost does what was asked for and closes the connection then, so that the
	// client does not learn of it.
	Lost Action = "lost"
)

// Actions are all of them.
var Actions = []Action{Throttle, Internal, Latency, Drop, Lost}

// Fault says which requests are to fail and how. Its zero values match
// everything of its service.
type Fault struct {
	// ID is given when it is injected, and unique within an endpoint.
	ID int `json:"id,omitempty"`
	// Service is the service's name, such as "kinesis".
	Service string `json:"service,omitempty"`
	// Operation, such as "PutRecords", and Resource, such as the name of a
	// stream, choose requests.
	Operation string `json:"operation,omitempty"`
	Resource  string `json:"resource,omitempty"`

	// Action is what happens. It is required.
	Action Action `json:"action"`
	// Latency is waited before, whatever the Action, in nanoseconds.
	Latency time.Duration `json:"latency,omitempty"`

	// Skip is how many matches are let pass first; Count is how many fail
	// after those, 0 for all.
	Skip  int `json:"skip,omitempty"`
	Count int `json:"count,omitempty"`
	// Rate is the part of the matches that fail, above 0 and up to 1, chosen
	// by a random sequence that begins with Seed. Defaults to 1.
	Rate float64 `json:"rate,omitempty"`
	Seed uint64  `json:"seed,omitempty"`

	// Part is a selector that a service adds, for a fault that hits parts of
	// requests, such as records. Nil hits requests as a whole.
	Part any `json:"-"`
}

// matches compares the selectors that all services have.
func (f *Fault) matches(service, op, resource string) bool {
	return f.Service == service && (f.Operation == "" || f.Operation == op) && (f.Resource == "" || f.Resource == resource)
}

// injected is a fault with what it has counted.
type injected struct {
	Fault
	seen, hits int
	random     *rand.Rand
}

// Faults are those of an endpoint. The zero value has none. It is safe for
// concurrent use.
type Faults struct {
	// Requests look at these without the lock, because there are no faults
	// nearly always. They change under mu.
	any, parts atomic.Bool

	mu   sync.Mutex
	last int
	list []*injected
}

// Inject adds a fault, which was checked, and returns its ID.
func (fs *Faults) Inject(f Fault) (id int) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.last++
	f.ID = fs.last
	fs.list = append(fs.list, &injected{Fault: f, random: rand.New(rand.NewPCG(f.Seed, 0))})
	fs.summarize()
	return f.ID
}

// List returns the faults in the order in which they were injected.
func (fs *Faults) List() []Fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	list := make([]Fault, len(fs.list))
	for i, f := range fs.list {
		list[i] = f.Fault
	}
	return list
}

// Clear removes the faults with the IDs, or all if there are none given.
func (fs *Faults) Clear(ids ...int) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = slices.DeleteFunc(fs.list, func(f *injected) bool { return len(ids) == 0 || slices.Contains(ids, f.ID) })
	fs.summarize()
}

// summarize refreshes any and parts; mu is held.
func (fs *Faults) summarize() {
	fs.any.Store(len(fs.list) > 0)
	fs.parts.Store(slices.ContainsFunc(fs.list, func(f *injected) bool { return f.Part != nil }))
}

// HaveParts reports whether any fault has a Part, without which a service need
// not look at the parts of its requests.
func (fs *Faults) HaveParts() bool { return fs.parts.Load() }

// next returns the fault that is to happen now, or nil, and counts it.
func (fs *Faults) next(fits func(*Fault) bool) *Fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.list {
		if !fits(&f.Fault) {
			continue
		}
		if f.seen++; f.seen <= f.Skip || f.Count > 0 && f.hits >= f.Count || f.Rate < 1 && f.random.Float64() >= f.Rate {
			continue
		}
		f.hits++
		hit := f.Fault
		return &hit
	}
	return nil
}

// injectWhole lets the faults of whole requests happen.
func (c *Call) injectWhole() error {
	fs := &c.Env.Faults
	if !fs.any.Load() {
		return nil
	}
	resource := ""
	if c.Service.Resource != nil {
		resource = c.Service.Resource(c)
	}
	f := fs.next(func(f *Fault) bool { return f.Part == nil && f.matches(c.Service.Name, c.Op.Name, resource) })
	return c.happen(f, func() error { return c.Service.Throttled(c) })
}

// InjectPart lets a fault happen that has a Part and is about a resource. Fits
// reports whether a Part selects the part of the request that is at hand;
// throttled returns the error of Throttle.
func (c *Call) InjectPart(resource string, fits func(part any) bool, throttled func() error) error {
	f := c.Env.Faults.next(func(f *Fault) bool {
		return f.Part != nil && f.matches(c.Service.Name, c.Op.Name, resource) && fits(f.Part)
	})
	return c.happen(f, throttled)
}

// happen carries a fault out; nil is none.
func (c *Call) happen(f *Fault, throttled func() error) error {
	if f == nil {
		return nil
	}
	c.delay(f.Latency)
	switch f.Action {
	case Throttle:
		return throttled()
	case Internal:
		return InternalError()
	case Drop:
		abort()
	case Lost:
		c.loseAnswer = true
	}
	return nil
}

// delay waits, unless the client or the endpoint is gone.
func (c *Call) delay(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.Ctx.Done():
	case <-c.Env.Lifetime.Context().Done():
	}
}

// abort closes the connection in place of an answer.
func abort() { panic(http.ErrAbortHandler) }

// ToFault returns f.
func (f Fault) ToFault() (Fault, error) { return f, nil }
