package logstore

import "time"

// clock says the time of appends, in milliseconds, as time.Now does. How much of a
// millisecond is left since that was called is cheaper to find out, by the monotonic clock:
// so a suspension within a millisecond is seen up to one later.
type clock struct {
	read time.Time
	left time.Duration // of its millisecond
	ms   int64
}

// now returns the time in Unix milliseconds.
func (c *clock) now() int64 {
	if d := time.Since(c.read); d < 0 || d >= c.left {
		c.read = time.Now()
		c.left = time.Millisecond - time.Duration(c.read.Nanosecond())%time.Millisecond
		c.ms = c.read.UnixMilli()
	}
	return c.ms
}
