// Package leaktest finds goroutines that tests leave behind.
package leaktest

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is how long a goroutine may take to end after what it belongs to was
// closed. Only tests that fail wait for it.
const patience = time.Minute

// ours are what the stacks of goroutines contain that must not be left: those
// of this module, whatever its packages are called, and of the storage engine.
var ours = []string{"github.com/shardlog/shardlog", "github.com/dgraph-io/"}

// Main runs the tests of a package and ends the process. It fails if the tests
// pass and goroutines are left. It is called by TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if left := Left(); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines are left:\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

// Left blocks until no goroutine of this module or of the storage engine is left
// in the process, other than the caller and those that run tests, and returns "".
// If some do not end within a minute it returns their stacks.
func Left() string { return Mark{}.Left() }

// A Mark says which goroutines there were at some moment.
type Mark map[string]bool

// Now returns a mark of the goroutines that are there now.
func Now() Mark {
	m := Mark{}
	for _, stack := range running() {
		m[number(stack)] = true
	}
	return m
}

// Left is the package's function for the goroutines that were started since
// the mark was made: what a test before has left, because it failed, does not
// count.
func (m Mark) Left() string {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		left := slices.DeleteFunc(running(), func(stack string) bool { return m[number(stack)] })
		if len(left) == 0 || time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
	}
}

// number returns the number of the goroutine that a stack is of. A number is
// not used again.
func number(stack string) string {
	head, _, _ := strings.Cut(stack, " [")
	return head
}

// running returns the stacks of the goroutines that Left waits for.
func running() (left []string) {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for _, stack := range strings.Split(string(buf), "\n\n")[1:] { // the first is the caller's
		if strings.Contains(stack, "testing.tRunner") {
			continue
		}
		for _, name := range ours {
			if strings.Contains(stack, name) {
				left = append(left, stack)
				break
			}
		}
	}
	return left
}
