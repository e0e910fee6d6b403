package once

import (
	"slices"
	"sort"

	"github.com/shardlog/shardlog"
)

// numbered is a number of a producer that is stored, and where.
type numbered struct {
	number uint64
	seq    shardlog.SequenceNumber
}

// MaxNumbers is how far above its Done a number may be, and so how many numbers
// are kept for a producer.
const MaxNumbers = 1 << 20

// NumbersIn returns MaxNumbers, or less where the numbers of a producer have to
// fit into a value log file of fewer bytes.
func NumbersIn(fileBytes int64) uint64 {
	const numberSize = 24 // at most, with its shard
	return uint64(min(MaxNumbers, (fileBytes-64<<10)/numberSize))
}

// findNumber returns the place of a number in a list that ascends.
func findNumber(list []numbered, number uint64) (shardlog.SequenceNumber, bool) {
	if n := len(list); n == 0 || list[n-1].number < number {
		return shardlog.SequenceNumber{}, false
	}
	i := sort.Search(len(list), func(i int) bool { return list[i].number >= number })
	if list[i].number != number {
		return shardlog.SequenceNumber{}, false
	}
	return list[i].seq, true
}

// mergeNumbers returns what is in list from done on, and more; both ascend. It
// may use the memory behind list, but changes nothing in it.
func mergeNumbers(list, more []numbered, done uint64) []numbered {
	list = list[sort.Search(len(list), func(i int) bool { return list[i].number >= done }):]
	more = more[sort.Search(len(more), func(i int) bool { return more[i].number >= done }):]
	if len(list) == 0 || len(more) == 0 || list[len(list)-1].number < more[0].number {
		return append(list, more...)
	}
	out := make([]numbered, 0, len(list)+len(more))
	for len(list) > 0 && len(more) > 0 {
		switch {
		case list[0].number < more[0].number:
			out, list = append(out, list[0]), list[1:]
		case list[0].number > more[0].number:
			out, more = append(out, more[0]), more[1:]
		default:
			list = list[1:] // the later one counts
		}
	}
	return append(append(out, list...), more...)
}

// sortNumbers sorts what several calls added; no number is twice in it.
func sortNumbers(list []numbered) {
	if !slices.IsSortedFunc(list, compareNumbers) {
		slices.SortFunc(list, compareNumbers)
	}
}

func compareNumbers(a, b numbered) int {
	switch {
	case a.number < b.number:
		return -1
	case a.number > b.number:
		return 1
	}
	return 0
}

// reservedNumbers are the numbers that one attempt has reserved. They are pending
// until the outcome of all of them is known.
type reservedNumbers struct {
	by      *reservation
	numbers []uint64 // in ascending order
	left    int      // whose outcome is not known
}

// meets reports whether one of the numbers, which ascend, is among them.
func (n *reservedNumbers) meets(numbers []uint64) bool {
	a, b := n.numbers, numbers
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[len(a)-1] < b[0] || b[len(b)-1] < a[0]:
			return false
		case a[0] == b[0]:
			return true
		case a[0] < b[0]:
			a = a[1:]
		default:
			b = b[1:]
		}
	}
	return false
}
