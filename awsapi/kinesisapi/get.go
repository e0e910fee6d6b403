package kinesisapi

import (
	"errors"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// getShardIterator carries out GetShardIterator. Of a stream that is not there
// AWS says that the shard does not exist.
func getShardIterator(c *call) error {
	if err := checkShardIDs(c, c.In.Text("ShardId")); err != nil {
		return err
	}
	id, index, _ := resolveShard(c.Scope, c.In.Text("ShardId"), "")
	s, err := c.readable(c.In.Text("StreamName"), c.In.Text("StreamARN"))
	if isNotFound(err) && c.name != "" {
		return missingShard(c.Scope, id, c.name)
	}
	if err != nil {
		return err
	}
	p := startPosition{kind: c.In.Text("ShardIteratorType"), number: c.In.Text("StartingSequenceNumber"), at: awswire.Get[time.Time](c.In, "Timestamp"), hasAt: c.In.Has("Timestamp")}
	from, err := resolveStart(c, s, id, index, p)
	if err != nil {
		return err
	}
	if err := dryRun(c); err != nil {
		return err
	}
	c.Out.Open()
	c.Out.TextField("ShardIterator", sealNext(c, s, index, from))
	c.Out.Close()
	return nil
}

// sealNext returns a new iterator. Each answer has one, also without records:
// the old one expires.
func sealNext(c *call, s *streamState, index uint32, from shardlog.Position) string {
	return c.svc.tokens.sealIterator(&iterator{made: c.Clock().Moment(), account: c.Scope.Account, region: c.Scope.Region, stream: c.name,
		ofID: s.idHash, shard: index, from: from})
}

// javaDate is the form of java.util.Date.
const javaDate = "Mon Jan 02 15:04:05 UTC 2006"

// getRecords carries out GetRecords. The iterator says account, region and
// stream, and what the request says of them does not count.
func getRecords(c *call) error {
	it, ok := c.svc.tokens.openIterator(c.In.Text("ShardIterator"))
	if !ok {
		return invalid("Invalid ShardIterator.")
	}
	sc := awswire.Scope{Account: it.account, Region: it.region}
	if sc.Region != c.Caller.Region && !c.MayUse(sc) {
		return invalid("Invalid ShardIterator.") // each region of AWS opens its own
	}
	if err := c.enter(sc, it.stream); err != nil {
		return err
	}
	if age, life := c.Clock().Since(it.made), c.svc.opts.IteratorLife; age > life {
		now := c.Now()
		return awswire.Errorf("ExpiredIteratorException", "Iterator expired. The iterator was created at time %s while right now it is %s which is further in the future than the "+
			"tolerated delay of %d milliseconds.", now.Add(-age).UTC().Format(javaDate), now.UTC().Format(javaDate), life.Milliseconds())
	}
	id := shardID(it.shard)
	s, err := c.readable(it.stream, "")
	if isNotFound(err) {
		return missingShard(c.Scope, id, it.stream)
	}
	if err != nil {
		return err
	}
	if s.idHash != it.ofID {
		// It is of a stream that was deleted. AWS knows streams by their names
		// here, and the numbers of the new one are above those of the old one.
		it.from = shardlog.TrimHorizon()
	}
	if err := injectShard(c, s, id); err != nil {
		return err
	}
	if _, err := s.st.Shard(id); errors.Is(err, shardlog.ErrNotFound) {
		return missingShard(c.Scope, id, it.stream)
	}
	if err := dryRun(c); err != nil {
		return err
	}
	req := shardlog.ReadRequest{ShardID: id, From: it.from, MaxRecords: int(c.In.Int("Limit"))}
	p, err := readPage(c, s, req)
	if errors.Is(err, shardlog.ErrExpired) {
		req.From = shardlog.TrimHorizon()
		p, err = readPage(c, s, req)
	}
	if errors.Is(err, shardlog.ErrNotFound) {
		return missingShard(c.Scope, id, it.stream)
	}
	if err != nil {
		return err
	}
	return writePage(c, s, it.shard, &p)
}

// Bounds of pages. Small ones are read immediately; for a large one a request
// waits until there is memory for it, as records and encoded.
const (
	smallPage = 1 << 20
	maxPage   = shardlog.MaxPageBytes
	largePage = 3 * maxPage
)

// readPage reads a page. A large one is read in two parts, so that memory is
// reserved for it only if there is that much to read.
func readPage(c *call, s *streamState, req shardlog.ReadRequest) (shardlog.Page, error) {
	if l := s.st.Info().Limits; l.ReadCalls > 0 || l.ReadBytes > 0 {
		return s.st.Read(c.Ctx, req) // a second part would count as a second call
	}
	most := req.MaxRecords
	if most == 0 {
		most = shardlog.MaxPageRecords
	}
	req.MaxBytes = smallPage
	p, err := s.st.Read(c.Ctx, req)
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
	if err := c.Env.Answers.Reserve(c.Ctx, largePage); err != nil {
		return p, err
	}
	c.pages = largePage
	req.From, req.MaxRecords, req.MaxBytes = p.Next, most-len(p.Records), maxPage-size
	rest, err := s.st.Read(c.Ctx, req)
	if err != nil {
		return p, nil // the next call reports what is wrong
	}
	if n := len(rest.Records); n == 1 && rest.Records[0].Size() > maxPage-size {
		return p, nil // a page holds one record whatever its size, but this is not its first
	}
	rest.Records = append(p.Records, rest.Records...)
	return rest, nil
}

// writePage writes the answer of GetRecords.
func writePage(c *call, s *streamState, index uint32, p *shardlog.Page) error {
	e := &c.Out
	e.Open()
	writeRecords(e, p.Records, index, s.encryptionNow(c.Ctx))
	e.IntField("MillisBehindLatest", behind(p))
	if s.endsAt(p, c.Clock()) {
		if err := writeChildren(c.Ctx, e, s.st, p.Children); err != nil {
			return err
		}
	} else {
		e.TextField("NextShardIterator", sealNext(c, s, index, p.Next))
	}
	e.Close()
	return nil
}
