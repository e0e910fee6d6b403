package awswire

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAccountsAndRegions(t *testing.T) {
	account, region := regexp.MustCompile(`^\d{12}$`), regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	texts := []string{"", "123456789012", "12345678901", "1234567890123", "us-east-1", strings.Repeat("a", 32), strings.Repeat("a", 33), "123456789012\n", "\u0661\u0662"}
	for c := range 256 {
		texts = append(texts, "12345678901"+string([]byte{byte(c)}), string([]byte{byte(c)})+"s-east-1")
	}
	for _, text := range texts {
		require.Equal(t, account.MatchString(text), ValidAccount(text), "%q", text)
		require.Equal(t, region.MatchString(text), ValidRegion(text), "%q", text)
	}
}
