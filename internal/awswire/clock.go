package awswire

import (
	"encoding/binary"
	"encoding/json"
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

// Latest returns the later one of Now and the machine's time. Records have the
// machine's time, so a time that a client has from one of them is not in the
// future where the clock was moved back.
func (c *Clock) Latest() time.Time { return time.Now().Add(max(0, c.Offset())) }

// Moment is when something happened, on the clock and on the machine's. What an
// endpoint gives out or begins at a moment has to be judged later, when the
// clock may have been moved in between, see Clock.Since.
type Moment struct {
	at      time.Time
	machine time.Time
}

// Moment returns the present.
func (c *Clock) Moment() Moment {
	now := time.Now()
	return Moment{at: now.Add(c.Offset()), machine: now}
}

// Time returns the moment on the clock of the endpoint, as it was then.
func (m Moment) Time() time.Time { return m.at }

// IsZero reports whether m is no moment.
func (m Moment) IsZero() bool { return m == Moment{} }

// Since returns how long ago a moment was, which is never negative: the longer
// one of what has passed on the clock and on the machine. So a clock that is
// moved ahead ends what lasts, and what begins while it is ahead lasts no longer
// once the clock is right again.
func (c *Clock) Since(m Moment) time.Duration {
	now := c.Moment()
	return max(0, now.at.Sub(m.at), now.machine.Sub(m.machine))
}

// AppendMoment appends a moment, in milliseconds, for Payload.Moment.
func AppendMoment(b []byte, m Moment) []byte {
	b = binary.AppendVarint(b, m.at.UnixMilli())
	return binary.AppendVarint(b, m.at.UnixMilli()-m.machine.UnixMilli())
}

// Moment reads what AppendMoment wrote.
func (p *Payload) Moment() Moment {
	at := p.Varint()
	return Moment{at: time.UnixMilli(at), machine: time.UnixMilli(at - p.Varint())}
}

// MarshalJSON writes the two times in Unix milliseconds, the clock's first.
func (m Moment) MarshalJSON() ([]byte, error) {
	return json.Marshal([2]int64{m.at.UnixMilli(), m.machine.UnixMilli()})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (m *Moment) UnmarshalJSON(b []byte) error {
	var ms [2]int64
	if err := json.Unmarshal(b, &ms); err != nil {
		return err
	}
	*m = Moment{at: time.UnixMilli(ms[0]), machine: time.UnixMilli(ms[1])}
	return nil
}

// Clock returns that of the endpoint.
func (c *Call) Clock() *Clock { return &c.Env.Clock }
