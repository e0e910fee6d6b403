package producer

import (
	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
)

// entry is one record from the call that put it to its result. It is in one
// place at a time, which state names. All its fields are guarded by
// Producer.mu, except that a sender reads what it encodes without it: key,
// hashKey, data and extras do not change while the entry is in a request.
type entry struct {
	key     string
	hashKey shardlog.HashKey // the record's own, or where it belongs: see explicit
	data    []byte
	chunk   *chunk  // the reusable memory that data is in; nil for other data
	extras  *extras // nil for most
	size    int     // bytes of data, key and headers
	hash    uint64  // of the partition key; names the key queue
	seq     uint64  // in the order of acceptance, from 1
	born    int64   // when it was accepted

	state         entryState
	inDoubt       bool  // an attempt ended in an unknown outcome
	explicit      bool  // hashKey was given by the caller
	keyless       bool  // may go to any shard; key and hashKey are made up
	notAggregated bool  // goes alone
	attempts      int32 // how often it was sent
	maxSlots      int32 // the largest request that it may be in; 0 for any

	queue      *keyQueue // of its key, while it is in a request; nil where that has none
	carrier    *request  // refers to the entry, even after an early result
	nextInSlot *entry    // the next one in its aggregate

	recipient
	outcome outcome // its Attempts are collected from the first failure on

	admit chan error // of a call that waits for room; gets one value

	in             *list // the list that prev and next belong to
	prev, next     *entry
	older, younger *entry // in the ageList
}

// recipient is who gets the result of a record: a waiter, a callback, or nobody.
type recipient struct {
	waiter   *waiter
	outIndex int // in waiter.out
	callback func(Result, error)
}

// setRecipient says who gets the result of e.
func (e *entry) setRecipient(to recipient) {
	e.recipient = to
	if w := to.waiter; w != nil {
		w.entries[to.outIndex] = e
	}
}

// extras is what few records have.
type extras struct {
	headers []shardlog.Header
	dedupID string
}

func (e *entry) headers() []shardlog.Header {
	if e.extras == nil {
		return nil
	}
	return e.extras.headers
}

func (e *entry) dedupID() string {
	if e.extras == nil {
		return ""
	}
	return e.extras.dedupID
}

// asUserRecord returns the entry as a part of an aggregate.
func (e *entry) asUserRecord() kpl.UserRecord {
	r := kpl.UserRecord{PartitionKey: e.key, Data: e.data, Headers: e.headers()}
	if e.explicit || e.keyless {
		r.HashKey = e.hashKey
	}
	return r
}

// lastCause returns the error of the last attempt; nil if none has failed.
func (e *entry) lastCause() error {
	if list := e.outcome.res.Attempts; len(list) > 0 {
		return list[len(list)-1].Err
	}
	return nil
}

// entryState says where an entry is.
type entryState uint8

const (
	awaitsRoom   entryState = iota // in buffer.waiting, not accepted yet
	queued                         // in buffer.ready or in a key queue
	inRequest                      // in a request at the sink
	awaitsResend                   // in a request in doubt, which will be sent again
	resultHeld                     // in a key queue with its result, behind an entry that has none
	decided                        // has its result
)

// outcome is the result of an entry.
type outcome struct {
	set bool
	res Result
	err error
}

// deliver stores the result of e in to.
func (e *entry) deliver(to *outcome, res *Result, err error) {
	attempts := e.outcome.res.Attempts
	to.set, to.res, to.err = true, *res, err
	to.res.Sends = int(e.attempts)
	if to.res.Attempts == nil {
		to.res.Attempts = attempts
	}
}

// waiter is a call of Put or PutBatch that waits for the results of its
// records.
type waiter struct {
	ch      chan struct{} // gets one value when left has become 0
	left    int
	out     []outcome
	entries []*entry // of the records without a result that are in no page
	next    *waiter  // in effects.notify

	// What out and entries of a Put refer to, so that it allocates nothing.
	one      [1]outcome
	oneEntry [1]*entry
}
