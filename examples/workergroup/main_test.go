package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The example runs in real time, because its databases do.
func TestGroup(t *testing.T) {
	stores := map[string][]string{"SQLite": nil}
	if url := os.Getenv("SHARDLOG_POSTGRES"); strings.HasPrefix(url, "postgres") {
		stores["PostgreSQL"] = []string{"-postgres", url}
	}
	for name, args := range stores {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, run(context.Background(), args, &out))
			t.Log(out.String())
			assert.Contains(t, out.String(), "shards: anna 6\n")
			assert.Contains(t, out.String(), "shards: anna 3, boris 3\n")
			assert.Contains(t, out.String(), "shards: anna 2, boris 2, clara 2\n")
			assert.Contains(t, out.String(), "shards: boris 3, clara 3\n")
			assert.Contains(t, out.String(), "shards: clara 6\n")
			assert.Contains(t, out.String(), "every record was handled")
		})
	}
}
