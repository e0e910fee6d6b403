package awswire

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// sleeps returns how many sleeps of the given lengths are enough; the last one
// is repeated.
func sleeps(lengths ...time.Duration) int {
	var p patience
	for n := 0; ; n++ {
		if p.slept(lengths[min(n, len(lengths)-1)]) {
			return n + 1
		}
	}
}

// What a machine that is busy does to the wait for a client: it is longer, and
// it ends.
func TestWaitOnBusyMachine(t *testing.T) {
	const late = holdSleep + onTime + 1
	assert.Equal(t, holdGood, sleeps(holdSleep))
	assert.Equal(t, holdGood, sleeps(holdSleep+onTime), "what is on time")
	assert.Equal(t, 1+holdGood, sleeps(late, holdSleep))
	assert.Equal(t, 2+holdGood, sleeps(holdSleep, late, holdSleep), "in a row")
	assert.Equal(t, holdMost, sleeps(late))
}

// BenchmarkOtherClients is what a request costs whose answer does not wait: of
// another client, and of the one that has to, but with a small request.
func BenchmarkOtherClients(b *testing.B) {
	for name, agent := range map[string]string{
		"other": "aws-sdk-java/2.57.8 md/io#async md/http#NettyNio ua/2.1 os/Linux#6.1 lang/java#17.0.15 md/OpenJDK_64-Bit_Server_VM",
		"small": "aws-sdk-go-v2/1.47.7 ua/2.1 os/linux lang/go#1.26.8 md/GOOS#linux md/GOARCH#amd64 api/kinesis#1.56.11",
	} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", 300)))
			r.Header.Set("User-Agent", agent)
			for _, h := range []string{"Authorization", "X-Amz-Date", "X-Amz-Target", "Content-Type", "Accept-Encoding", "Amz-Sdk-Invocation-Id"} {
				r.Header.Set(h, strings.Repeat("v", 40))
			}
			c := &Call{R: r, Out: Encoder{Buf: make([]byte, 40_000)}}
			for b.Loop() {
				c.hold()
			}
		})
	}
}
