package awswire

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCanonicalQuery(t *testing.T) {
	require.Equal(t, "a=1&a-b=2&a-b=3&b=", canonicalQuery(url.Values{"a-b": {"3", "2"}, "a": {"1"}, "b": {""}, "X-Amz-Signature": {"x"}}))
}
