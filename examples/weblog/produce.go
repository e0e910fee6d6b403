package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// produced counts what was done with the input.
type produced struct {
	malformed, empty int
	skipped, put     int           // lines that were in the stream before, and that are new
	took             time.Duration // until the last one was durable

	mu   sync.Mutex
	last map[string]shardlog.SequenceNumber // of each shard, with what was there before
}

// produce puts the lines of the input that are not in the stream yet into it,
// and returns when they are as durable as the stream promises. Malformed lines
// are counted and left out. When ctx ends, what was accepted is still stored.
func produce(ctx context.Context, st *stream.Stream, input io.Reader, stored *index, p *progress) (*produced, error) {
	prod, err := producer.New(st, nil)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	res := &produced{last: stored.last}
	done := func(r producer.Result, err error) {
		if err != nil {
			cancel(err) // the first cause stays
			return
		}
		res.mu.Lock()
		defer res.mu.Unlock()
		if r.Sequence.Compare(res.last[r.ShardID]) > 0 {
			res.last[r.ShardID] = r.Sequence
		}
		p.produced.Add(1)
	}
	err = res.feed(ctx, prod, readLines(ctx, input), stored, done)

	// An end of ctx must not lose what was accepted, nor wait without bounds.
	patience, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer stop()
	err = errors.Join(err, prod.Shutdown(patience))
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	res.took = time.Since(begin)
	return res, err
}

// feed takes the lines one by one.
func (res *produced) feed(ctx context.Context, prod *producer.Producer, lines <-chan chunk, stored *index, done func(producer.Result, error)) error {
	var number int64
	for {
		var c chunk
		open := true
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case c, open = <-lines:
		}
		if !open {
			break
		}
		for _, ln := range c.lines {
			number = ln.number
			if err := res.take(ctx, prod, ln, stored, done); err != nil {
				return err
			}
		}
		if c.err != nil {
			return fmt.Errorf("reading line %d: %w", number+1, c.err)
		}
	}
	if number < stored.max {
		return fmt.Errorf("the input ends with line %d, but line %d was stored before: the directory belongs to another input", number, stored.max)
	}
	return nil
}

func (res *produced) take(ctx context.Context, prod *producer.Producer, ln line, stored *index, done func(producer.Result, error)) error {
	was, err := stored.has(ln)
	switch {
	case err != nil:
		return err
	case was:
		res.skipped++
		return nil
	case len(ln.text) == 0 && !ln.tooLong:
		res.empty++
		return nil
	}
	e, ok := parse(string(ln.text))
	if !ok {
		res.malformed++
		return nil
	}
	res.put++
	return prod.PutAsync(ctx, shardlog.Record{
		PartitionKey: e.Client,
		Data:         ln.text,
		Headers:      []shardlog.Header{{Key: lineHeader, Value: strconv.FormatInt(ln.number, 10)}},
	}, done)
}
