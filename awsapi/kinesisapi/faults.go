package kinesisapi

import (
	"cmp"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
)

// Action is what an injected fault does.
type Action string

// The actions.
const (
	// Throttle refuses: ProvisionedThroughputExceededException for operations
	// on records, LimitExceededException for others.
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

// Fault says which requests are to fail and how. Its zero values match
// everything: a Fault with nothing but an Action fails every request.
type Fault struct {
	// ID is given by InjectFault.
	ID int `json:"id,omitempty"`
	// Operation, such as "PutRecords", and Stream, by name, choose requests.
	Operation string `json:"operation,omitempty"`
	Stream    string `json:"stream,omitempty"`
	// Shard chooses by shard ID: requests that read it, and of requests that
	// put records those records that go to it. Others of the same PutRecords
	// are stored.
	Shard string `json:"shard,omitempty"`
	// Records chooses records of PutRecords by index.
	Records []int `json:"records,omitempty"`

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
}

// local faults hit shards or records, not requests as a whole.
func (f *Fault) local() bool { return f.Shard != "" || len(f.Records) > 0 }

// injected is a fault with what it has counted.
type injected struct {
	Fault
	seen, hit int
	random    *rand.Rand
}

type faults struct {
	any       atomic.Bool // there are some
	perRecord atomic.Bool // there are some for records

	mu   sync.Mutex
	last int
	list []*injected
}

// InjectFault adds a fault and returns its ID. The error matches
// shardlog.ErrInvalid.
func (h *Handler) InjectFault(f Fault) (id int, err error) {
	bad := func(field string, value any, limit string) (int, error) {
		return 0, &shardlog.Error{Op: "inject fault", Err: &shardlog.InvalidError{Field: "Fault." + field, Value: value, Limit: limit}}
	}
	setDefault(&f.Rate, 1)
	switch {
	case !slices.Contains([]Action{Throttle, Internal, Latency, Drop, Lost}, f.Action):
		return bad("Action", string(f.Action), "throttle, internal, latency, drop or lost")
	case f.Operation != "" && operations[f.Operation] == nil:
		return bad("Operation", f.Operation, "an operation of Kinesis")
	case !(f.Rate > 0 && f.Rate <= 1):
		return bad("Rate", f.Rate, "above 0 and at most 1")
	case f.Skip < 0 || f.Count < 0 || f.Latency < 0:
		return bad("Skip, Count or Latency", min(f.Skip, f.Count, int(f.Latency)), "0 or more")
	case f.Shard != "":
		index, ok := shardIndex(f.Shard)
		if !ok {
			return bad("Shard", f.Shard, "a shard ID")
		}
		f.Shard = shardID(index)
	}
	f.Records = slices.Clone(f.Records)
	fs := &h.faults
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.last++
	f.ID = fs.last
	fs.list = append(fs.list, &injected{Fault: f, random: rand.New(rand.NewPCG(f.Seed, 0))})
	fs.changed()
	return f.ID, nil
}

// Faults returns the faults that are injected.
func (h *Handler) Faults() []Fault {
	h.faults.mu.Lock()
	defer h.faults.mu.Unlock()
	list := make([]Fault, len(h.faults.list))
	for i, f := range h.faults.list {
		list[i] = f.Fault
		list[i].Records = slices.Clone(f.Records)
	}
	return list
}

// ClearFaults removes the faults with the IDs, or all if there are none given.
func (h *Handler) ClearFaults(ids ...int) {
	h.faults.mu.Lock()
	defer h.faults.mu.Unlock()
	h.faults.list = slices.DeleteFunc(h.faults.list, func(f *injected) bool { return len(ids) == 0 || slices.Contains(ids, f.ID) })
	h.faults.changed()
}

// changed refreshes what is looked at without the lock.
func (fs *faults) changed() {
	fs.any.Store(len(fs.list) > 0)
	fs.perRecord.Store(slices.ContainsFunc(fs.list, func(f *injected) bool { return f.local() }))
}

// match returns the fault that is to happen now, if any.
func (fs *faults) match(fits func(*Fault) bool) *Fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.list {
		if !fits(&f.Fault) {
			continue
		}
		if f.seen++; f.seen <= f.Skip || f.Count > 0 && f.hit >= f.Count || f.Rate < 1 && f.random.Float64() >= f.Rate {
			continue
		}
		f.hit++
		hit := f.Fault
		return &hit
	}
	return nil
}

