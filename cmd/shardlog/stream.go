package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"regexp"
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
		long: createLong,
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

// validName is what Kinesis takes for the name of a stream.
var validName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)

// parseStream parses the command line of a command on a stream and returns the
// target and the arguments, the stream's name first. More adds flags of the
// command. Nothing is opened yet, so that the command can check the rest of its
// command line first.
func (e *env) parseStream(args []string, want int, more func(*flagSet)) (*target, []string, error) {
	var t target
	f := e.flags()
	t.register(f)
	if more != nil {
		more(f)
	}
	rest, err := e.parse(f, args, want)
	if err != nil {
		return nil, nil, err
	}
	if wrong := t.check(f); wrong != "" {
		return nil, nil, e.misused("%s", wrong)
	}
	switch {
	case want == 0:
	case len(rest) == 0:
		return nil, nil, e.misused("expected %s", e.cmd.args)
	case !validName.MatchString(rest[0]):
		return nil, nil, e.misused("%q is no name of a stream: it must have 1 to 128 letters, digits and _.-", rest[0])
	}
	return &t, rest, nil
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

// report prints the outcome of a command.
func report(e *env, t *target, v any, format string, args ...any) error {
	if t.json {
		return printJSON(e.stdout, v)
	}
	_, err := fmt.Fprintf(e.stdout, format, args...)
	return err
}

func streamList(e *env, args []string) error {
	t, _, err := e.parseStream(args, 0, nil)
	if err != nil {
		return err
	}
	return t.with(e.ctx, func(c *client) error {
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
	t, args, err := e.parseStream(args, 1, nil)
	if err != nil {
		return err
	}
	return t.with(e.ctx, func(c *client) error {
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
	t, args, err := e.parseStream(args, 2, func(f *flagSet) {
		textFlag(f, &at, "at", "", "first `hash key` of the upper shard; by default the middle of the range", func(s string) error {
			_, err := shardlog.ParseHashKey(s)
			return err
		})
	})
	if err != nil {
		return err
	}
	return t.with(e.ctx, func(c *client) error {
		if at == "" {
			all, err := c.shards(e.ctx, args[0])
			if err != nil {
				return err
			}
			if at = middle(all, args[1]); at == "" {
				return fmt.Errorf("stream %s has no shard %s", args[0], args[1])
			}
		}
		in := object{"StreamName": args[0], "ShardToSplit": args[1], "NewStartingHashKey": at}
		return reshard(e, t, c, args[0], "SplitShard", in, "the split was begun")
	})
}

// middle returns the hash key in the middle of a shard, "" if there is no such
// shard.
func middle(all []shardInfo, id string) string {
	for i := range all {
		first, last, ok := all[i].hashKeys()
		if ok && sameShard(all[i].ShardID, id) {
			return new(big.Int).Rsh(new(big.Int).Add(new(big.Int).Add(first, last), big.NewInt(1)), 1).String()
		}
	}
	return ""
}

// hashKeys returns the first and the last hash key of a shard.
func (s *shardInfo) hashKeys() (first, last *big.Int, ok bool) {
	first, ok1 := new(big.Int).SetString(s.HashKeyRange.Start, 10)
	last, ok2 := new(big.Int).SetString(s.HashKeyRange.End, 10)
	return first, last, ok1 && ok2
}

// reshard makes a call that changes the shards of a stream, and waits until the
// stream is active.
func reshard(e *env, t *target, c *client, name, op string, in object, done string) error {
	if err := c.change(e.ctx, op, in, nil, done); err != nil {
		return err
	}
	s, err := c.waitActive(e.ctx, name)
	if err != nil {
		return partly(err, "%s", done)
	}
	return report(e, t, s, "%s has %d open shards\n", s.StreamName, s.OpenShardCount)
}

func streamMerge(e *env, args []string) error {
	t, args, err := e.parseStream(args, 3, nil)
	if err != nil {
		return err
	}
	return t.with(e.ctx, func(c *client) error {
		in := object{"StreamName": args[0], "ShardToMerge": args[1], "AdjacentShardToMerge": args[2]}
		return reshard(e, t, c, args[0], "MergeShards", in, "the merge was begun")
	})
}

func streamDelete(e *env, args []string) error {
	var force bool
	t, args, err := e.parseStream(args, 1, func(f *flagSet) { f.BoolVar(&force, "force", false, "delete it even if it has consumers") })
	if err != nil {
		return err
	}
	return t.with(e.ctx, func(c *client) error {
		in := object{"StreamName": args[0], "EnforceConsumerDeletion": force}
		err := c.change(e.ctx, "DeleteStream", in, nil, "stream "+args[0]+" was deleted")
		if err != nil && !(unknown(err) && refusedWith(err, "ResourceNotFoundException")) { // an earlier attempt deleted it
			return err
		}
		return report(e, t, object{"deleted": args[0]}, "deleted %s\n", args[0])
	})
}
