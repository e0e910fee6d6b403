package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/shardlog/shardlog"
)

// object is a JSON object of a request.
type object map[string]any

// shardInfo and summary are the endpoint's descriptions of shards and streams.
type shardInfo struct {
	ShardID        string `json:"ShardId"`
	Parent         string `json:"ParentShardId,omitempty"`
	AdjacentParent string `json:"AdjacentParentShardId,omitempty"`
	HashKeyRange   struct {
		Start string `json:"StartingHashKey"`
		End   string `json:"EndingHashKey"`
	}
	SequenceNumberRange struct {
		Start string `json:"StartingSequenceNumber"`
		End   string `json:"EndingSequenceNumber,omitempty"`
	}
}

type summary struct {
	StreamName, StreamARN, StreamStatus string
	RetentionPeriodHours                int
	StreamCreationTimestamp             float64
	OpenShardCount                      int
	ConsumerCount                       int
	EncryptionType                      string
	MaxRecordSizeInKiB                  int         `json:",omitempty"`
	Shards                              []shardInfo `json:",omitempty"`
}

var streamCommands = []*command{
	{words: "stream create", args: "NAME", short: "create a stream",
		long: "Creates a stream and waits until it is active.",
		run:  streamCreate},
	{words: "stream list", short: "list the streams",
		long: "Lists the names of the streams, one a line; with -json a description of each, one object a line.",
		run:  streamList},
	{words: "stream describe", args: "NAME", short: "show a stream and its shards",
		long: "Shows a stream and its shards, including closed ones.",
		run:  streamDescribe},
	{words: "stream split", args: "NAME SHARD", short: "split a shard",
		long: "Splits a shard in two, in the middle of its hash key range or at -at.",
		run:  streamSplit},
	{words: "stream merge", args: "NAME SHARD ADJACENT", short: "merge two shards",
		long: "Merges two shards whose hash key ranges are adjacent.",
		run:  streamMerge},
	{words: "stream delete", args: "NAME", short: "delete a stream with its records",
		long: "Deletes a stream and all its records. This cannot be undone.",
		run:  streamDelete},
}

// onStream parses the command line of a command on a stream and runs f, which
// gets the arguments, the stream's name first. More adds flags of the command.
func onStream(e *env, args []string, want int, more func(*flagSet), f func(c *client, t *target, args []string) error) error {
	var t target
	fs := e.flags()
	t.register(fs)
	if more != nil {
		more(fs)
	}
	rest, err := e.parse(fs, args, want)
	if err != nil {
		return err
	}
	return t.with(func(c *client) error { return f(c, &t, rest) })
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// waitActive waits until a stream is ACTIVE.
func (c *client) waitActive(ctx context.Context, name string) (summary, error) {
	for try := 0; ; try++ {
		s, err := c.describe(ctx, name)
		if err != nil || s.StreamStatus == "ACTIVE" {
			return s, err
		}
		if err := pause(ctx, min(try, 4)); err != nil {
			return s, err
		}
	}
}

func (c *client) describe(ctx context.Context, name string) (summary, error) {
	var out struct{ StreamDescriptionSummary summary }
	err := c.call(ctx, "DescribeStreamSummary", object{"StreamName": name}, &out)
	return out.StreamDescriptionSummary, err
}

// shards lists all shards of a stream.
func (c *client) shards(ctx context.Context, name string) ([]shardInfo, error) {
	var all []shardInfo
	in := object{"StreamName": name}
	for {
		var out struct {
			Shards    []shardInfo
			NextToken string
		}
		if err := c.call(ctx, "ListShards", in, &out); err != nil {
			return nil, err
		}
		all = append(all, out.Shards...)
		if out.NextToken == "" {
			return all, nil
		}
		in = object{"NextToken": out.NextToken}
	}
}

func streamCreate(e *env, args []string) error {
	var shards, retention int
	var onDemand bool
	more := func(f *flagSet) {
		f.IntVar(&shards, "shards", 1, "number of shards")
		f.BoolVar(&onDemand, "on-demand", false, "create an on-demand stream, whose shard count is managed by the endpoint")
		f.IntVar(&retention, "retention", 24, "hours that records are kept, 24 to 8760")
	}
	return onStream(e, args, 1, more, func(c *client, t *target, args []string) error {
		in := object{"StreamName": args[0], "ShardCount": shards}
		if onDemand {
			in = object{"StreamName": args[0], "StreamModeDetails": object{"StreamMode": "ON_DEMAND"}}
		}
		if err := c.call(e.ctx, "CreateStream", in, nil); err != nil {
			return err
		}
		s, err := c.waitActive(e.ctx, args[0])
		if err == nil && retention > s.RetentionPeriodHours {
			if err = c.call(e.ctx, "IncreaseStreamRetentionPeriod", object{"StreamName": args[0], "RetentionPeriodHours": retention}, nil); err == nil {
				s, err = c.waitActive(e.ctx, args[0])
			}
		}
		if err != nil {
			return err
		}
		return report(e, t, s, "created %s with %d shards\n", s.StreamName, s.OpenShardCount)
	})
}

// report prints the outcome of a command.
func report(e *env, t *target, v any, format string, args ...any) error {
	if t.json {
		return printJSON(e.stdout, v)
	}
	_, err := fmt.Fprintf(e.stdout, format, args...)
	return err
}

func streamList(e *env, args []string) error {
	return onStream(e, args, 0, nil, func(c *client, t *target, _ []string) error {
		in := object{}
		for {
			var out struct {
				StreamNames     []string
				HasMoreStreams  bool
				StreamSummaries []json.RawMessage
			}
			if err := c.call(e.ctx, "ListStreams", in, &out); err != nil {
				return err
			}
			for i, name := range out.StreamNames {
				v := any(object{"StreamName": name})
				if i < len(out.StreamSummaries) {
					v = out.StreamSummaries[i]
				}
				if err := report(e, t, v, "%s\n", name); err != nil {
					return err
				}
			}
			if !out.HasMoreStreams || len(out.StreamNames) == 0 {
				return nil
			}
			in = object{"ExclusiveStartStreamName": out.StreamNames[len(out.StreamNames)-1]}
		}
	})
}

func streamDescribe(e *env, args []string) error {
	return onStream(e, args, 1, nil, func(c *client, t *target, args []string) error {
		s, err := c.describe(e.ctx, args[0])
		if err != nil {
			return err
		}
		if s.Shards, err = c.shards(e.ctx, args[0]); err != nil {
			return err
		}
		if t.json {
			return printJSON(e.stdout, s)
		}
		w := tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0)
		ms := int64(s.StreamCreationTimestamp * 1000)
		fmt.Fprintf(w, "name\t%s\narn\t%s\nstatus\t%s\ncreated\t%s\nretention\t%d h\nopen shards\t%d\nconsumers\t%d\n\n", s.StreamName, s.StreamARN, s.StreamStatus,
			time.UnixMilli(ms).UTC().Format(time.RFC3339), s.RetentionPeriodHours, s.OpenShardCount, s.ConsumerCount)
		fmt.Fprintln(w, "SHARD\tSTATE\tPARENTS\tHASH KEYS")
		for _, sh := range s.Shards {
			state := "open"
			if sh.SequenceNumberRange.End != "" {
				state = "closed"
			}
			parents := strings.Trim(strings.TrimPrefix(sh.Parent, "shardId-")+" "+strings.TrimPrefix(sh.AdjacentParent, "shardId-"), " ")
			fmt.Fprintf(w, "%s\t%s\t%s\t%s - %s\n", sh.ShardID, state, parents, sh.HashKeyRange.Start, sh.HashKeyRange.End)
		}
		return w.Flush()
	})
}

