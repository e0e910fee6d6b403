package main

import (
	"debug/elf"
	"os"
	"path"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDockerfile checks the Dockerfile without Docker: the files that it copies
// exist, the binary that it builds is the one that it copies and starts, its
// compiler is new enough, and the binary is static, because the image is empty.
func TestDockerfile(t *testing.T) {
	b, err := os.ReadFile("../../Dockerfile")
	require.NoError(t, err)
	match := func(re string) []string {
		m := regexp.MustCompile(`(?m)` + re).FindStringSubmatch(string(b))
		require.NotNil(t, m, re)
		return m[1:]
	}
	mod, err := os.ReadFile("../../go.work")
	require.NoError(t, err)
	needs := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	require.Equal(t, string(needs[1]), match(`^FROM golang:([\d.]+) AS build$`)[0])

	command := match(`^RUN CGO_ENABLED=0 go build (?:-\S+ )*-o (\S+) (\S+)$`)
	built, pkg := command[0], command[1]
	require.FileExists(t, path.Join("../..", pkg, "main.go"))
	copied := match(`^COPY --from=build (\S+) (\S+)$`)
	require.Equal(t, built, copied[0])
	require.Equal(t, copied[1], match(`^ENTRYPOINT \["([^"]+)"\]$`)[0])
	args := strings.Split(strings.Trim(match(`^CMD \[(.+)\]$`)[0], `"`), `", "`)
	cmd, _ := find(args)
	require.Same(t, serveCommand, cmd)
	require.Contains(t, args, ":"+match(`^EXPOSE (\d+)$`)[0])

	ignored, err := os.ReadFile("../../.dockerignore")
	require.NoError(t, err)
	for _, line := range strings.Fields(string(ignored)) {
		require.Contains(t, []string{".git"}, line, "go.work needs all modules, and the build what is in them")
	}
	exe := build(t)
	if runtime.GOOS == "linux" {
		f, err := elf.Open(exe)
		require.NoError(t, err)
		defer f.Close()
		for _, p := range f.Progs {
			require.NotEqual(t, elf.PT_INTERP, p.Type, "it is linked dynamically")
		}
	}
}
