package awswire

import (
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
