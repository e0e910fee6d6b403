package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// median returns the middle value, the mean of the two middle ones of an even
// number, and 0 of none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}

// percentile returns a percentile in microseconds.
func percentile(d []time.Duration, p float64) float64 {
	s := slices.Sorted(slices.Values(d))
	return float64(s[int(float64(len(s)-1)*p)]) / 1e3
}

func perSecond(n int, start time.Time) float64 { return float64(n) / time.Since(start).Seconds() }

func millis(d time.Duration) float64 { return float64(d) / 1e6 }

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

// heapMB returns what is live on the heap.
func heapMB() float64 {
	runtime.GC()
	runtime.GC() // what the first one only finalized or took out of pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}

// tempDir makes a directory that remove removes.
func tempDir() (dir string, remove func()) {
	dir = must(os.MkdirTemp(*dataDir, "compare-"))
	return dir, func() { check(os.RemoveAll(dir)) }
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

// pick returns n, or a smaller number in a quick run.
func pick(n, short int) int {
	if *quick {
		return short
	}
	return n
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
