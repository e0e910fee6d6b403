package kinesisapi

import (
	"strconv"
	"strings"

	"github.com/shardlog/shardlog"
)

// shardID returns the canonical form of a shard's index.
func shardID(index uint32) string { return shardlog.ShardID(index) }

// shardIndex reads a shard ID. AWS takes one without its zeros and its prefix,
// and none above 2^31-1.
func shardIndex(id string) (uint32, bool) {
	digits := id
	if parts := strings.SplitN(id, "-", 3); len(parts) > 1 && parts[1] != "" {
		digits = parts[1]
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	return uint32(n), err == nil
}

// The parts of a number that the log gave out, and which are therefore known.
// Times are in seconds.

func counterOf(n shardlog.SequenceNumber) uint64 {
	c, _ := n.Counter()
	return c
}

func createdOf(n shardlog.SequenceNumber) int64 {
	t, _ := n.Created()
	return t.Unix()
}

func arrivalOf(n shardlog.SequenceNumber) int64 {
	t, _ := n.Arrival()
	return t.Unix()
}
