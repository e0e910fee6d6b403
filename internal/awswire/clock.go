package awswire

import (
	"sync/atomic"
	"time"
)

// Clock is the machine's with an offset that tests move. The zero value has
// none. It is safe for concurrent use.
type Clock struct{ offset atomic.Int64 }

// Now returns the time.
func (c *Clock) Now() time.Time { return time.Now().Add(c.Offset()) }

// Offset returns how far the clock is ahead.
func (c *Clock) Offset() time.Duration { return time.Duration(c.offset.Load()) }

// SetOffset moves the clock.
func (c *Clock) SetOffset(d time.Duration) { c.offset.Store(int64(d)) }
