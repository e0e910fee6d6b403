package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// metrics are the figures of one side of a work in one round, by their names:
//
//	rate           records a second
//	p50, p99       of calls, in microseconds; of the hand-over, from append to delivery
//	first          the rate of the first pass of a scan
//	allocs         allocations a record
//	disk           bytes on the disk for each byte of records
//	peakMB         most resident memory
//	heapMB         what is live on the heap
//	warm, cold     milliseconds to open
//	cached         the part of the files that was still in the page cache, of a cold one
//	new, existing  milliseconds to open and close
type metrics map[string]float64

// side is one of those that do a work.
type side struct {
	name string
	play func() metrics
}

// work is what all its sides do.
type work struct {
	name  string
	sides []side
}

// deadline is for one process: one that waits for something that does not come
// must not take the figures of all others with it.
const deadline = 5 * time.Minute

// measure runs all works in all rounds.
func measure(ws []work, all int) (*results, error) {
	res := newResults(ws, all)
	begin := time.Now()
	fmt.Fprintln(os.Stderr, res.Machine)
	var err error
	if *quick {
		err = res.together(ws)
	} else {
		err = res.inTurn(ws)
	}
	res.Took = time.Since(begin).Round(time.Second)
	return res, err
}

// inTurn runs one process at a time. Each round begins with another side.
func (res *results) inTurn(ws []work) error {
	for round := range res.Rounds {
		begin := time.Now()
		for _, w := range ws {
			fmt.Fprintf(os.Stderr, "\rround %d of %d: %-60s", round+1, res.Rounds, w.name)
			for i := range w.sides {
				s := w.sides[(i+round)%len(w.sides)]
				// What the one before has left to write is not to be this one's.
				syncDisks()
				start := time.Now()
				m, err := runSide(w.name, s.name, round+1)
				if err != nil && !strings.HasPrefix(s.name, us) {
					// Others fail in their own ways, which need not be the end of
					// a long run. What is ours does not get a second chance.
					fmt.Fprintf(os.Stderr, "\n%v\nonce more\n", err)
					m, err = runSide(w.name, s.name, round+1)
				}
				if err != nil {
					return err
				}
				res.Cells = append(res.Cells, cell{res.Run, round + 1, w.name, s.name, time.Since(start), m})
			}
		}
		fmt.Fprintf(os.Stderr, "\rround %d of %d: %v %-60s\n", round+1, res.Rounds, time.Since(begin).Round(time.Second), "")
	}
	return nil
}

// together runs as many processes as there are cores, where time does not count.
func (res *results) together(ws []work) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	free := make(chan struct{}, runtime.NumCPU())
	for _, w := range ws {
		for _, s := range w.sides {
			free <- struct{}{}
			wg.Go(func() {
				defer func() { <-free }()
				start := time.Now()
				m, err := runSide(w.name, s.name, 1)
				mu.Lock()
				defer mu.Unlock()
				if failed == nil {
					failed = err
				}
				res.Cells = append(res.Cells, cell{res.Run, 1, w.name, s.name, time.Since(start), m})
			})
		}
	}
	wg.Wait()
	return failed
}

// runSide runs a side in a process and a directory of its own.
func runSide(work, side string, round int) (metrics, error) {
	dir, err := os.MkdirTemp(*dataDir, "compare-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	var extra []string
	if *profile != "" {
		if err := os.MkdirAll(*profile, 0o755); err != nil {
			return nil, err
		}
		name := strings.NewReplacer(" ", "-", ",", "", "/", "-", "(", "", ")", "").Replace(fmt.Sprintf("%s.%s.%d.pprof", work, side, round))
		extra = []string{"-cpuprofile", filepath.Join(*profile, name)}
	}
	cmd := playCommand(ctx, work, side, "", dir, extra...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w\n%.4000s", work, side, err, stderr.Bytes())
	}
	var m metrics
	if err := json.Unmarshal(out, &m); err != nil {
		return nil, fmt.Errorf("%s, %s: %w in %q", work, side, err, out)
	}
	return m, nil
}

// playCommand is a process that plays a side, or a step of it.
func playCommand(ctx context.Context, work, side, step, dir string, extra ...string) *exec.Cmd {
	self, err := os.Executable()
	check(err)
	args := append([]string{"-play", work, "-side", side, "-step", step, "-dir", dir, "-time", span.String(), "-http", *servers}, extra...)
	if *quick {
		args = append(args, "-quick")
	}
	cmd := exec.CommandContext(ctx, self, args...)
	return cmd
}

func printJSON(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }
