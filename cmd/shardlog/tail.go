package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
)

var tailCommand = &command{
	words: "tail", args: "NAME", short: "print records",
	long: `
Prints the records of a stream: the data of each as a line, or with -json one
object a line. Shards are read in parallel, but each after its parents, so the
order of each key is kept. Aggregated records of the KPL are printed as the user
records in them, without those whose hash key belongs to another shard, which a
consumer leaves out as well.

It ends at the end of the stream; with -f it waits for more records, until an
interrupt, which is then no failure.`,
	run: tail,
}

// tailer reads the shards of a stream.
type tailer struct {
	e       *env
	c       *client
	stream  string
	only    string
	from    object
	follow  bool
	json    bool
	long    bool
	raw     bool
	ranges  bool // client.keyRanges of the stream
	max     int
	wait    time.Duration
	cancel  context.CancelCauseFunc
	mu      sync.Mutex
	printed int
	begun   bool
	started map[string]bool
	ended   map[string]bool
	wg      sync.WaitGroup
}

// errEnough ends a tail that has printed as many records as -n allows.
var errEnough = errors.New("enough")

func tail(e *env, args []string) error {
	t := &tailer{e: e, started: map[string]bool{}, ended: map[string]bool{}}
	from := ""
	target, rest, err := e.parseStream(args, 1, func(f *flagSet) {
		textFlag(f, &from, "from", "start", "`where` to begin: start, latest, a time such as 2026-01-02T15:04:05Z, or a time ago such as 10m", nil)
		textFlag(f, &t.only, "shard", "", "print only this `shard`", nil)
		f.BoolVar(&t.follow, "f", false, "wait for more records")
		f.BoolVar(&t.long, "l", false, "print arrival, shard, sequence number and key before the data")
		f.BoolVar(&t.raw, "raw", false, "print aggregated records as they are stored")
		intFlag(f, &t.max, "n", 0, 0, math.MaxInt, "`number` of records to print; 0 for all")
		durationFlag(f, &t.wait, "poll", 200*time.Millisecond, time.Millisecond, time.Hour, "`time` between reads of a shard that has no new records, 1ms to 1h")
	})
	if err != nil {
		return err
	}
	if t.from, err = parseFrom(from, time.Now()); err != nil {
		return e.misused("%v", err)
	}
	t.stream, t.json = rest[0], target.json
	err = target.with(e.ctx, func(c *client) error {
		t.c, t.ranges = c, c.keyRanges(t.stream)
		return t.run()
	})
	if t.follow && interruption(e.ctx) != nil && errors.Is(err, context.Canceled) {
		return nil // the usual end of a tail that follows
	}
	return err
}

// parseFrom parses the flag -from into a starting position.
func parseFrom(s string, now time.Time) (object, error) {
	switch s {
	case "start":
		return object{"ShardIteratorType": "TRIM_HORIZON"}, nil
	case "latest":
		return object{"ShardIteratorType": "LATEST"}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		ago, err := time.ParseDuration(s)
		if err != nil || ago < 0 {
			return nil, fmt.Errorf("-from %q: must be start, latest, a time such as 2026-01-02T15:04:05Z or a time ago such as 10m", s)
		}
		at = now.Add(-ago)
	}
	return object{"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": float64(at.UnixMilli()) / 1000}, nil
}

