package consumer_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
)

// source is a stream in memory with the semantics of shardlog.Source, and with
// places to put faults.
type source struct {
	mu     sync.Mutex
	shards []*memShard
	more   chan struct{} // closed and replaced at every change
	reads  []shardlog.ReadRequest

	// readFault and listFault are asked before each call; an error is
	// returned instead of an answer.
	readFault func(req shardlog.ReadRequest) error
	listFault func() error
	// id is what StreamID answers, and idFault is asked before.
	id      string
	idFault func() error
	// neverWait makes it a source that cannot long poll.
	neverWait bool
}

type memShard struct {
	info    shardlog.ShardInfo
	records []shardlog.Record
	trimmed int // how many records are removed from the front
	removed bool
}

func newSource(shards int) *source {
	s := &source{more: make(chan struct{})}
	for range shards {
		s.add()
	}
	return s
}

func (s *source) Name() string { return "orders" }

func (s *source) StreamID(context.Context) (string, error) {
	s.mu.Lock()
	id, fault := s.id, s.idFault
	s.mu.Unlock()
	if fault != nil {
		if err := fault(); err != nil {
			return "", err
		}
	}
	return id, nil
}

// becomes makes it another stream, as far as its ID goes.
func (s *source) becomes(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = id
}

func (s *source) Capabilities() shardlog.Capabilities {
	return shardlog.Capabilities{Pushes: !s.neverWait, KeyRanges: true, Lineage: true, TimeSeek: shardlog.TimeSeekArrival}
}

func shardID(i int) string { return shardlog.ShardID(uint32(i)) }

// seq is the number of the n-th record, from 0 on, of shard i.
func seq(i, n int) shardlog.SequenceNumber {
	return shardlog.NewSequenceNumber(created(i), uint32(i), uint64(n)+1, created(i))
}

func created(i int) int64 { return 1_000_000 + int64(i) }

// add makes a shard; with parents, it closes them. The caller may hold no lock.
func (s *source) add(parents ...int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := len(s.shards)
	info := shardlog.ShardInfo{
		ID: shardID(i), HashStart: shardlog.NewHashKey(0, 0), HashEnd: shardlog.MaxHashKey,
		First: shardlog.NewSequenceNumber(created(i), uint32(i), 0, created(i)), Created: time.Unix(created(i), 0),
	}
	for _, p := range parents {
		info.Parents = append(info.Parents, shardID(p))
		s.shards[p].info.Closed = true
	}
	s.shards = append(s.shards, &memShard{info: info})
	s.changed()
	return i
}

func (s *source) split(i int) (a, b int) { return s.add(i), s.add(i) }

func (s *source) changed() {
	close(s.more)
	s.more = make(chan struct{})
}

// put appends records with the data "<shard>/<n>".
func (s *source) put(i, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shards[i]
	if sh.info.Closed {
		panic("put on a closed shard")
	}
	for range n {
		k := len(sh.records)
		sh.records = append(sh.records, shardlog.Record{
			PartitionKey: "k", Data: []byte(name(i, k)), Sequence: seq(i, k), ShardID: sh.info.ID, Arrival: time.Now(),
		})
	}
	s.changed()
}

func name(shard, n int) string { return strconv.Itoa(shard) + "/" + strconv.Itoa(n) }

// names are the names of the records from..to-1 of a shard.
func names(shard, from, to int) []string {
	var out []string
	for n := from; n < to; n++ {
		out = append(out, name(shard, n))
	}
	return out
}

// trim removes the first n records of a shard, as retention does.
func (s *source) trim(i, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shards[i].trimmed = n
}

func (s *source) failLists(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listFault = f
}

// remove takes a whole shard away.
func (s *source) remove(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shards[i].removed = true
	s.changed()
}

func (s *source) Shards(context.Context) ([]shardlog.ShardInfo, error) {
	s.mu.Lock()
	fault := s.listFault
	s.mu.Unlock()
	if fault != nil {
		if err := fault(); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []shardlog.ShardInfo
	for _, sh := range s.shards {
		if !sh.removed {
			out = append(out, sh.info)
		}
	}
	return out, nil
}

func (s *source) Read(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	s.mu.Lock()
	s.reads = append(s.reads, req)
	s.mu.Unlock()
	if s.readFault != nil {
		if err := s.readFault(req); err != nil {
			return shardlog.Page{}, err
		}
	}
	timeout := time.NewTimer(req.Wait)
	defer timeout.Stop()
	for {
		page, more, err := s.page(req)
		if err != nil || len(page.Records) > 0 || page.End || req.Wait == 0 || s.neverWait {
			return page, err
		}
		req.From = page.Next
		select {
		case <-more:
		case <-timeout.C:
			return page, nil
		case <-ctx.Done():
			return shardlog.Page{}, ctx.Err()
		}
	}
}

// page answers immediately; more is closed when the answer may have changed.
func (s *source) page(req shardlog.ReadRequest) (p shardlog.Page, more chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.shards, func(sh *memShard) bool { return sh.info.ID == req.ShardID && !sh.removed })
	if i < 0 {
		return p, nil, &shardlog.Error{Op: "read", Shard: req.ShardID, Err: shardlog.ErrNotFound}
	}
	sh := s.shards[i]
	from, err := sh.index(i, req.From)
	if err != nil {
		return p, nil, &shardlog.Error{Op: "read", Shard: req.ShardID, Err: err}
	}
	to := min(len(sh.records), from+req.MaxRecords)
	p.Records = slices.Clone(sh.records[from:to])
	p.Next = shardlog.After(sh.info.First)
	if to > 0 {
		p.Next = shardlog.After(seq(i, to-1))
	}
	if req.From.Kind() == shardlog.KindAtTime && len(p.Records) == 0 {
		p.Next = req.From
	}
	p.BehindRecords = int64(len(sh.records) - to)
	p.Behind = time.Duration(p.BehindRecords) * time.Second
	if sh.info.Closed && to == len(sh.records) {
		p.End = true
		p.Next = shardlog.After(sh.info.First)
		if to > 0 {
			p.Next = shardlog.After(seq(i, to-1))
		}
		for _, c := range s.shards {
			if slices.Contains(c.info.Parents, sh.info.ID) {
				p.Children = append(p.Children, c.info.ID)
			}
		}
	}
	return p, s.more, nil
}

// index is where a position is among the records of shard i.
func (sh *memShard) index(i int, pos shardlog.Position) (int, error) {
	switch pos.Kind() {
	case shardlog.KindTrimHorizon:
		return sh.trimmed, nil
	case shardlog.KindLatest:
		return len(sh.records), nil
	case shardlog.KindAtTime:
		for n := sh.trimmed; n < len(sh.records); n++ {
			if !sh.records[n].Arrival.Before(pos.Time()) {
				return n, nil
			}
		}
		return len(sh.records), nil
	}
	n := int(counterOf(pos.Sequence())) - 1
	inside := pos.SubSequence() != shardlog.WholeRecord && n < len(sh.records) && kpl.HasMagic(sh.records[n].Data)
	if pos.Kind() == shardlog.KindAfter && !inside {
		n++
	}
	if n < sh.trimmed {
		return 0, &shardlog.TrimmedError{From: pos, Oldest: shardlog.At(seq(i, sh.trimmed)), Missed: uint64(sh.trimmed - n)}
	}
	return n, nil
}

// readsOf are the requests that were made for a shard.
func (s *source) readsOf(shard int) []shardlog.ReadRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []shardlog.ReadRequest
	for _, r := range s.reads {
		if r.ShardID == shardID(shard) {
			out = append(out, r)
		}
	}
	return out
}
