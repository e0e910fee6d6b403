// Command iot watches temperatures of devices and raises an alert when the mean
// of a device's last readings is too high, and another one when it is normal
// again.
//
//	go run ./examples/iot                         # made-up readings of 50 devices
//	go run ./examples/iot -devices 500 -readings 200
//
// A device's readings have one partition key, so they come in order; eight
// devices of a shard are handled at a time (PerKey). Readings that cannot be
// decoded go to a stream of dead letters and delay no others.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the program immediately
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "iot:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	fs := flag.NewFlagSet("iot", flag.ContinueOnError)
	devices := fs.Int("devices", 50, "devices")
	readings := fs.Int("readings", 100, "readings of each device")
	seed := fs.Uint64("seed", 1, "seed of the made-up readings")
	if err := fs.Parse(args); err != nil {
		return err
	}
	db, err := stream.Open("", &stream.Options{InMemory: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	st, err := db.Ensure(ctx, "readings", stream.Config{Shards: 4})
	if err != nil {
		return err
	}
	dead, err := db.Ensure(ctx, "dead-letters", stream.Config{})
	if err != nil {
		return err
	}
	total, err := putReadings(ctx, st, *devices, *readings, *seed)
	if err != nil {
		return err
	}
	w := &watcher{last: map[string][]float64{}, hot: map[string]bool{}}
	if err := watch(ctx, st, dead, w, total); err != nil {
		return err
	}
	return w.report(ctx, dead, out)
}

// reading is what is in a record.
type reading struct {
	Device  string  `json:"device"`
	Celsius float64 `json:"celsius"`
}

// putReadings makes the readings up: every tenth device gets hot for a while,
// and now and then one sends nonsense. It returns how many there are.
func putReadings(ctx context.Context, st *stream.Stream, devices, readings int, seed uint64) (total int, err error) {
	rnd := rand.New(rand.NewPCG(seed, seed))
	for n := range readings {
		var batch []shardlog.Record
		for d := range devices {
			r := reading{Device: fmt.Sprintf("device-%03d", d), Celsius: 20 + rnd.Float64()*5}
			if d%10 == 0 && n > readings/3 && n < readings/2 {
				r.Celsius += 70
			}
			data, err := json.Marshal(r)
			if err != nil {
				return 0, err
			}
			if d == 7 && n%50 == 10 {
				data = []byte("%$!")
			}
			batch = append(batch, shardlog.Record{PartitionKey: r.Device, Data: data})
		}
		results, err := st.PutRecords(ctx, batch)
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
		if err != nil {
			return 0, err
		}
		total += len(batch)
	}
	return total, nil
}

// watch consumes until every reading is handled.
func watch(ctx context.Context, st, dead *stream.Stream, w *watcher, total int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.left, w.done = total, cancel
	toDead := consumer.DeadLettersTo(dead)
	c, err := consumer.New(st, &consumer.Options{
		Group: "alerts", PerKey: 8, MaxAttempts: 3,
		DeadLetter: func(ctx context.Context, d consumer.DeadLetter) error {
			err := toDead(ctx, d)
			if err == nil {
				w.finished()
			}
			return err
		},
	})
	if err != nil {
		return err
	}
	return c.Run(ctx, consumer.JSON(w.look))
}

// window is how many readings the mean covers, and limit the mean that raises
// an alert.
const (
	window = 5
	limit  = 60.0
)

// watcher handles readings and collects alerts.
type watcher struct {
	mu     sync.Mutex
	last   map[string][]float64
	hot    map[string]bool
	alerts []string
	left   int
	done   func()
}

func (w *watcher) look(_ context.Context, r reading, rec shardlog.Record) error {
	if r.Device != rec.PartitionKey {
		return consumer.Permanent(fmt.Errorf("a reading of %q with the key %q", r.Device, rec.PartitionKey))
	}
	w.mu.Lock()
	last := append(w.last[r.Device], r.Celsius)
	last = last[max(0, len(last)-window):]
	w.last[r.Device] = last
	mean := 0.0
	for _, v := range last {
		mean += v / float64(len(last))
	}
	if hot := len(last) == window && mean > limit; hot != w.hot[r.Device] {
		w.hot[r.Device] = hot
		state := "is well again"
		if hot {
			state = "is too hot"
		}
		w.alerts = append(w.alerts, r.Device+" "+state)
	}
	w.mu.Unlock()
	w.finished()
	return nil
}

// finished counts a record that was handled.
func (w *watcher) finished() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left--; w.left == 0 {
		w.done()
	}
}

func (w *watcher) report(ctx context.Context, dead *stream.Stream, out io.Writer) error {
	shards, err := dead.Shards(ctx)
	if err != nil {
		return err
	}
	letters := 0
	for _, s := range shards {
		for _, err := range dead.Records(ctx, s.ID, shardlog.TrimHorizon()) {
			if err != nil {
				return err
			}
			letters++
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.alerts)
	_, err = fmt.Fprintf(out, "%d alerts, %d dead letters\n%s\n", len(w.alerts), letters, strings.Join(w.alerts, "\n"))
	return err
}
