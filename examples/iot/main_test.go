package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAlerts(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(context.Background(), nil, &out))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 11)
	assert.Equal(t, "10 alerts, 2 dead letters", lines[0])
	assert.Equal(t, "device-000 is too hot", lines[1])
	assert.Equal(t, "device-000 is well again", lines[2])
	assert.Equal(t, "device-040 is well again", lines[10])
}

func TestBadArguments(t *testing.T) {
	require.Error(t, run(context.Background(), []string{"-nonsense"}, &bytes.Buffer{}))
}
