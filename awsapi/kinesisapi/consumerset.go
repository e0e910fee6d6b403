package kinesisapi

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/shardlog/shardlog/internal/awswire"
)

// attrConsumer begins the attributes in which a stream's consumers are stored;
// the name follows.
const attrConsumer = "kinesis.consumer/"

// consumer is a registered one. It is not changed: it is replaced.
type consumer struct {
	Name    string            `json:"name"`
	Created int64             `json:"created"`         // Unix milliseconds
	Stamp   int64             `json:"stamp,omitempty"` // see stampSet; 0 is the second of the creation
	Tags    map[string]string `json:"tags,omitempty"`

	change *transition // nil for ACTIVE
}

// status returns the present state.
func (con *consumer) status(clock *awswire.Clock) string { return con.change.statusAt(clock) }

// gone reports whether the consumer was deregistered and that is complete.
func (con *consumer) gone(clock *awswire.Clock) bool {
	return con.status(clock) == statusDeleting && con.change.over(clock)
}

// suffix is how the ARN of the consumer ends.
func (con *consumer) suffix() string { return consumerSuffix(con.Name, con.stamp()) }

// stamp returns the number in the ARN of the consumer.
func (con *consumer) stamp() int64 { return cmp.Or(con.Stamp, con.Created/1000) }

// consumerSet has the consumers of a stream. It is safe for concurrent use;
// what it returns can be read without a lock, because consumers are replaced.
type consumerSet struct {
	mu     sync.Mutex
	byName map[string]*consumer
}

// loadConsumers returns the consumers that a stream's attributes say.
func loadConsumers(attributes map[string]string) map[string]*consumer {
	byName := map[string]*consumer{}
	for name, text := range attributes {
		var con consumer
		if strings.HasPrefix(name, attrConsumer) && json.Unmarshal([]byte(text), &con) == nil {
			byName[con.Name] = &con
		}
	}
	return byName
}

// list returns the consumers that are not gone, by name.
func (cs *consumerSet) list(clock *awswire.Clock) []*consumer {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	var all []*consumer
	for _, con := range cs.byName {
		if !con.gone(clock) {
			all = append(all, con)
		}
	}
	slices.SortFunc(all, func(a, b *consumer) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// find returns the consumer with a name, or nil.
func (cs *consumerSet) find(name string, clock *awswire.Clock) *consumer {
	con := cs.last(name)
	if con != nil && con.gone(clock) {
		return nil
	}
	return con
}

// findSuffix returns the consumer whose ARN ends so, or nil. The suffix has a
// stamp in it, so one that was registered again is not found.
func (cs *consumerSet) findSuffix(suffix string, clock *awswire.Clock) *consumer {
	name, _, _ := strings.Cut(suffix, ":")
	if con := cs.find(name, clock); con != nil && con.suffix() == suffix {
		return con
	}
	return nil
}

// last returns the consumer that had a name last, also if it is gone, or nil.
func (cs *consumerSet) last(name string) *consumer {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.byName[name]
}

// put adds a consumer, or replaces the one with its name.
func (cs *consumerSet) put(con *consumer) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.byName[con.Name] = con
}