// inject lets the faults of whole requests happen.
func (c *call) inject() error {
	if !c.h.faults.any.Load() {
		return nil
	}
	name := c.requestStream()
	return c.happen(c.h.faults.match(func(f *Fault) bool {
		return !f.local() && (f.Operation == "" || f.Operation == c.op.name) && (f.Stream == "" || f.Stream == name)
	}), "")
}

// injectShard lets the faults of a shard happen to a request that reads it.
func (c *call) injectShard(s *streamState, id string) error {
	if !c.h.faults.perRecord.Load() {
		return nil
	}
	return c.happen(c.h.faults.match(func(f *Fault) bool {
		return f.Shard == id && len(f.Records) == 0 && (f.Operation == "" || f.Operation == c.op.name) && (f.Stream == "" || f.Stream == s.id.Name)
	}), id)
}

// injectRecord lets the faults of a shard or of a record happen to a record.
func (c *call) injectRecord(s *streamState, p *putInput, i int) error {
	if !c.h.faults.perRecord.Load() {
		return nil
	}
	id := s.shardOf(c, &p.records[i])
	return c.happen(c.h.faults.match(func(f *Fault) bool {
		return f.local() && (f.Operation == "" || f.Operation == c.op.name) && (f.Stream == "" || f.Stream == s.id.Name) &&
			(f.Shard == "" || f.Shard == id) && (len(f.Records) == 0 || slices.Contains(f.Records, i))
	}), id)
}

// shardOf returns the ID of the shard that a record goes to.
func (s *streamState) shardOf(c *call, r *shardlog.Record) string {
	key := r.ExplicitHashKey
	if !key.IsSet() {
		key = shardlog.KeyHash(r.PartitionKey)
	}
	all, _ := s.st.Shards(c.ctx) // if it fails, so does the put that follows
	for i := range all {
		if !all[i].Closed && key.Compare(all[i].HashStart) >= 0 && key.Compare(all[i].HashEnd) <= 0 {
			return all[i].ID
		}
	}
	return ""
}

// requestStream returns the name of the stream that a request is about.
func (c *call) requestStream() string {
	name, arn := "", ""
	if c.put != nil {
		name, arn = c.put.name, c.put.arn
	} else {
		name, arn = c.in.str("StreamName"), cmp.Or(c.in.str("StreamARN"), c.in.str("ResourceARN"), c.in.str("ConsumerARN"))
		if it, ok := c.h.openIterator(c.in.str("ShardIterator")); ok {
			return it.stream
		}
	}
	if p, ok := parseARN(arn); ok {
		return p.stream
	}
	return name
}

// happen carries a fault out; shard is empty where it hits a whole request.
func (c *call) happen(f *Fault, shard string) error {
	if f == nil {
		return nil
	}
	if f.Latency > 0 {
		timer := time.NewTimer(f.Latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.ctx.Done():
		case <-c.h.quit.Done():
		}
	}
	switch f.Action {
	case Throttle:
		name := c.requestStream()
		switch c.op.name {
		case "PutRecord", "PutRecords", "GetRecords", "GetShardIterator":
			if shard == "" {
				shard = shardID(0)
			}
			return fault(codeThroughput, "Rate exceeded for shard %s in stream %s under account %s.", shard, name, c.scope.account)
		}
		return c.rateExceeded(name)
	case Internal:
		return internalError()
	case Drop:
		abort()
	case Lost:
		c.loseAnswer = true
	}
	return nil
}

// abort closes the connection in place of an answer.
func abort() { panic(http.ErrAbortHandler) }
