package kinesisapi

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/shardlog/shardlog"
)

// putInput is what PutRecord and PutRecords ask for. The records may refer to
// the call's body and arena.
type putInput struct {
	name, arn string
	records   []shardlog.Record
}

// maxRequestBytes is how much data and keys a PutRecords may carry (API
// reference).
const maxRequestBytes = 10 << 20

// slowPut makes a putInput of what the general way has decoded.
func (c *call) slowPut() (*putInput, error) {
	p := &putInput{name: c.in.str("StreamName"), arn: c.in.str("StreamARN")}
	entries := get[[]any](c.in, "Records")
	if c.op.name == "PutRecord" {
		entries = []any{c.in}
	}
	for _, e := range entries {
		e, _ := e.(params) // a null was refused
		r := shardlog.Record{PartitionKey: e.str("PartitionKey"), Data: get[[]byte](e, "Data")}
		if given := e.str("ExplicitHashKey"); given != "" {
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

// target finds the stream to put to, and checks the sizes of the records.
func (c *call) target() (*streamState, *putInput, error) {
	p := c.put
	var s *streamState
	var err error
	if p != nil {
		s, err = c.readable(p.name, p.arn)
	} else if s, err = c.readable(c.in.str("StreamName"), c.in.str("StreamARN")); err == nil {
		p, err = c.slowPut()
	}
	if err != nil {
		return nil, nil, err
	}
	most, total := s.st.Info().MaxRecordSize, 0
	for i := range p.records {
		r := &p.records[i]
		total += len(r.Data) + len(r.PartitionKey)
		if len(r.Data) > most {
			at := "data"
			if c.op.name == "PutRecords" {
				at = fmt.Sprintf("records.%d.member.data", i+1)
			}
			return nil, nil, fault(codeValidation, "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=%d cap=%[1]d]' at '%s' failed to satisfy constraint: "+
				"Member must have length less than or equal to %d", len(r.Data), at, most)
		}
		if n := len(r.Data) + len(r.PartitionKey); n > most {
			return nil, nil, invalid("Record size of %d bytes, data and partition key, exceeds the limit of %d bytes.", n, most)
		}
	}
	if total > maxRequestBytes && len(p.records) > 1 {
		return nil, nil, invalid("Records size exceeds 10 MB limit")
	}
	return s, p, nil
}

func putRecord(c *call) error {
	s, p, err := c.target()
	if err != nil {
		return err
	}
	if given := c.in.str("SequenceNumberForOrdering"); given != "" {
		seq, err := shardlog.ParseSequenceNumber(given)
		arrival, ours := seq.Arrival()
		if err != nil || !ours || arrival.After(c.h.now()) {
			return invalid("ExclusiveMinimumSequenceNumber %s used in PutRecord on stream %s under account %s is invalid.", given, c.name, c.scope.account)
		}
	}
	if e := c.injectRecord(s, p, 0); e != nil {
		return e
	}
	res, err := s.st.Put(c.ctx, p.records[0])
	if err != nil {
		return err
	}
	e := &c.out
	e.open()
	e.strField("ShardId", res.ShardID)
	e.key("SequenceNumber")
	e.sequence(res.Sequence)
	e.optional("EncryptionType", s.settings.Load().Encryption)
	e.close()
	return nil
}

func putRecords(c *call) error {
	s, p, err := c.target()
	if err != nil {
		return err
	}
	res, err := c.store(s, p)
	if err != nil {
		return err
	}
	failed := int64(0)
	for i := range res {
		if res[i].Err != nil {
			failed++
		}
	}
	e := &c.out
	e.open()
	e.intField("FailedRecordCount", failed)
	e.key("Records")
	e.list()
	for i := range res {
		e.open()
		if err := res[i].Err; err != nil {
			f := c.recordFault(err)
			e.strField("ErrorCode", f.code)
			e.strField("ErrorMessage", f.message)
		} else {
			e.key("SequenceNumber")
			e.sequence(res[i].Sequence)
			e.strField("ShardId", res[i].ShardID)
		}
		e.close()
	}
	e.endList()
	e.optional("EncryptionType", s.settings.Load().Encryption)
	e.close()
	return nil
}

// store puts the records that no fault was injected for.
func (c *call) store(s *streamState, p *putInput) ([]shardlog.PutResult, error) {
	if !c.h.faults.perRecord.Load() {
		return s.st.PutRecords(c.ctx, p.records)
	}
	all := make([]shardlog.PutResult, len(p.records))
	var good []shardlog.Record
	var index []int
	for i := range p.records {
		if e := c.injectRecord(s, p, i); e != nil {
			all[i].Err = e
			continue
		}
		good, index = append(good, p.records[i]), append(index, i)
	}
	if len(good) == 0 {
		return all, nil
	}
	res, err := s.st.PutRecords(c.ctx, good)
	if err != nil {
		return nil, err
	}
	for i, j := range index {
		all[j] = res[i]
	}
	return all, nil
}

// recordFault is what the entry of a record that was not stored says.
func (c *call) recordFault(err error) *apiError {
	var e *apiError
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, shardlog.ErrThroughputExceeded):
		return fault(codeThroughput, "Rate exceeded for shard %s in stream %s under account %s.", shardOf(err), c.name, c.scope.account)
	}
	return internalError()
}

// start is a place in a shard that a request names by type.
type start struct {
	kind   string
	number string
	at     time.Time
	hasAt  bool
}

// position checks a start, and makes of it a place that stays.
func (c *call) position(s *streamState, id string, index uint32, p start) (shardlog.Position, error) {
	var from shardlog.Position
	switch p.kind {
	case "TRIM_HORIZON", "LATEST":
		if p.number != "" {
			return from, invalid("Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and "+
				"no StartingSequenceNumber. Request specified %s and also a StartingSequenceNumber.", p.kind)
		}
		if p.kind == "LATEST" {
			from = shardlog.Latest()
		}
	case "AT_TIMESTAMP":
		now := c.h.now()
		if !p.hasAt {
			return from, invalid("Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.")
		}
		if p.at.After(now) {
			return from, invalid("The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: %d, currentTimestampInMillis: %d",
				p.at.UnixMilli(), now.UnixMilli())
		}
		from = shardlog.AtTime(p.at)
	default:
		if p.number == "" {
			return from, invalid("Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and "+
				"no StartingSequenceNumber. Request specified %s and no StartingSequenceNumber.", p.kind)
		}
		return c.atNumber(s, id, index, p)
	}
	fixed, err := s.st.Resolve(c.ctx, id, from)
	if errors.Is(err, shardlog.ErrNotFound) {
		return from, c.scope.missingShard(id, c.name)
	}
	if p.kind != "LATEST" && (err == nil || errors.Is(err, shardlog.ErrCorrupt)) {
		return from, nil // found anew when it is read
	}
	return fixed, err
}

// atNumber checks a sequence number against the shard that it is used on.
func (c *call) atNumber(s *streamState, id string, index uint32, p start) (shardlog.Position, error) {
	var from shardlog.Position
	where := fmt.Sprintf("StartingSequenceNumber %s used in %s on shard %s in stream %s under account %s is invalid", p.number, c.op.name, id, c.name, c.scope.account)
	seq, err := shardlog.ParseSequenceNumber(p.number)
	shard, ours := seq.Shard()
	if err != nil || !ours {
		if _, e := s.st.Resolve(c.ctx, id, from); errors.Is(e, shardlog.ErrNotFound) {
			return from, c.scope.missingShard(id, c.name)
		}
		return from, invalid("%s.", where)
	}
	from = shardlog.At(seq)
	if p.kind == "AFTER_SEQUENCE_NUMBER" {
		from = shardlog.After(seq)
	}
	_, err = s.st.Resolve(c.ctx, id, from)
	switch {
	case errors.Is(err, shardlog.ErrNotFound):
		return from, c.scope.missingShard(id, c.name)
	case shard != index:
		return from, invalid("Invalid StartingSequenceNumber. It encodes %s, while it was used in a call to a shard with %s", shardID(shard), id)
	case errors.Is(err, shardlog.ErrInvalid):
		return from, invalid("%s because it did not come from this stream.", where)
	case errors.Is(err, shardlog.ErrExpired):
		return shardlog.TrimHorizon(), nil
	case errors.Is(err, shardlog.ErrCorrupt):
		err = nil // it is for the reader to see
	}
	return from, err
}

func getShardIterator(c *call) error {
	if err := c.resolvable(c.in.str("ShardId")); err != nil {
		return err
	}
	id, index, _ := c.resolveShard(c.in.str("ShardId"), "")
	s, err := c.readable(c.in.str("StreamName"), c.in.str("StreamARN"))
	if isNotFound(err) && c.name != "" {
		return c.scope.missingShard(id, c.name)
	}
	if err != nil {
		return err
	}
	p := start{kind: c.in.str("ShardIteratorType"), number: c.in.str("StartingSequenceNumber"), at: get[time.Time](c.in, "Timestamp"), hasAt: c.in.has("Timestamp")}
	from, err := c.position(s, id, index, p)
	if err != nil {
		return err
	}
	c.out.open()
	c.out.strField("ShardIterator", c.next(s, index, from))
	c.out.close()
	return nil
}

// next seals a new iterator.
func (c *call) next(s *streamState, index uint32, from shardlog.Position) string {
	return c.h.sealIterator(&iterator{made: c.h.now(), account: c.scope.account, region: c.scope.region, stream: c.name,
		created: s.st.Info().Created.UnixMilli(), shard: index, from: from})
}

// javaDate is the form of java.util.Date.
const javaDate = "Mon Jan 02 15:04:05 UTC 2006"

func getRecords(c *call) error {
	it, ok := c.h.openIterator(c.in.str("ShardIterator"))
	now := c.h.now()
	if !ok || it.made.After(now.Add(time.Second)) {
		return invalid("Invalid ShardIterator.")
	}
	if life := c.h.opts.IteratorLife; now.Sub(it.made) > life {
		return fault("ExpiredIteratorException", "Iterator expired. The iterator was created at time %s while right now it is %s which is further in the future than the "+
			"tolerated delay of %d milliseconds.", it.made.UTC().Format(javaDate), now.UTC().Format(javaDate), life.Milliseconds())
	}
	c.scope = scope{it.account, it.region}
	id := shardID(it.shard)
	s, err := c.readable(it.stream, "")
	if isNotFound(err) {
		return c.scope.missingShard(id, it.stream)
	}
	if err != nil {
		return err
	}
	if s.st.Info().Created.UnixMilli() != it.created {
		return invalid("Invalid ShardIterator.") // of a stream that was deleted
	}
	if err := c.injectShard(s, id); err != nil {
		return err
	}
	req := shardlog.ReadRequest{ShardID: id, From: it.from, MaxRecords: int(c.in.integer("Limit"))}
	p, err := c.read(s, req)
	if errors.Is(err, shardlog.ErrExpired) {
		req.From = shardlog.TrimHorizon()
		p, err = c.read(s, req)
	}
	if errors.Is(err, shardlog.ErrNotFound) {
		return c.scope.missingShard(id, it.stream)
	}
	if err != nil {
		return err
	}
	return c.page(s, it.shard, &p)
}

// Bounds of pages. Small ones are read as they come; what a large one takes in
// memory, as records and encoded, is waited for.
const (
	smallPage = 1 << 20
	maxPage   = 10 << 20
	largePage = 3 * maxPage
)

// read reads a page. A large one is read in two parts, so that memory is set
// aside for it only where there is that much to read.
func (c *call) read(s *streamState, req shardlog.ReadRequest) (shardlog.Page, error) {
	if l := s.st.Info().Limits; l.ReadCalls > 0 || l.ReadBytes > 0 {
		return s.st.Read(c.ctx, req) // a second part would count as a second call
	}
	most := req.MaxRecords
	if most == 0 {
		most = 10_000
	}
	req.MaxBytes = smallPage
	p, err := s.st.Read(c.ctx, req)
	if err != nil || p.BehindRecords == 0 || len(p.Records) >= most {
		return p, err
	}
	size := 0
	for i := range p.Records {
		size += p.Records[i].Size()
	}
	if size >= maxPage {
		return p, nil
	}
	if err := c.h.pages.take(c.ctx, largePage); err != nil {
		return p, err
	}
	c.after = func() { c.h.pages.give(largePage) }
	req.From, req.MaxRecords, req.MaxBytes = p.Next, most-len(p.Records), maxPage-size
	rest, err := s.st.Read(c.ctx, req)
	if err != nil {
		return p, nil // what is wrong is for the next call to tell
	}
	if n := len(rest.Records); n == 1 && rest.Records[0].Size() > maxPage-size {
		return p, nil // a page holds one record whatever its size, but not here
	}
	rest.Records = append(p.Records, rest.Records...)
	return rest, nil
}

// behind returns how far a page is behind, in milliseconds; 0 only where
// nothing follows.
func behind(p *shardlog.Page) int64 {
	if p.BehindRecords == 0 {
		return 0
	}
	return max(1, p.Behind.Milliseconds())
}

func (c *call) page(s *streamState, index uint32, p *shardlog.Page) error {
	e := &c.out
	e.open()
	e.records(p.Records, s.settings.Load().Encryption)
	e.intField("MillisBehindLatest", behind(p))
	if p.End {
		if err := c.children(e, s, p.Children); err != nil {
			return err
		}
	} else {
		e.strField("NextShardIterator", c.next(s, index, p.Next))
	}
	e.close()
	return nil
}

// records writes the member Records.
func (e *encoder) records(list []shardlog.Record, encryption string) {
	size := 0
	for i := range list {
		size += 200 + len(list[i].PartitionKey) + len(list[i].Data)*4/3
	}
	if free := cap(e.buf) - len(e.buf); free < size {
		e.buf = append(make([]byte, 0, len(e.buf)+size+512), e.buf...)
	}
	e.key("Records")
	e.list()
	for i := range list {
		r := &list[i]
		e.open()
		e.key("SequenceNumber")
		e.sequence(r.Sequence)
		e.timeField("ApproximateArrivalTimestamp", r.Arrival)
		e.key("Data")
		e.blob(r.Data)
		e.strField("PartitionKey", r.PartitionKey)
		e.optional("EncryptionType", encryption)
		e.close()
	}
	e.endList()
}

// maxKeyRunes is how long a partition key may be, in characters (API
// reference, PutRecord).
const maxKeyRunes = 256

// keyFits reports whether a partition key has an allowed length. Keys that are
// short in bytes are short in characters, and need no counting.
func keyFits(key []byte) bool {
	return len(key) > 0 && (len(key) <= maxKeyRunes || len(key) <= utf8.UTFMax*maxKeyRunes && utf8.RuneCount(key) <= maxKeyRunes)
}
