package lint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	goBlock = regexp.MustCompile("(?ms)^```go\\r?\\n(.*?)^```")
	mdCode  = regexp.MustCompile("(?ms)^```.*?^```|`[^`\n]*`")
	mdLink  = regexp.MustCompile(`\]\(\s*<?([^)\s>]+)`)
)

// TestGoInDocuments compiles the Go programs in Markdown files, and parses what
// is only a part of one. The programs exist in an overlay, so nothing is
// written into the tree.
func TestGoInDocuments(t *testing.T) {
	base, err := filepath.Abs(root)
	require.NoError(t, err)
	tmp := t.TempDir()
	replace := map[string]string{}
	args := []string{"list", "-export", "-overlay", filepath.Join(tmp, "overlay.json")}
	blocks := 0
	walk(t, func(path string, data []byte) {
		for i, m := range goBlock.FindAllSubmatch(data, -1) {
			blocks++
			src := string(m[1])
			if !regexp.MustCompile(`(?m)^package `).MatchString(src) {
				require.NoError(t, parseFragment(src), "%s, Go block %d", path, i+1)
				continue
			}
			n := len(replace)
			file := filepath.Join(tmp, fmt.Sprintf("block%d.go", n))
			// Errors name the document.
			require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "//line %s-block-%d.go:1\n%s", filepath.Base(path), i+1, src), 0o600))
			dir := fmt.Sprintf("internal/lint/block%d", n)
			replace[filepath.Join(base, filepath.FromSlash(dir), "block.go")] = file
			args = append(args, "./"+dir)
		}
	}, ".md")
	require.Positive(t, blocks, "README.md has Go code")
	if len(replace) == 0 {
		return
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(tmp, "overlay.json"), overlay, 0o600))
	cmd := exec.Command("go", args...)
	cmd.Dir = base
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

// TestQuickStartRunsTwice runs the first program of README.md two times in one
// directory, as somebody does who tries it: it must work on what it left there,
// and then also have the first run's record.
func TestQuickStartRunsTwice(t *testing.T) {
	base, err := filepath.Abs(root)
	require.NoError(t, err)
	readme, err := os.ReadFile(filepath.Join(base, "README.md"))
	require.NoError(t, err)
	var program []byte
	for _, m := range goBlock.FindAllSubmatch(readme, -1) {
		if bytes.HasPrefix(m[1], []byte("package main")) {
			program = m[1]
			break
		}
	}
	require.NotNil(t, program, "README.md has a program")
	tmp := t.TempDir()
	source, binary := filepath.Join(tmp, "main.go"), filepath.Join(tmp, "quickstart.exe")
	require.NoError(t, os.WriteFile(source, program, 0o600))
	// The program exists in an overlay, inside the module, so that it is built
	// against this tree.
	dir := "internal/lint/quickstart"
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(base, filepath.FromSlash(dir), "main.go"): source,
	}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(tmp, "overlay.json"), overlay, 0o600))
	build := exec.Command("go", "build", "-overlay", filepath.Join(tmp, "overlay.json"), "-o", binary, "./"+dir)
	build.Dir = base
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	for times := range 2 {
		run := exec.Command(binary)
		run.Dir = tmp
		out, err := run.CombinedOutput()
		require.NoError(t, err, "run %d: %s", times+1, out)
		require.Equal(t, times+1, strings.Count(string(out), "customer-17: 2 apples\n"), "run %d: %s", times+1, out)
	}
}

// parseFragment accepts declarations or statements.
func parseFragment(src string) error {
	_, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+src, 0)
	if err == nil {
		return nil
	}
	_, err = parser.ParseFile(token.NewFileSet(), "", "package p\nfunc _() {\n"+src+"\n}", 0)
	return err
}

func TestLocalLinks(t *testing.T) {
	walk(t, func(path string, data []byte) {
		for _, m := range mdLink.FindAllSubmatch(mdCode.ReplaceAll(data, nil), -1) {
			link, err := url.Parse(string(m[1]))
			require.NoError(t, err, path)
			if link.Scheme != "" || link.Path == "" {
				continue
			}
			target := filepath.Join(root, filepath.Dir(path), filepath.FromSlash(link.Path))
			if strings.HasPrefix(link.Path, "/") {
				target = filepath.Join(root, filepath.FromSlash(link.Path))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", path, m[1])
			}
		}
	}, ".md")
}
