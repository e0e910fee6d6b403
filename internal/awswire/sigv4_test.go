package awswire

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCanonicalQuery(t *testing.T) {
	require.Equal(t, "a=1&a-b=2&a-b=3&b=", canonicalQuery(url.Values{"a-b": {"3", "2"}, "a": {"1"}, "b": {""}}))
}

// The first vector of AWS's test suite for signatures (get-vanilla).
func TestSignVector(t *testing.T) {
	r, err := http.NewRequest("GET", "https://example.amazonaws.com/", nil)
	require.NoError(t, err)
	Sign(r, nil, Credentials{AccessKey: "AKIDEXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}, "us-east-1", "service",
		time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC))
	require.Equal(t, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, "+
		"Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", r.Header.Get("Authorization"))
	require.Equal(t, "service", SignedService(r))
}
