package producer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
	"github.com/shardlog/shardlog/producer"
)

// cluster is a sink in memory that has shards, which can be split and merged,
// refuses what is on the wrong one, and knows identities and dedup IDs, each if
// caps has it. Script, if set, is called for each call of PutRecords or
// PutRequest, numbered from 0.
type cluster struct {
	caps   shardlog.Capabilities
	script func(ctx context.Context, n int, req *shardlog.PutRequest) (store bool, err error)
	// refuse, if set, may give each record an error.
	refuse func(n, i int, r *shardlog.Record, shard string) error
	// answer, if set, may change the answer of a call.
	answer func(n int, res []shardlog.PutResult) []shardlog.PutResult
	// listed, if set, may give a call of Shards an error.
	listed func(n int) error
	hang   bool // Shards returns when its context ends

	later  sync.WaitGroup // of storeLater
	mu     sync.Mutex
	shards []*clusterShard
	made   int             // shards ever
	log    []clusterRecord // in order
	calls  [][]int         // sizes of calls: user records of each record
	lists  int
	epochs map[string]uint64
	opens  int
	nums   map[string]map[uint64]shardlog.PutResult
	done   map[string]uint64
	limbo  map[uint64]int // how many requests with a number are being stored although their caller has left
	ids    map[string]shardlog.PutResult
}

type clusterShard struct {
	info shardlog.ShardInfo
	n    uint64
}

// clusterRecord is a stored record; users are what a reader makes of it.
type clusterRecord struct {
	shard string
	rec   shardlog.Record
	users []kpl.UserRecord
	res   shardlog.PutResult
}

var allCaps = shardlog.Capabilities{RefusesMisrouted: true, Idempotent: true, DedupID: true}

func newCluster(shards int, caps shardlog.Capabilities) *cluster {
	c := &cluster{caps: caps, epochs: map[string]uint64{}, nums: map[string]map[uint64]shardlog.PutResult{}, done: map[string]uint64{}, limbo: map[uint64]int{}, ids: map[string]shardlog.PutResult{}}
	c.add(shardlog.NewHashKey(0, 0), shardlog.MaxHashKey)
	for len(c.open()) < shards {
		c.split(c.open()[0])
	}
	for _, s := range c.open() { // only these exist
		s.info.Parents = nil
	}
	c.shards = slices.DeleteFunc(c.shards, func(s *clusterShard) bool { return s.info.Closed })
	return c
}

func (c *cluster) add(first, last shardlog.HashKey, parents ...string) *clusterShard {
	s := &clusterShard{info: shardlog.ShardInfo{ID: shardlog.ShardID(uint32(c.made)), HashStart: first, HashEnd: last, Parents: parents}}
	c.made++
	c.shards = append(c.shards, s)
	return s
}

// open lists the open shards, those with the largest ranges first.
func (c *cluster) open() []*clusterShard {
	var open []*clusterShard
	for _, s := range c.shards {
		if !s.info.Closed {
			open = append(open, s)
		}
	}
	return open
}

// split halves a shard; c.mu is held or not needed.
func (c *cluster) split(s *clusterShard) {
	fh, _ := s.info.HashStart.Words()
	lh, _ := s.info.HashEnd.Words()
	mid := shardlog.NewHashKey(fh+(lh-fh)/2, 1<<63)
	next, _ := mid.Next()
	s.info.Closed = true
	c.add(s.info.HashStart, mid, s.info.ID)
	c.add(next, s.info.HashEnd, s.info.ID)
}

// merge makes one shard of two that are adjacent.
func (c *cluster) merge(a, b *clusterShard) {
	a.info.Closed, b.info.Closed = true, true
	c.add(a.info.HashStart, b.info.HashEnd, a.info.ID, b.info.ID)
}

// reshard splits or merges at random.
func (c *cluster) reshard(number func(int) int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := c.open()
	slices.SortFunc(open, func(a, b *clusterShard) int { return a.info.HashStart.Compare(b.info.HashStart) })
	i := number(len(open))
	if len(open) < 2 || len(open) < 6 && number(2) == 0 {
		c.split(open[i])
		return
	}
	i = min(i, len(open)-2)
	c.merge(open[i], open[i+1])
}

// Capabilities are what a test chooses, in addition to what a cluster always has.
func (c *cluster) Capabilities() shardlog.Capabilities {
	caps := c.caps
	caps.KeyRanges, caps.OrderedRequest, caps.Lineage, caps.Headers = true, true, true, true
	return caps
}

