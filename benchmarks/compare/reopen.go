package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// loaded is what the process that loads prints before it is killed.
type loaded struct {
	Records int
	PeakMB  float64
}

// opened is what a process prints that opens what it left. First is the time to
// the first record.
type opened struct {
	Millis, First float64
	Records       int
}

// reopen has one process load a gigabyte, kills it, and has others open what it
// left: a copy, which is in the page cache, and the files themselves, after they
// were taken out of it.
func reopen(s system) metrics {
	switch *playStep {
	case "load":
		loadAndWait(s)
	case "open":
		check(printJSON(openLeft(s)))
		os.Exit(0)
	}
	dir, remove := tempDir()
	defer remove()
	left, copied := filepath.Join(dir, "left"), filepath.Join(dir, "copy")
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	l := loadAndKill(playCommand(ctx, *playWork, *playSide, "load", mkdir(left)))
	check(copyFiles(left, copied))
	out := metrics{"peakMB": l.PeakMB}
	open := func(dir string) opened {
		cmd := playCommand(ctx, *playWork, *playSide, "open", dir)
		cmd.Stderr = os.Stderr
		var o opened
		check(json.Unmarshal(must(cmd.Output()), &o))
		// What a system keeps in its process is lost with it.
		if o.Records > l.Records || s.unsynced == inKernel && o.Records != l.Records {
			panic(fmt.Sprintf("%s: %d records, %d were acknowledged", s.name, o.Records, l.Records))
		}
		return o
	}
	warm := open(copied)
	out["warm"], out["warmFirst"], out["kept"] = warm.Millis, warm.First, float64(warm.Records)/float64(l.Records)
	check(os.RemoveAll(copied))
	cached, ok := dropCache(left)
	if cold := open(left); ok {
		out["cold"], out["coldFirst"], out["cached"] = cold.Millis, cold.First, cached
	}
	return out
}

// loadAndKill starts a process, waits until it has loaded, and kills it.
func loadAndKill(cmd *exec.Cmd) (l loaded) {
	cmd.Stderr = os.Stderr
	in := must(cmd.StdinPipe())
	defer in.Close()
	out := must(cmd.StdoutPipe())
	check(cmd.Start())
	err := json.NewDecoder(bufio.NewReader(out)).Decode(&l)
	check(cmd.Process.Kill())
	_ = cmd.Wait() // that it was killed is no error
	check(err)
	return l
}

// loadAndWait does not return: this process is to be killed.
func loadAndWait(s system) {
	r, m := s.open(*dataDir, false), newMaker(0, large)
	for m.next*large.rawSize() < pick(1_000_000_000, 10_000_000) {
		r.append(0, m.batch(500))
	}
	check(printJSON(loaded{m.next, peakMB()}))
	_, _ = io.Copy(io.Discard, os.Stdin) // ends if the parent has ended
	os.Exit(1)
}

// openLeft opens what was left. The records that are there are the first ones,
// without gaps.
func openLeft(s system) (o opened) {
	start := time.Now()
	r := s.open(*dataDir, false)
	o.Millis = millis(time.Since(start))
	m := newMaker(0, large)
	r.scan(func(v []byte) {
		if o.Records == 0 {
			o.First = millis(time.Since(start))
		}
		o.Records++
		m.next = max(m.next, 1+numberIn(v[len(v)-large.size:]))
	})
	verify(r, []*maker{m})
	r.close()
	return o
}

func mkdir(dir string) string {
	check(os.MkdirAll(dir, 0o755))
	return dir
}

// copyFiles copies a directory to the disk.
func copyFiles(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.Create(filepath.Join(to, rel))
		if err != nil {
			return err
		}
		err = copyData(out, in)
		if err == nil {
			// Opening may sync a file, and is not to wait for the copy.
			err = out.Sync()
		}
		if err != nil {
			_ = out.Close() // the first error is the cause
			return err
		}
		return out.Close()
	})
}
