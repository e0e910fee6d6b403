package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog"
)

var putCommand = &command{
	words: "put", args: "NAME [DATA]", short: "put records",
	long: `
Puts DATA, or each line of standard input, as a record. Records that are
throttled are retried. With -json the shard and sequence number of each record
are printed, one object a line.

It stops at the first line that is too large for the stream, and at the first
error, and says how many records are stored. Lines before that one are. The
first interrupt lets the request in progress finish.`,
	run: put,
}

// putter collects records and puts them.
type putter struct {
	e       *env
	c       *client
	json    bool
	stream  string
	key     string
	hash    string
	most    int // bytes of data and partition key that the stream takes
	records []object
	size    int
	done    int
	doubt   bool // a request was sent and not answered
}

// Bounds of a request. Kinesis allows 500 records and 10 MiB; less data keeps a
// retry of a request that failed in part small. A larger record is a request of
// its own.
const (
	batchRecords = shardlog.MaxRequestRecords
	batchBytes   = 4 << 20
)

// putPatience is how long a request may take after an interrupt.
const putPatience = 10 * time.Second

func put(e *env, args []string) error {
	p := putter{e: e}
	t, rest, err := e.parseStream(args, -1, func(f *flagSet) {
		textFlag(f, &p.key, "key", "", "partition `key`; by default a random one for each record", shardlog.ValidatePartitionKey)
		textFlag(f, &p.hash, "hash-key", "", "explicit hash `key`, which selects the shard in place of the partition key", func(s string) error {
			_, err := shardlog.ParseHashKey(s)
			return err
		})
	})
	if err != nil {
		return err
	}
	if len(rest) > 2 {
		return e.misused("expected NAME and optionally DATA")
	}
	p.json, p.stream = t.json, rest[0]
	return t.with(e.ctx, func(c *client) error {
		p.c = c
		if err := p.findLimit(); err != nil {
			return err
		}
		if err := p.all(rest[1:]); err != nil {
			if p.doubt {
				return partly(err, "at least %d records were stored", p.done)
			}
			return partly(err, "%d records were stored", p.done)
		}
		if !p.json {
			_, err := fmt.Fprintf(e.stdout, "%d records\n", p.done)
			return err
		}
		return nil
	})
}

// findLimit asks for the size of the records that the stream takes. Who may put
// need not be allowed to ask, so only a stream that is not there is an error.
func (p *putter) findLimit() error {
	s, err := p.c.describe(p.e.ctx, p.stream)
	var refused *serviceError
	if err != nil && (!errors.As(err, &refused) || refusedWith(err, "ResourceNotFoundException")) {
		return err
	}
	if p.most = s.MaxRecordSizeInKiB << 10; p.most <= 0 {
		p.most = shardlog.MaxRecordSize
	}
	return nil
}

func (p *putter) all(args []string) error {
	if len(args) == 1 {
		if err := p.add("DATA", []byte(args[0]), false); err != nil {
			return err
		}
		return p.flush()
	}
	lines := readLines(p.e.ctx, p.e.input("-"), p.most)
	for {
		var c inputChunk
		open := true
		select {
		case <-p.e.ctx.Done():
			return context.Cause(p.e.ctx)
		case c, open = <-lines:
		}
		if !open {
			return p.flush()
		}
		for _, line := range c.lines {
			if err := p.add(fmt.Sprintf("line %d", line.number), line.text, line.tooLong); err != nil {
				return err
			}
		}
		// A line that has been read does not wait for the next one.
		if c.idle || c.err != nil {
			if err := errors.Join(p.flush(), c.err); err != nil {
				return err
			}
		}
	}
}

// add takes a record in. It first puts what was collected if both together are
// more than a request may have.
func (p *putter) add(where string, data []byte, tooLong bool) error {
	key := p.key
	if key == "" {
		key = rand.Text()
	}
	if n := len(data) + len(key); tooLong || n > p.most {
		size := fmt.Sprintf("has %d bytes with its partition key", n)
		if tooLong {
			size = "is longer"
		}
		err := fmt.Errorf("%s %s: a record of stream %s has at most %d bytes of data and partition key", where, size, p.stream, p.most)
		if flushed := p.flush(); flushed != nil {
			return errors.Join(flushed, err)
		}
		return err
	}
	size := len(data) + len(key) + len(p.hash)
	if len(p.records) == batchRecords || len(p.records) > 0 && p.size+size > batchBytes {
		if err := p.flush(); err != nil {
			return err
		}
	}
	r := object{"Data": data, "PartitionKey": key}
	if p.hash != "" {
		r["ExplicitHashKey"] = p.hash
	}
	p.records = append(p.records, r)
	p.size += size
	return nil
}

// placed says where a record is stored, or why it is not.
type placed struct {
	SequenceNumber string `json:"sequence"`
	ShardID        string `json:"shard"`
	ErrorCode      string `json:"-"`
	ErrorMessage   string `json:"-"`
}

// set copies the members of a response entry.
func (p *placed) set(m map[string]string) {
	p.SequenceNumber, p.ShardID, p.ErrorCode, p.ErrorMessage = m["SequenceNumber"], m["ShardId"], m["ErrorCode"], m["ErrorMessage"]
}

// flush puts the collected records. Those that fail are retried, so the output
// lists records in the order in which they succeeded. A request that was sent may
// outlive an interrupt, so that it is known what is stored.
func (p *putter) flush() error {
	request, cancel := afterwards(p.e.ctx, putPatience)
	defer cancel()
	for try := 1; len(p.records) > 0; try++ {
		if err := context.Cause(p.e.ctx); err != nil {
			return err
		}
		var out struct{ Records []map[string]string }
		if err := p.c.callWithin(p.e.ctx, request, "PutRecords", object{"StreamName": p.stream, "Records": p.records}, &out); err != nil {
			p.doubt = unknown(err)
			return err
		}
		if len(out.Records) != len(p.records) {
			return fmt.Errorf("the endpoint answered for %d records of %d", len(out.Records), len(p.records))
		}
		again, last, err := p.sort(out.Records)
		if err != nil {
			return err
		}
		if p.records = again; len(again) == 0 {
			break
		}
		if len(again) == len(out.Records) && try > 20 {
			return fmt.Errorf("%d records were refused: %s: %s", len(again), last.ErrorCode, last.ErrorMessage)
		}
		if err := pause(p.e.ctx, min(try, 5)); err != nil {
			return err
		}
	}
	p.size = 0
	return nil
}

// sort prints the records that are stored, and returns those that are not with
// the reason of the last of them.
func (p *putter) sort(results []map[string]string) (again []object, last placed, err error) {
	for i, m := range results {
		var r placed
		r.set(m)
		if r.ErrorCode != "" {
			again, last = append(again, p.records[i]), r
			continue
		}
		p.done++
		if p.json {
			if err := printJSON(p.e.stdout, r); err != nil {
				return nil, last, err
			}
		}
	}
	return again, last, nil
}