func (c *cluster) Shards(ctx context.Context) ([]shardlog.ShardInfo, error) {
	if c.hang {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.lists
	c.lists++
	if c.listed != nil {
		if err := c.listed(n); err != nil {
			return nil, err
		}
	}
	var infos []shardlog.ShardInfo
	for _, s := range c.shards {
		infos = append(infos, s.info)
	}
	return infos, nil
}

func (c *cluster) OpenProducer(_ context.Context, id string) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opens++
	c.epochs[id]++
	c.nums[id], c.done[id] = map[uint64]shardlog.PutResult{}, 0
	return c.epochs[id], nil
}

// forget makes the sink forget an identity, as one does after a long time.
func (c *cluster) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.nums, id)
}

func (c *cluster) PutRecords(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	return c.PutRequest(ctx, &shardlog.PutRequest{Records: records})
}

func (c *cluster) PutRequest(ctx context.Context, req *shardlog.PutRequest) ([]shardlog.PutResult, error) {
	c.mu.Lock()
	n := len(c.calls)
	var sizes []int
	for i := range req.Records {
		sizes = append(sizes, len(users(&req.Records[i])))
	}
	c.calls = append(c.calls, sizes)
	c.mu.Unlock()
	if c.script != nil {
		store, err := c.script(ctx, n, req)
		if err != nil && store {
			_, _ = c.store(n, req)
		}
		if err != nil {
			return nil, err
		}
	}
	res, err := c.store(n, req)
	if err == nil && c.answer != nil {
		res = c.answer(n, res)
	}
	return res, err
}

// users are the user records of a record, as a reader sees them.
func users(r *shardlog.Record) []kpl.UserRecord {
	if list, err := kpl.Decode(r.Data, nil); err == nil {
		for i := range list {
			list[i].Data = slices.Clone(list[i].Data)
		}
		return list
	}
	u := kpl.UserRecord{PartitionKey: r.PartitionKey, Data: slices.Clone(r.Data), Headers: r.Headers, HashKey: r.ExplicitHashKey}
	return []kpl.UserRecord{u}
}

// storeLater stores a request whose caller has left. Another one with its
// numbers waits for that, as in a log.
func (c *cluster) storeLater(n int, req *shardlog.PutRequest, d time.Duration) {
	r := *req
	r.Records, r.Numbers, r.Ranges = slices.Clone(req.Records), slices.Clone(req.Numbers), slices.Clone(req.Ranges)
	for i := range r.Records {
		r.Records[i].Data = slices.Clone(r.Records[i].Data)
	}
	c.mu.Lock()
	for _, k := range r.Numbers {
		c.limbo[k]++
	}
	c.mu.Unlock()
	c.later.Go(func() {
		time.Sleep(d)
		c.mu.Lock()
		defer c.mu.Unlock()
		_, _ = c.storeLocked(n, &r)
		for _, k := range r.Numbers {
			c.limbo[k]--
		}
	})
}

func (c *cluster) store(n int, req *shardlog.PutRequest) ([]shardlog.PutResult, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for slices.ContainsFunc(req.Numbers, func(k uint64) bool { return c.limbo[k] > 0 }) {
		c.mu.Unlock()
		time.Sleep(time.Millisecond)
		c.mu.Lock()
	}
	return c.storeLocked(n, req)
}

func (c *cluster) storeLocked(n int, req *shardlog.PutRequest) ([]shardlog.PutResult, error) {
	if err := c.checkNumbers(req); err != nil {
		return nil, err
	}
	res := make([]shardlog.PutResult, len(req.Records))
	var refused []shardlog.HashRange
	for i := range req.Records {
		r := &req.Records[i]
		if req.Producer != "" {
			if old, ok := c.nums[req.Producer][req.Numbers[i]]; ok {
				res[i] = old
				res[i].Duplicate = true
				continue
			}
		}
		key := r.ExplicitHashKey
		if !key.IsSet() {
			key = shardlog.KeyHash(r.PartitionKey)
		}
		span := shardlog.HashRange{First: key, Last: key}
		if req.Ranges != nil {
			span = req.Ranges[i]
		}
		s := c.at(key)
		var err error
		if c.refuse != nil {
			err = c.refuse(n, i, r, s.info.ID)
		}
		if c.caps.RefusesMisrouted && (s.info.HashStart.Compare(span.First) > 0 || s.info.HashEnd.Compare(span.Last) < 0) {
			err = shardlog.ErrWrongShard
		}
		// Nothing overtakes what was refused.
		if err == nil && slices.ContainsFunc(refused, func(o shardlog.HashRange) bool {
			return span.First.Compare(o.Last) <= 0 && o.First.Compare(span.Last) <= 0
		}) {
			err = shardlog.ErrNotTried
		}
		if err != nil {
			refused = append(refused, span)
			res[i].Err = err
			continue
		}
		res[i] = c.append(s, r)
		if req.Producer != "" {
			c.nums[req.Producer][req.Numbers[i]] = res[i]
		}
	}
	return res, nil
}

