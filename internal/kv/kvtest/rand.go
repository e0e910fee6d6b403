package kvtest

import (
	"math/rand"
	"os"
	"strconv"
	"testing"
	"time"
)

// EnvSeed is the environment variable that repeats a random test with the seed
// that it printed.
const EnvSeed = "SHARDLOG_SEED"

// Rand returns a source of randomness and prints its seed if the test fails.
func Rand(t testing.TB) *rand.Rand {
	seed, err := strconv.ParseInt(os.Getenv(EnvSeed), 10, 64)
	if err != nil {
		seed = time.Now().UnixNano()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with %s=%d", EnvSeed, seed)
		}
	})
	return rand.New(rand.NewSource(seed))
}
