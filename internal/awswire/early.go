package awswire

import (
	"net/http"
	"strings"
	"time"
)

// An answer can be too early for aws-sdk-go-v2. It closes the body of a request
// as soon as the headers of the answer are there. Over HTTP/1.1 its transport,
// that of net/http, looks once more for the end of the body after it has written
// the last byte, and the SDK's body, when it is closed, answers that with an
// error. The transport then closes the connection, and what was not read of the
// answer is lost: the operation is done, the call fails, and a retry does it
// again. A server on the same machine that answers in a millisecond takes the
// core from the goroutine that wants to look.
//
// Nothing that the client sends shows when it has looked. So the answer waits
// until the client has had a core to do it. Not in danger, and not held, are
//
//   - all other clients;
//   - HTTP/2, where the end is looked for before the last frame is sent;
//   - a request that fits into the transport's buffer, which is written after
//     the end was seen;
//   - an answer that comes with its headers in one read: nothing is left to be
//     lost.
const (
	earlyClient = "aws-sdk-go-v2/" // in User-Agent, where others may stand before it
	// writeBuffer is that of net/http's transport, less some room for what a
	// proxy may have taken out of the headers.
	writeBuffer = 4<<10 - 256
	// oneRead is the size of an answer that, with its headers, is one segment on
	// an Ethernet and in the first record of a TLS connection.
	oneRead = 768
)

// A sleep that ends on time shows that a core was free, so that the client could
// have had it too. One may be luck. On a machine that has more to do than it has
// cores sleeps end late, and the wait is longer, up to holdMost of them.
const (
	holdSleep = time.Millisecond
	onTime    = 250 * time.Microsecond
	holdGood  = 3
	holdMost  = 30
)

// hold waits as long as the client may need to be ready for the answer.
func (c *Call) hold() {
	if len(c.Out.Buf) <= oneRead || c.R.ContentLength <= 0 || c.R.ProtoMajor != 1 ||
		!strings.Contains(c.R.UserAgent(), earlyClient) || fitsBuffer(c.R) {
		return
	}
	c.ReleaseBody() // others may be waiting for its memory
	var p patience
	for enough := false; !enough && c.R.Context().Err() == nil; {
		begin := time.Now()
		time.Sleep(holdSleep)
		enough = p.slept(time.Since(begin))
	}
}

// patience decides how many sleeps are enough.
type patience struct{ good, all int }

// slept takes note of how long a sleep of holdSleep lasted.
func (p *patience) slept(d time.Duration) (enough bool) {
	p.all++
	p.good++
	if d > holdSleep+onTime {
		p.good = 0
	}
	return p.good == holdGood || p.all == holdMost
}

// fitsBuffer reports whether the client has written the whole request at the
// same time.
func fitsBuffer(r *http.Request) bool {
	size := int64(len(r.Method)+len(r.RequestURI)+len(r.Host)+len("  HTTP/1.1\r\nHost: \r\n\r\n")) + r.ContentLength
	for name, values := range r.Header {
		for _, v := range values {
			size += int64(len(name) + len(v) + len(": \r\n"))
		}
	}
	return size <= writeBuffer
}
