package patterns

import (
	"math"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Bounds of the times in a histogram, in nanoseconds: up to an hour.
const (
	lowest  = 100
	highest = int64(3600e9)
)

// fine returns a histogram for a whole run, exact to 0.1 %. It takes about 200 KiB.
func fine() *hdrhistogram.Histogram { return hdrhistogram.New(lowest, highest, 3) }

// coarse returns a histogram for one second, exact to 1 %. It takes about 25 KiB.
func coarse() *hdrhistogram.Histogram { return hdrhistogram.New(lowest, highest, 2) }

// record adds n equal times. A time out of bounds counts as the nearest bound.
func record(h *hdrhistogram.Histogram, ns, n int64) {
	// The only possible error is a value out of bounds.
	_ = h.RecordValues(min(max(ns, 0), highest), n)
}

// latency summarizes a histogram.
func latency(h *hdrhistogram.Histogram) Latency {
	n := h.TotalCount()
	if n == 0 {
		return Latency{}
	}
	q := func(p float64) int64 { return min(h.ValueAtQuantile(p), h.Max()) }
	l := Latency{Count: n, Mean: h.Mean(), P50: q(50), P90: q(90), P99: q(99), P999: q(99.9), Max: h.Max()}
	for _, bar := range h.Distribution() {
		if bar.Count == 0 {
			continue
		}
		from, to := bucketOf(bar.From)
		if k := len(l.Buckets) - 1; k >= 0 && l.Buckets[k].From == from {
			l.Buckets[k].Count += bar.Count
		} else {
			l.Buckets = append(l.Buckets, LatencyBucket{from, to, bar.Count})
		}
	}
	return l
}

// bucketOf returns the bucket that ns is in. There are eight to a doubling, so on
// a logarithmic axis all have the same width, except for rounding.
func bucketOf(ns int64) (from, to int64) {
	if ns < 128 {
		return 0, 128
	}
	edge := func(k int) int64 { return int64(math.Round(math.Exp2(float64(k) / 8))) }
	k := int(math.Log2(float64(ns)) * 8)
	for edge(k+1) <= ns { // only because of rounding
		k++
	}
	for edge(k) > ns {
		k--
	}
	return edge(k), edge(k + 1)
}
