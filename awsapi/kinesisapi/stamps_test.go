package kinesisapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/stream"
)

// However many consumers a clock that is ahead has seen, what is stored of their
// stamps fits into an attribute, and none of them is given out again.
func TestStampsOfManyConsumersFit(t *testing.T) {
	var v storedStamps
	given := map[string]int64{}
	for i := range 1000 {
		key := fmt.Sprintf("%s%d/%s", strings.Repeat("s", 125), i, strings.Repeat("c", maxStoredName))
		given[key] = int64(5000 + i/300)
		v = v.with(key, given[key], 1000)
		text, err := json.Marshal(&v)
		require.NoError(t, err)
		require.LessOrEqual(t, len(text), stream.MaxAttributeBytes)
	}
	require.LessOrEqual(t, len(v.Recent), maxRecent)
	for key, stamp := range given {
		require.Less(t, stamp, max(v.Floor, v.Recent[key])+1)
	}
}