func (t *tailer) run() error {
	ctx, cancel := context.WithCancelCause(t.e.ctx)
	defer cancel(nil)
	t.cancel = cancel
	err := t.start(ctx)
	t.wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// start starts the shards whose parents have been read or have expired.
func (t *tailer) start(ctx context.Context) error {
	all, err := t.c.shards(ctx, t.stream)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	there := func(id string) bool {
		return id != "" && !t.ended[id] && slices.ContainsFunc(all, func(s shardInfo) bool { return s.ShardID == id })
	}
	found := t.only == ""
	latest := t.from["ShardIteratorType"] == "LATEST"
	if latest && !t.begun {
		// A closed shard gets no records after the latest one.
		for _, s := range all {
			if s.SequenceNumberRange.End != "" {
				t.started[s.ShardID], t.ended[s.ShardID] = true, true
			}
		}
	}
	first := !t.begun
	t.begun = true
	for _, s := range all {
		if t.only != "" && !sameShard(s.ShardID, t.only) {
			continue
		}
		found = true
		if t.started[s.ShardID] || t.only == "" && (there(s.Parent) || there(s.AdjacentParent)) {
			continue
		}
		t.started[s.ShardID] = true
		from := t.from
		if latest && !first { // the shard was created after tail started
			from = object{"ShardIteratorType": "TRIM_HORIZON"}
		}
		t.wg.Add(1)
		go func() {
			defer t.wg.Done()
			if err := t.shard(ctx, &s, from); err != nil {
				t.cancel(err)
			}
		}()
	}
	if !found {
		return fmt.Errorf("stream %s has no shard %s", t.stream, t.only)
	}
	return nil
}

type record struct {
	SequenceNumber              string
	ApproximateArrivalTimestamp float64
	Data                        []byte
	PartitionKey                string
}

// shard prints one shard up to its end if it is closed, or up to its latest
// record, and with -f continues from there.
func (t *tailer) shard(ctx context.Context, s *shardInfo, from object) error {
	id, iterator, last := s.ShardID, "", ""
	for {
		if iterator == "" {
			in := object{"StreamName": t.stream, "ShardId": id}
			for k, v := range from {
				in[k] = v
			}
			if last != "" {
				in = object{"StreamName": t.stream, "ShardId": id, "ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": last}
			}
			var out struct{ ShardIterator string }
			if err := t.c.call(ctx, "GetShardIterator", in, &out); err != nil {
				return err
			}
			iterator = out.ShardIterator
		}
		var out struct {
			Records            []record
			NextShardIterator  string
			MillisBehindLatest int64
		}
		err := t.c.call(ctx, "GetRecords", object{"ShardIterator": iterator}, &out)
		if refusedWith(err, "ExpiredIteratorException") {
			iterator = ""
			continue
		}
		if err != nil {
			return err
		}
		for i := range out.Records {
			if err := t.print(s, &out.Records[i]); err != nil {
				return err
			}
			last = out.Records[i].SequenceNumber
		}
		if out.NextShardIterator == "" {
			t.mu.Lock()
			t.ended[id] = true
			t.mu.Unlock()
			return t.start(ctx)
		}
		iterator = out.NextShardIterator
		if len(out.Records) > 0 {
			continue
		}
		if !t.follow && out.MillisBehindLatest == 0 {
			return nil
		}
		if err := t.sleep(ctx); err != nil {
			return err
		}
	}
}

func (t *tailer) sleep(ctx context.Context) error {
	timer := time.NewTimer(t.wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// line is a record as JSON. Each has one of data and base64, also where the
// record is empty: data that is text stands in Data, any other in Binary.
type line struct {
	Shard       string  `json:"shard"`
	Sequence    string  `json:"sequence"`
	SubSequence *int    `json:"subSequence,omitempty"`
	Arrival     string  `json:"arrival"`
	Key         string  `json:"key"`
	Data        *string `json:"data,omitempty"`
	Binary      []byte  `json:"base64,omitempty"`
}

func (t *tailer) print(s *shardInfo, r *record) error {
	l := line{Shard: s.ShardID, Sequence: r.SequenceNumber, Key: r.PartitionKey,
		Arrival: time.UnixMilli(int64(r.ApproximateArrivalTimestamp*1000 + 0.5)).UTC().Format("2006-01-02T15:04:05.000Z")}
	if !t.raw {
		// Data that does not decode is not an aggregate and is printed as it is.
		if users, err := kpl.Decode(r.Data, nil); err == nil {
			for i := range users {
				if !t.inside(s, &users[i]) {
					continue
				}
				l.SubSequence, l.Key = &i, users[i].PartitionKey
				if err := t.printLine(l, users[i].Data); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return t.printLine(l, r.Data)
}

// inside reports whether a user record of an aggregate belongs to the shard that
// the aggregate is on. After a split an aggregate of an earlier shard map may have
// user records that belong to another shard; the consumer and KCL leave them out,
// and so does tail.
func (t *tailer) inside(s *shardInfo, u *kpl.UserRecord) bool {
	first, err1 := shardlog.ParseHashKey(s.HashKeyRange.Start)
	last, err2 := shardlog.ParseHashKey(s.HashKeyRange.End)
	if err1 != nil || err2 != nil || !t.ranges {
		return true
	}
	h := u.Hash()
	return h.Compare(first) >= 0 && h.Compare(last) <= 0
}

func (t *tailer) printLine(l line, data []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.max > 0 && t.printed == t.max {
		return errEnough
	}
	t.printed++
	switch {
	case t.json:
		if utf8.Valid(data) {
			text := string(data)
			l.Data = &text
		} else {
			l.Binary = data
		}
		if err := printJSON(t.e.stdout, &l); err != nil {
			return err
		}
	default:
		if t.long {
			fmt.Fprintf(t.e.stdout, "%s %s %s %q ", l.Arrival, l.Shard, l.Sequence, l.Key)
		}
		if _, err := fmt.Fprintf(t.e.stdout, "%s\n", data); err != nil {
			return err
		}
	}
	if t.max > 0 && t.printed == t.max {
		return errEnough
	}
	return nil
}
