package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
)

// flagSet is the set that commands add their flags to.
type flagSet = flag.FlagSet

var putCommand = &command{
	words: "put", args: "NAME [DATA]", short: "put records",
	long: `
Puts DATA, or each line of standard input, as a record. Records that are
throttled are retried. With -json the shard and sequence number of each record
are printed, one object a line.`,
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
	records []object
	size    int
	done    int
}

// Bounds of a request. Kinesis allows 500 records and 10 MiB; less data keeps a
// retry of a request that failed in part small.
const (
	batchRecords = 500
	batchBytes   = 4 << 20
)

func put(e *env, args []string) error {
	p := putter{e: e}
	more := func(f *flagSet) {
		f.StringVar(&p.key, "key", "", "partition key; by default a random one for each record")
		f.StringVar(&p.hash, "hash-key", "", "explicit hash key, which selects the shard in place of the partition key")
	}
	return onStream(e, args, -1, more, func(c *client, t *target, args []string) error {
		if len(args) < 1 || len(args) > 2 {
			return e.misused("expected NAME and optionally DATA")
		}
		p.c, p.json, p.stream = c, t.json, args[0]
		if err := p.all(args[1:]); err != nil {
			return err
		}
		if !p.json {
			_, err := fmt.Fprintf(e.stdout, "%d records\n", p.done)
			return err
		}
		return nil
	})
}

func (p *putter) all(args []string) error {
	if len(args) == 1 {
		if err := p.add([]byte(args[0])); err != nil {
			return err
		}
		return p.flush()
	}
	in := bufio.NewReaderSize(p.e.stdin, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			if err := p.add(bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return p.flush()
		}
		if err != nil {
			return err
		}
		// A line that has been read does not wait for the next one.
		if in.Buffered() == 0 {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
}

func (p *putter) add(data []byte) error {
	r := object{"Data": data, "PartitionKey": p.key}
	if p.key == "" {
		r["PartitionKey"] = rand.Text()
	}
	if p.hash != "" {
		r["ExplicitHashKey"] = p.hash
	}
	p.records = append(p.records, r)
	p.size += len(data)
	if len(p.records) < batchRecords && p.size < batchBytes {
		return nil
	}
	return p.flush()
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
// lists records in the order in which they succeeded.
func (p *putter) flush() error {
	for try := 1; len(p.records) > 0; try++ {
		var out struct{ Records []map[string]string }
		if err := p.c.call(p.e.ctx, "PutRecords", object{"StreamName": p.stream, "Records": p.records}, &out); err != nil {
			return err
		}
		var again []object
		var last placed
		for i, m := range out.Records {
			var r placed
			r.set(m)
			if r.ErrorCode != "" {
				again, last = append(again, p.records[i]), r
				continue
			}
			p.done++
			if p.json {
				if err := printJSON(p.e.stdout, r); err != nil {
					return err
				}
			}
		}
		if p.records = again; len(again) == 0 {
			break
		}
		if len(again) == len(out.Records) && try > 20 {
			return fmt.Errorf("%d records were not stored: %s: %s", len(again), last.ErrorCode, last.ErrorMessage)
		}
		if err := pause(p.e.ctx, min(try, 5)); err != nil {
			return errors.Join(fmt.Errorf("%d records were not stored", len(again)), err)
		}
	}
	p.size = 0
	return context.Cause(p.e.ctx)
}
