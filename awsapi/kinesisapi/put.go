package kinesisapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// fastPut reads the input of PutRecord or PutRecords in the fast way.
func fastPut(c *call, single bool) bool {
	c.put = readPut(c.Protocol.Format, c.Body, single)
	return c.put != nil
}

// generalPut makes a putInput of what the general way has decoded.
func generalPut(c *call) (*putInput, error) {
	p := &putInput{name: c.In.Text("StreamName"), arn: c.In.Text("StreamARN")}
	entries := awswire.Get[[]any](c.In, "Records")
	if c.Op.Name == "PutRecord" {
		entries = []any{c.In}
	}
	for _, e := range entries {
		e, _ := e.(awswire.Params) // validation has refused null
		r := shardlog.Record{PartitionKey: e.Text("PartitionKey"), Data: awswire.Get[[]byte](e, "Data")}
		if given := e.Text("ExplicitHashKey"); given != "" {
			key, err := shardlog.ParseHashKey(given)
			if err != nil {
				return nil, invalid("Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was %s", given)
			}
			r.ExplicitHashKey = key
		}
		p.records = append(p.records, r)
	}
	return p, nil
}

// streamToPut finds the stream to put to, and checks the sizes of the records
// against its limit, which the model does not know.
func streamToPut(c *call) (*streamState, *putInput, error) {
	p := c.put
	var s *streamState
	var err error
	if p != nil {
		s, err = c.readable(p.name, p.arn)
	} else if s, err = c.readable(c.In.Text("StreamName"), c.In.Text("StreamARN")); err == nil {
		p, err = generalPut(c)
	}
	if err != nil {
		return nil, nil, err
	}
	most, total := s.st.Info().MaxRecordSize, 0
	for i := range p.len() {
		data, key := p.sizes(i)
		total += data + key
		if data > most {
			at := "data"
			if c.Op.Name == "PutRecords" {
				at = fmt.Sprintf("records.%d.member.data", i+1)
			}
			return nil, nil, awswire.Errorf(awswire.CodeValidation, "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=%d cap=%[1]d]' at '%s' failed to satisfy constraint: "+
				"Member must have length less than or equal to %d", data, at, most)
		}
		if n := data + key; n > most {
			return nil, nil, invalid("Record size of %d bytes, data and partition key, exceeds the limit of %d bytes.", n, most)
		}
	}
	if total > shardlog.MaxRequestBytes && p.len() > 1 {
		return nil, nil, invalid("Records size exceeds 10 MB limit")
	}
	return s, p, nil
}

// orderingFits reports whether a SequenceNumberForOrdering is one that can have
// been given out by now. What the stream itself has given out is, even if the
// machine's clock was ahead then.
func orderingFits(ctx context.Context, s *streamState, text string, latest time.Time) bool {
	n, ok := readNumber(text)
	if !ok || n.arrival <= latest.Unix() {
		return ok
	}
	seq, err := shardlog.ParseSequenceNumber(text)
	if err != nil || n.shard < 0 {
		return false
	}
	sh, err := s.st.Shard(shardID(uint32(n.shard)))
	if err != nil {
		return false
	}
	info, err := sh.Info(ctx)
	return err == nil && createdOf(info.First) == n.created && seq.Compare(info.LastRecord) <= 0
}

// putRecord carries out PutRecord. SequenceNumberForOrdering has no effect beyond
// its check: records of a shard are ordered anyway.
func putRecord(c *call) error {
	s, p, err := streamToPut(c)
	if err != nil {
		return err
	}
	p.unpack()
	given := c.In.Text("SequenceNumberForOrdering")
	if given != "" && s.settings.Load().Strategy == strategyAuto {
		return invalid("SequenceNumberForOrdering must not be specified for stream %s under account %s, whose record distribution strategy is %s.", c.name, c.Scope.Account, strategyAuto)
	}
	if given != "" {
		if !orderingFits(c.Ctx, s, given, c.Clock().Latest()) {
			n, _ := readNumber(given)
			return invalid("ExclusiveMinimumSequenceNumber %s used in PutRecord on stream %s under account %s is invalid.", n.text, c.name, c.Scope.Account)
		}
	}
	if err := s.distribute(c, p); err != nil { // which checks as well
		return err
	}
	if err := dryRun(c); err != nil {
		return err
	}
	if e := injectRecord(c, s, p, 0); e != nil {
		return e
	}
	res, err := s.st.Put(c.Ctx, p.records[0])
	if err != nil {
		return err
	}
	e := &c.Out
	e.Open()
	e.TextField("ShardId", res.ShardID)
	e.Key("SequenceNumber")
	writeSequence(e, res.Sequence)
	e.OptionalText("EncryptionType", s.encryptionNow(c.Ctx).ofNumber(res.Sequence))
	e.Close()
	return nil
}

// putRecords carries out PutRecords. A record that is refused does not fail the
// request; its entry says why.
func putRecords(c *call) error {
	s, p, err := streamToPut(c)
	if err != nil {
		return err
	}
	if err := s.distribute(c, p); err != nil { // which checks as well
		return err
	}
	if err := dryRun(c); err != nil {
		return err
	}
	res, err := putGood(c, s, p)
	if err != nil {
		return err
	}
	failed := int64(0)
	for i := range res {
		if res[i].Err != nil {
			failed++
		}
	}
	e := &c.Out
	e.Buf = slices.Grow(e.Buf, 128*(len(res)+1))
	e.Open()
	e.IntField("FailedRecordCount", failed)
	e.Key("Records")
	e.List()
	var stored storedEntries
	for i := range res {
		if res[i].Err != nil {
			f := entryError(c, res[i].Err)
			e.Open()
			e.TextField("ErrorCode", f.Code)
			e.TextField("ErrorMessage", f.Message)
			e.Close()
			continue
		}
		stored.write(e, &res[i])
	}
	e.EndList()
	e.OptionalText("EncryptionType", s.encryptionNow(c.Ctx).ofFirst(res))
	e.Close()
	return nil
}

// putGood puts those records for which no fault is injected.
func putGood(c *call, s *streamState, p *putInput) ([]shardlog.PutResult, error) {
	if c.Env.Faults.HaveParts() {
		p.unpack()
		return putSpared(c, s, p)
	}
	if p.records != nil {
		return s.st.PutRecords(c.Ctx, p.records)
	}
	res := p.run.results()
	return res, s.st.PutEncoded(c.Ctx, &p.run, res)
}

// putSpared is putGood where there are faults of parts of requests.
func putSpared(c *call, s *streamState, p *putInput) ([]shardlog.PutResult, error) {
	all := make([]shardlog.PutResult, len(p.records))
	var good []shardlog.Record
	var index []int
	for i := range p.records {
		if e := injectRecord(c, s, p, i); e != nil {
			all[i].Err = e
			continue
		}
		good, index = append(good, p.records[i]), append(index, i)
	}
	if len(good) == 0 {
		return all, nil
	}
	res, err := s.st.PutRecords(c.Ctx, good)
	if err != nil {
		return nil, err
	}
	for i, j := range index {
		all[j] = res[i]
	}
	return all, nil
}

// entryError returns what the entry of a record says that was not stored.
func entryError(c *call, err error) *awswire.Error {
	var e *awswire.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, shardlog.ErrThroughputExceeded):
		return shardThrottled(c.Scope, shardOf(err), c.name)
	}
	return awswire.InternalError()
}
