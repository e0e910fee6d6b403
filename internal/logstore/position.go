package logstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/block"
)

// isAggregate reports whether data begins like an aggregated record, inside of
// which a position can be.
func isAggregate(data []byte) bool {
	return len(data) >= len(shardlog.AggregateMagic) && string(data[:len(shardlog.AggregateMagic)]) == shardlog.AggregateMagic
}

// readStart is a resolved position: the counter of the first record to return.
type readStart struct {
	counter uint64
	// partial says that the record with the counter is returned only if it
	// is an aggregate: the position is inside it.
	partial bool
}

// resolve finds where a position is in a view.
func (s *Shard) resolve(v *view, from shardlog.Position) (readStart, error) {
	switch from.Kind() {
	case shardlog.KindTrimHorizon:
		return readStart{counter: v.horizon}, nil
	case shardlog.KindLatest:
		return readStart{counter: max(v.last+1, v.horizon)}, nil
	case shardlog.KindAtTime:
		c, err := s.atTime(v, from.Time())
		return readStart{counter: c}, err
	}
	seq := from.Sequence()
	if !s.owns(seq) {
		return readStart{}, s.foreign(from)
	}
	st := readStart{counter: counterOf(seq)}
	if from.Kind() == shardlog.KindAfter {
		if from.SubSequence() == shardlog.WholeRecord {
			st.counter++
		} else {
			st.partial = true
		}
	}
	if st.counter <= s.base {
		// The shard's own first number is a valid place to begin, and so is
		// everything below its records.
		st = readStart{counter: s.base + 1}
	}
	if st.counter < v.horizon {
		return readStart{}, s.trimmed(v, from, st.counter)
	}
	return st, nil
}

// foreign is the error for a position at a number that s cannot have given to a
// record: of another shard, of a stream that had the same name, or of another log.
func (s *Shard) foreign(from shardlog.Position) error {
	limit := fmt.Sprintf("a number of %s, created at %s", s.name, time.Unix(s.created, 0).UTC().Format(time.RFC3339))
	index, ok := from.Sequence().Shard()
	created, _ := from.Sequence().Created()
	if ok {
		limit += fmt.Sprintf("; this one is of %s, created at %s", shardlog.ShardID(index), created.UTC().Format(time.RFC3339))
	} else {
		limit += "; this one was not given out by a log of this kind"
	}
	return &shardlog.InvalidError{Field: "Position", Value: from.String(), Limit: limit}
}

func (s *Shard) trimmed(v *view, from shardlog.Position, counter uint64) error {
	return &shardlog.TrimmedError{From: from, Oldest: shardlog.At(s.sequence(v.horizon, v.lastMs)), Missed: v.horizon - counter}
}

// atTime returns the counter of the first record that arrived at t or later.
func (s *Shard) atTime(v *view, t time.Time) (uint64, error) {
	// A record's arrival is a whole millisecond, so t is rounded up to one.
	ms := t.UnixMilli()
	if time.UnixMilli(ms).Before(t) {
		ms++
	}
	e, m, ok := v.findTime(ms)
	if !ok {
		return max(v.last+1, v.horizon), nil
	}
	b, _, err := s.load(e, m, true)
	if errors.Is(err, errTrimmed) {
		return s.atTime(s.view(), t)
	}
	if err != nil {
		return 0, err
	}
	it, err := b.SeekTime(ms)
	if err != nil {
		return 0, s.corrupt(b.First, b.End(), err)
	}
	return max(it.Counter(), v.horizon), nil
}

// isRelative reports whether a position is wherever the records are that retention
// has left, so that none of them is missed there.
func isRelative(p shardlog.Position) bool {
	return p.Kind() == shardlog.KindTrimHorizon || p.Kind() == shardlog.KindAtTime
}

// isFuture reports whether a position is at a time to come: then nothing that is
// there, or comes until then, is behind it.
func isFuture(p shardlog.Position) bool {
	return p.Kind() == shardlog.KindAtTime && p.Time().After(time.Now())
}

// inside makes a position inside of a record one before it if it is an
// aggregate, and else one after it, because no part of it is left. A record
// that is not there yet is decided about later, and damage where it is read.
func (s *Shard) inside(v *view, st readStart) readStart {
	if !st.partial {
		return st
	}
	e, m, ok := v.find(st.counter)
	if !ok {
		return st
	}
	st.partial = false
	b, _, err := s.load(e, m, true)
	if err != nil {
		return st
	}
	var item block.Item
	it, err := b.Seek(st.counter)
	if err == nil {
		ok, err = it.Next(&item)
	}
	if err == nil && ok && item.Counter == st.counter && !isAggregate(item.Data) {
		st.counter++
	}
	return st
}