// sameShard reports whether two shard IDs, either of which may be in its short
// form, name the same shard.
func sameShard(full, id string) bool {
	digits := strings.TrimPrefix(id, "shardId-")
	n, err := strconv.ParseUint(digits, 10, 31)
	return full == id || err == nil && full == shardlog.ShardID(uint32(n))
}

func streamSplit(e *env, args []string) error {
	var at string
	more := func(f *flagSet) {
		f.StringVar(&at, "at", "", "first hash key of the upper shard; by default the middle of the range")
	}
	return onStream(e, args, 2, more, func(c *client, t *target, args []string) error {
		if at == "" {
			all, err := c.shards(e.ctx, args[0])
			if err != nil {
				return err
			}
			for _, sh := range all {
				low, ok1 := new(big.Int).SetString(sh.HashKeyRange.Start, 10)
				high, ok2 := new(big.Int).SetString(sh.HashKeyRange.End, 10)
				if ok1 && ok2 && sameShard(sh.ShardID, args[1]) {
					at = new(big.Int).Rsh(new(big.Int).Add(new(big.Int).Add(low, high), big.NewInt(1)), 1).String()
				}
			}
		}
		if at == "" {
			return fmt.Errorf("stream %s has no shard %s", args[0], args[1])
		}
		in := object{"StreamName": args[0], "ShardToSplit": args[1], "NewStartingHashKey": at}
		if err := c.call(e.ctx, "SplitShard", in, nil); err != nil {
			return err
		}
		s, err := c.waitActive(e.ctx, args[0])
		if err != nil {
			return err
		}
		return report(e, t, s, "%s has %d open shards\n", s.StreamName, s.OpenShardCount)
	})
}

func streamMerge(e *env, args []string) error {
	return onStream(e, args, 3, nil, func(c *client, t *target, args []string) error {
		in := object{"StreamName": args[0], "ShardToMerge": args[1], "AdjacentShardToMerge": args[2]}
		if err := c.call(e.ctx, "MergeShards", in, nil); err != nil {
			return err
		}
		s, err := c.waitActive(e.ctx, args[0])
		if err != nil {
			return err
		}
		return report(e, t, s, "%s has %d open shards\n", s.StreamName, s.OpenShardCount)
	})
}

func streamDelete(e *env, args []string) error {
	var force bool
	more := func(f *flagSet) { f.BoolVar(&force, "force", false, "delete it even if it has consumers") }
	return onStream(e, args, 1, more, func(c *client, t *target, args []string) error {
		in := object{"StreamName": args[0], "EnforceConsumerDeletion": force}
		if err := c.call(e.ctx, "DeleteStream", in, nil); err != nil {
			return err
		}
		return report(e, t, object{"deleted": args[0]}, "deleted %s\n", args[0])
	})
}
