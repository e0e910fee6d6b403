package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/shardlog/shardlog"
)

// summary is what the program found out.
type summary struct {
	Records   int            `json:"records"`
	Shards    int            `json:"shards"`
	PerShard  map[string]int `json:"perShard"`
	Malformed int            `json:"malformed"`
	Empty     int            `json:"empty"` // lines
	Status    map[string]int `json:"status"`
	Clients   map[string]int `json:"clients"`
	Paths     map[string]int `json:"paths"`
	Bytes     int64          `json:"bytes"`
	// Of this run. Resumed is how many records were stored before it.
	Resumed  int  `json:"resumed"`
	Produced rate `json:"produced"`
	Consumed rate `json:"consumed"` // counted and checkpointed, while producing
}

// rate is how many records went through in which time.
type rate struct {
	Records   int     `json:"records"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"perSecond"`
}

func newRate(records int, took time.Duration) rate {
	return rate{records, took.Seconds(), float64(records) / max(took.Seconds(), 1e-9)}
}

// summary adds up the shards.
func (c *counts) summary(shards []shardlog.ShardInfo) *summary {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &summary{
		Shards: len(shards), PerShard: map[string]int{},
		Status: map[string]int{}, Clients: map[string]int{}, Paths: map[string]int{},
	}
	for _, i := range shards {
		s.PerShard[i.ID] = 0
	}
	for id, t := range c.shards {
		s.Records += t.Records
		s.PerShard[id] = t.Records
		s.Bytes += t.Bytes
		addAll(s.Status, t.Status)
		addAll(s.Clients, t.Clients)
		addAll(s.Paths, t.Paths)
	}
	return s
}

func addAll(dst, src map[string]int) {
	for k, n := range src {
		dst[k] += n
	}
}

// print writes the summary for people, or as one JSON object.
func (s *summary) print(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return e.Encode(s)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "%d records in %d shards, %d malformed lines, %.1f MB served\n", s.Records, s.Shards, s.Malformed, float64(s.Bytes)/1e6)
	fmt.Fprintf(t, "produced %d in %.2f s: %.0f records/s\n", s.Produced.Records, s.Produced.Seconds, s.Produced.PerSecond)
	fmt.Fprintf(t, "consumed %d in %.2f s: %.0f records/s\n", s.Consumed.Records, s.Consumed.Seconds, s.Consumed.PerSecond)
	if s.Resumed > 0 {
		fmt.Fprintf(t, "%d records were there before\n", s.Resumed)
	}
	for _, part := range []struct {
		title string
		m     map[string]int
		n     int
		byKey bool
	}{
		{"shard", s.PerShard, 50, true}, {"status", s.Status, 20, false},
		{"busiest clients", s.Clients, 10, false}, {"most asked paths", s.Paths, 10, false},
	} {
		fmt.Fprintf(t, "\n%s\trecords\tshare\n", part.title)
		for _, k := range top(part.m, part.n, part.byKey) {
			fmt.Fprintf(t, "  %s\t%d\t%.1f %%\n", k, part.m[k], 100*float64(part.m[k])/float64(max(1, s.Records)))
		}
	}
	return t.Flush()
}

// top returns the n keys with the largest values, or the first n in order.
func top(m map[string]int, n int, byKey bool) []string {
	keys := slices.Collect(maps.Keys(m))
	slices.SortFunc(keys, func(a, b string) int {
		if !byKey && m[a] != m[b] {
			return cmp.Compare(m[b], m[a])
		}
		return cmp.Compare(a, b)
	})
	return keys[:min(n, len(keys))]
}

// progress shows on a terminal how far things are; on anything else nothing.
type progress struct {
	w        io.Writer
	tty      bool
	produced atomic.Int64
	quit     chan struct{}
	wg       sync.WaitGroup
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, quit: make(chan struct{})}
	if f, ok := w.(*os.File); ok {
		if fi, err := f.Stat(); err == nil {
			p.tty = fi.Mode()&os.ModeCharDevice != 0
		}
	}
	return p
}

func (p *progress) start(c *counts) {
	if !p.tty {
		return
	}
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		t := time.NewTicker(200 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-p.quit:
				fmt.Fprint(p.w, "\r\x1b[K")
				return
			case <-t.C:
				fmt.Fprintf(p.w, "\r\x1b[K%d put, %d counted", p.produced.Load(), c.total())
			}
		}
	}()
}

func (p *progress) stop() {
	close(p.quit)
	p.wg.Wait()
}
