package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// record is a partition key of keySize bytes, followed by the data, whose first 8
// bytes are the number of the writer and of its record.
type record []byte

const (
	keySize  = 16
	dataSize = 100
)

func (r record) key() string  { return string(r[:keySize]) }
func (r record) data() []byte { return r[keySize:] }

// work is one way to append.
type work struct {
	writers, batch int
	sync           bool
}

func (w work) String() string {
	s := fmt.Sprintf("%d x %d", w.writers, w.batch)
	if w.sync {
		s += ", synced"
	}
	return s
}

var works = []work{{1, 500, false}, {16, 500, false}, {1, 1, false}, {16, 1, false}, {1, 1, true}, {16, 1, true}, {1, 500, true}, {16, 500, true}}

// figures are the measurements of one system in one round. Rates are in records a
// second and latencies of calls in microseconds, both by the name of the work.
type figures struct {
	Rate, P50, P99 map[string]float64
	// Scan is the rate of reading the records that load has stored.
	Scan float64
	// DiskPerByte is the number of bytes on the disk for each byte of keys and
	// data. PeakMB is the peak memory while loading, in a process that does
	// nothing else.
	DiskPerByte, PeakMB float64
	// HandOver50 and HandOver99 are percentiles of the time from an append to a
	// waiting reader, in microseconds; 0 if there is no such reader.
	HandOver50, HandOver99 float64
}

// span is the time for which one work appends, and cap the largest number of
// records that it stores, so that the fastest systems do not fill the disk.
func span() (time.Duration, int) {
	if *quick {
		return 10 * time.Millisecond, 20_000
	}
	return 250 * time.Millisecond, 1_500_000
}

// loaded returns the number of records that are loaded to measure disk, memory and
// scan.
func loaded() int {
	if *quick {
		return 5_000
	}
	return 200_000
}

// maker generates the records of one writer.
type maker struct {
	writer, next int
	noise        []byte
}

func newMaker(writer int) *maker {
	m := &maker{writer: writer, noise: make([]byte, 64<<10)}
	rnd := rand.New(rand.NewPCG(1, uint64(writer)))
	for i := range m.noise {
		m.noise[i] = byte(rnd.Uint32())
	}
	return m
}

// batch generates the next batch, in new memory because some systems keep it.
func (m *maker) batch(n int) []record {
	const size = keySize + dataSize
	buf, out := make([]byte, n*size), make([]record, n)
	for i := range out {
		r := buf[i*size : (i+1)*size : (i+1)*size]
		copy(r, keys[(m.writer*61+m.next)%len(keys)])
		copy(r[keySize:], m.noise[m.next*dataSize%(len(m.noise)-dataSize):])
		binary.BigEndian.PutUint16(r[keySize:], uint16(m.writer))
		binary.BigEndian.PutUint64(r[keySize+2:], uint64(m.next))
		m.next++
		out[i] = r
	}
	return out
}

// verify reads everything and checks the count and the order by key and writer,
// and that nothing is repeated or missing.
func verify(r rival, makers []*maker) (n int) {
	type place struct{ writer, key int }
	last := map[place]int{}
	sums := make([]int, len(makers))
	r.scan(func(data []byte) {
		if len(data) != dataSize {
			panic(fmt.Sprintf("%d bytes of data", len(data)))
		}
		w, seq := int(binary.BigEndian.Uint16(data)), int(binary.BigEndian.Uint64(data[2:]))
		p := place{w, (w*61 + seq) % len(keys)}
		if before, ok := last[p]; ok && seq <= before {
			panic(fmt.Sprintf("writer %d: %d follows %d", w, seq, before))
		}
		last[p] = seq
		sums[w] += seq
		n++
	})
	want := 0
	for w, m := range makers {
		want += m.next
		if sums[w] != m.next*(m.next-1)/2 {
			panic(fmt.Sprintf("writer %d: records are missing or others", w))
		}
	}
	if n != want {
		panic(fmt.Sprintf("%d records of %d", n, want))
	}
	return n
}