func (c *cluster) checkNumbers(req *shardlog.PutRequest) error {
	if req.Producer == "" {
		return nil
	}
	switch {
	case !c.caps.Idempotent:
		return shardlog.ErrUnsupported
	case c.nums[req.Producer] == nil:
		return shardlog.ErrNotFound
	case req.Epoch != c.epochs[req.Producer]:
		return shardlog.ErrFenced
	}
	for i, n := range req.Numbers {
		if n < c.done[req.Producer] || n < req.Done || i > 0 && n <= req.Numbers[i-1] || n-req.Done >= 1<<20 {
			return &shardlog.InvalidError{Field: "Numbers", Value: n, Limit: fmt.Sprintf("above %d, in order: %v", c.done[req.Producer], req.Numbers)}
		}
	}
	c.done[req.Producer] = max(c.done[req.Producer], req.Done)
	return nil
}

func (c *cluster) at(key shardlog.HashKey) *clusterShard {
	for _, s := range c.shards {
		if !s.info.Closed && s.info.HashStart.Compare(key) <= 0 && key.Compare(s.info.HashEnd) <= 0 {
			return s
		}
	}
	panic("no shard for " + key.String())
}

func (c *cluster) append(s *clusterShard, r *shardlog.Record) shardlog.PutResult {
	if c.caps.DedupID && r.DedupID != "" {
		if old, ok := c.ids[r.DedupID]; ok {
			old.Duplicate = true
			return old
		}
	}
	s.n++
	res := shardlog.PutResult{ShardID: s.info.ID, Sequence: shardlog.NewSequenceNumber(1, 0, s.n, 1)}
	rec := *r
	rec.Data = slices.Clone(r.Data)
	c.log = append(c.log, clusterRecord{shard: s.info.ID, rec: rec, users: users(r), res: res})
	if r.DedupID != "" {
		c.ids[r.DedupID] = res
	}
	return res
}

// names lists the data of the user records that a reader is given: those that
// belong to the shard that they are on.
func (c *cluster) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []string{}
	for _, r := range c.log {
		i := slices.IndexFunc(c.shards, func(s *clusterShard) bool { return s.info.ID == r.shard })
		info := &c.shards[i].info
		for j := range r.users {
			if h := r.users[j].Hash(); info.HashStart.Compare(h) <= 0 && h.Compare(info.HashEnd) <= 0 {
				out = append(out, string(r.users[j].Data))
			}
		}
	}
	return out
}

// records lists what is stored.
func (c *cluster) records() []clusterRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.log)
}

// sizes lists for each call how many user records each of its records had.
func (c *cluster) sizes() [][]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// at puts n records of n keys without waiting, and returns their outcomes when
// all are done.
func putAll(t *testing.T, p *producer.Producer, keys, names []string) *outcomes {
	t.Helper()
	o := &outcomes{}
	for i, n := range names {
		o.put(t, p, keys[i%len(keys)], n)
	}
	require.NoError(t, p.Flush(t.Context()))
	return o
}

// timesOut is a script for a request that stores, and whose answer is lost.
func timesOut(calls ...int) func(context.Context, int, *shardlog.PutRequest) (bool, error) {
	return func(_ context.Context, n int, _ *shardlog.PutRequest) (bool, error) {
		if slices.Contains(calls, n) {
			return true, errors.Join(shardlog.ErrUnknownOutcome, errors.New("the answer is lost"))
		}
		return false, nil
	}
}

var aggregating = producer.Aggregation{Enabled: true}

// soon is a linger that lets everything gather that is put together.
const soon = time.Minute
