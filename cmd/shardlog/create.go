package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog/stream"
)

const createLong = `
Creates a stream and waits until it is active. With -dir it makes a database
where there is none, in a directory that is not there or holds no files of its own.

If the retention cannot be set, the stream is deleted again. An interrupt
deletes nothing, but it says what was done.`

// Retention of a stream in hours, by Kinesis.
const (
	minRetention = 24
	maxRetention = 8760
)

// undoPatience is how long undoing may take.
const undoPatience = 30 * time.Second

// creation is what "stream create" was asked for.
type creation struct {
	name      string
	shards    int
	onDemand  bool
	retention int // in hours; 0 if it was not given
}

func streamCreate(e *env, args []string) error {
	var n creation
	var f *flagSet
	t, rest, err := e.parseStream(args, 1, func(fs *flagSet) {
		f = fs
		intFlag(f, &n.shards, "shards", 1, 1, stream.MaxShards, "`number` of shards")
		f.BoolVar(&n.onDemand, "on-demand", false, "create an on-demand stream, whose shard count is managed by the endpoint")
		intFlag(f, &n.retention, "retention", minRetention, minRetention, maxRetention, "`hours` that records are kept, 24 to 8760")
	})
	if err != nil {
		return err
	}
	if n.onDemand && given(f, "shards") {
		return e.misused("-on-demand and -shards exclude each other")
	}
	if !given(f, "retention") {
		n.retention = 0
	}
	n.name, t.makes = rest[0], true
	return t.with(e.ctx, func(c *client) error {
		s, err := n.create(e.ctx, c)
		if err != nil {
			return err
		}
		return report(e, t, s, "created %s with %d shards\n", s.StreamName, s.OpenShardCount)
	})
}

// create makes the calls. From the first one on an error says what there is.
func (n *creation) create(ctx context.Context, c *client) (summary, error) {
	in := object{"StreamName": n.name, "ShardCount": n.shards}
	if n.onDemand {
		in = object{"StreamName": n.name, "StreamModeDetails": object{"StreamMode": "ON_DEMAND"}}
	}
	// Whether the stream was there is what distinguishes it, when an attempt ended
	// with a server error and the next one finds a stream, from one of somebody else.
	_, err := c.describe(ctx, n.name)
	var refused *serviceError
	if err != nil && !errors.As(err, &refused) {
		return summary{}, err
	}
	absent := refusedWith(err, "ResourceNotFoundException")
	err = c.change(ctx, "CreateStream", in, nil, "stream "+n.name+" was created")
	if own := absent && unknown(err) && refusedWith(err, "ResourceInUseException"); err != nil && !own {
		return summary{}, err
	}
	s, err := c.waitActive(ctx, n.name)
	if err != nil {
		return s, partly(err, "stream %s was created", n.name)
	}
	op := "IncreaseStreamRetentionPeriod"
	switch {
	case n.retention == 0 || n.retention == s.RetentionPeriodHours:
		return s, nil
	case n.retention < s.RetentionPeriodHours:
		op = "DecreaseStreamRetentionPeriod"
	}
	failed := c.call(ctx, op, object{"StreamName": n.name, "RetentionPeriodHours": n.retention}, nil)
	if failed != nil && !unknown(failed) {
		return s, n.undo(ctx, c, failed, s.RetentionPeriodHours)
	}
	now, err := c.waitActive(ctx, n.name)
	switch {
	case failed != nil && (err != nil || now.RetentionPeriodHours != n.retention): // else an attempt has set it
		return s, n.undo(ctx, c, failed, s.RetentionPeriodHours)
	case err != nil:
		return s, partly(err, "stream %s was created, with a retention of %d hours", n.name, n.retention)
	}
	return now, nil
}

// undo deletes the stream that was just created, because of an error, which it
// returns together with the outcome. After an interrupt, or where it is not known
// whether the retention was set, it leaves the stream.
func (n *creation) undo(ctx context.Context, c *client, cause error, hours int) error {
	cause = fmt.Errorf("setting the retention to %d hours: %w", n.retention, cause)
	var refused *serviceError
	if ctx.Err() != nil || !errors.As(cause, &refused) {
		return partly(cause, "stream %s was created; its retention was %d hours, and it is not known whether that was changed", n.name, hours)
	}
	ctx, cancel := context.WithTimeout(ctx, undoPatience)
	defer cancel()
	if err := c.call(ctx, "DeleteStream", object{"StreamName": n.name}, nil); err != nil {
		return partly(cause, "stream %s was created, has a retention of %d hours, and could not be deleted again: %v", n.name, hours, err)
	}
	return partly(cause, "stream %s was deleted again", n.name)
}
