package kinesisapi

import (
	"cmp"
	"slices"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/awsapi"
	"github.com/shardlog/shardlog/internal/awswire"
)

// Action is what an injected fault does. Throttle refuses with
// ProvisionedThroughputExceededException operations on records, and with
// LimitExceededException others.
type Action = awsapi.Action

// The actions, which are those of package awsapi.
const (
	Throttle = awsapi.Throttle // refuses
	Internal = awsapi.Internal // fails with InternalFailure, status 500
	Latency  = awsapi.Latency  // only delays, by Fault.Latency
	Drop     = awsapi.Drop     // closes the connection before anything is done
	Lost     = awsapi.Lost     // does what was asked for and closes the connection then
)

// Fault says which requests are to fail and how. Its zero values match
// everything: a Fault with nothing but an Action fails every request. Beyond
// what awsapi.Fault chooses by, it chooses shards and records.
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

// faultPart is what Kinesis adds to a fault: the shards or records it hits.
type faultPart struct {
	shard   string
	records []int
}

// ToFault implements awsapi.Injectable.
func (f Fault) ToFault() (awsapi.Fault, error) {
	c := awsapi.Fault{ID: f.ID, Service: serviceName, Operation: f.Operation, Resource: f.Stream, Action: f.Action,
		Latency: f.Latency, Skip: f.Skip, Count: f.Count, Rate: f.Rate, Seed: f.Seed}
	if f.Shard != "" {
		index, ok := shardIndex(f.Shard)
		if !ok {
			return c, &shardlog.InvalidError{Field: "Fault.Shard", Value: f.Shard, Limit: "a shard ID"}
		}
		f.Shard = shardID(index)
	}
	if f.Shard != "" || len(f.Records) > 0 {
		c.Part = faultPart{f.Shard, slices.Clone(f.Records)}
	}
	return c, nil
}

// faultOf is the inverse of ToFault.
func faultOf(c awsapi.Fault) Fault {
	f := Fault{ID: c.ID, Operation: c.Operation, Stream: c.Resource, Action: c.Action,
		Latency: c.Latency, Skip: c.Skip, Count: c.Count, Rate: c.Rate, Seed: c.Seed}
	if part, ok := c.Part.(faultPart); ok {
		f.Shard, f.Records = part.shard, slices.Clone(part.records)
	}
	return f
}

// faultText is a Fault whose latency is text, such as "100ms".
type faultText struct {
	Fault
	Latency awswire.Duration `json:"latency,omitempty"`
}

// readFault reads a fault from the body of an admin request.
func readFault(decode func(any) error) (awsapi.Fault, error) {
	var f faultText
	if err := decode(&f); err != nil {
		return awsapi.Fault{}, err
	}
	f.Fault.Latency = time.Duration(f.Latency)
	return f.Fault.ToFault()
}

// showFault returns a fault in the form in which readFault reads it.
func showFault(f awsapi.Fault) any { return faultText{faultOf(f), awswire.Duration(f.Latency)} }

// throttled returns the error of a fault that throttles. AWS names a shard where
// the operation is about records; a fault that hits a whole request has none,
// and gets the first one.
func throttled(c *call, shard string) error {
	switch c.Op.Name {
	case "PutRecord", "PutRecords", "GetRecords", "GetShardIterator":
		return shardThrottled(c.Scope, cmp.Or(shard, shardID(0)), c.requestedStream())
	}
	return callThrottled(c.Scope, c.requestedStream())
}

// injectShard lets the faults of a shard happen to a request that reads it.
func injectShard(c *call, s *streamState, id string) error {
	if !c.Env.Faults.HaveParts() {
		return nil
	}
	return c.InjectPart(s.id.Name, func(part any) bool {
		p, ok := part.(faultPart)
		return ok && p.shard == id && len(p.records) == 0
	}, func() error { return throttled(c, id) })
}

// injectRecord lets the faults of a shard or of a record happen to a record.
func injectRecord(c *call, s *streamState, p *putInput, i int) error {
	if !c.Env.Faults.HaveParts() {
		return nil
	}
	id := shardOfRecord(c, s, &p.records[i])
	return c.InjectPart(s.id.Name, func(part any) bool {
		p, ok := part.(faultPart)
		return ok && (p.shard == "" || p.shard == id) && (len(p.records) == 0 || slices.Contains(p.records, i))
	}, func() error { return throttled(c, id) })
}

// shardOfRecord returns the ID of the shard that a record goes to.
func shardOfRecord(c *call, s *streamState, r *shardlog.Record) string {
	key := r.ExplicitHashKey
	if !key.IsSet() {
		key = shardlog.KeyHash(r.PartitionKey)
	}
	all, _ := s.st.Shards(c.Ctx) // if it fails, so does the put that follows
	for i := range all {
		if !all[i].Closed && key.Compare(all[i].HashStart) >= 0 && key.Compare(all[i].HashEnd) <= 0 {
			return all[i].ID
		}
	}
	return ""
}