// appendFor has writers append for a while, and then checks what is stored.
func appendFor(s system, w work) (rate, p50, p99 float64) {
	dir := must(os.MkdirTemp(*dataDir, "compare-"))
	defer os.RemoveAll(dir)
	r := s.open(dir, w.sync)
	defer r.close()
	makers := make([]*maker, w.writers)
	times := make([][]time.Duration, w.writers)
	for i := range makers {
		makers[i] = newMaker(i)
	}
	d, most := span()
	var wg sync.WaitGroup
	start := time.Now()
	for i, m := range makers {
		wg.Go(func() {
			for m.next < most/w.writers && (m.next == 0 || time.Since(start) < d) {
				b := m.batch(w.batch)
				t := time.Now()
				r.append(b)
				times[i] = append(times[i], time.Since(t))
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	all := slices.Sorted(slices.Values(slices.Concat(times...)))
	at := func(p float64) float64 { return float64(all[int(float64(len(all)-1)*p)]) / 1e3 }
	return float64(verify(r, makers)) / took.Seconds(), at(0.5), at(0.99)
}

// load stores a fixed number of records and measures their size on the disk.
func load(s system, f *figures) {
	dir := must(os.MkdirTemp(*dataDir, "compare-"))
	defer os.RemoveAll(dir)
	r := s.open(dir, s.unsynced == "")
	m := newMaker(0)
	for m.next < loaded() {
		r.append(m.batch(500))
	}
	f.PeakMB = peakMB()
	runtime.GC()
	start := time.Now()
	n := 0
	r.scan(func([]byte) { n++ })
	f.Scan = float64(n) / time.Since(start).Seconds()
	verify(r, []*maker{m})
	r.close()
	f.DiskPerByte = float64(diskBytes(dir)) / float64(m.next*(keySize+dataSize))
}

// peakMB returns the peak resident memory of this process, where the system
// reports it.
func peakMB() float64 {
	b, _ := os.ReadFile("/proc/self/status")
	var kb float64
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			_, _ = fmt.Sscan(v, &kb)
		}
	}
	return kb / 1024
}

// play runs one system in one round, in a process of its own, and prints its
// figures. It has two parts, because memory is measured in a process that has done
// nothing else.
func play(name, part string) {
	for _, s := range systems {
		if s.name != name {
			continue
		}
		f := figures{Rate: map[string]float64{}, P50: map[string]float64{}, P99: map[string]float64{}}
		if part == "load" {
			load(s, &f)
			f.HandOver50, f.HandOver99 = handOver(s)
		} else {
			for _, w := range works {
				if w.sync && s.synced == "" || !w.sync && s.unsynced == "" {
					continue
				}
				n := w.String()
				f.Rate[n], f.P50[n], f.P99[n] = appendFor(s, w)
				runtime.GC()
			}
		}
		check(json.NewEncoder(os.Stdout).Encode(f))
		return
	}
	panic("no system " + name)
}

// playRound runs a process for each part of play and combines the figures.
func playRound(s system) figures {
	var f figures
	for _, part := range []string{"append", "load"} {
		args := []string{"-play", s.name, "-part", part, "-dir", *dataDir}
		if *quick {
			args = append(args, "-quick")
		}
		cmd := exec.Command(must(os.Executable()), args...)
		cmd.Stderr = os.Stderr
		out := must(cmd.Output())
		var g figures
		check(json.Unmarshal(out, &g))
		if part == "append" {
			f = g
		} else {
			g.Rate, g.P50, g.P99 = f.Rate, f.P50, f.P99
			f = g
		}
	}
	return f
}

// diskBytes returns the space that the files of a directory take, without holes.
func diskBytes(dir string) (n int64) {
	check(filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += allocated(info)
		}
		return err
	}))
	return n
}
