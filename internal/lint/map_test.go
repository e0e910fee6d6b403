package lint

import (
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	mapSection = regexp.MustCompile(`(?s)\n## Map\n(.*?)(?:\n## |\z)`)
	mapRow     = regexp.MustCompile("(?m)^\\| (`[^|]+`) \\|")
	inCode     = regexp.MustCompile("`([^`]+)`")
)

// mapped returns the places that a map names: files, where * stands for any
// text, and folders. A name without a folder is in that of the name before it in
// its row.
func mapped(document string) (files, folders []string) {
	for _, section := range mapSection.FindAllStringSubmatch(document, 1) {
		for _, row := range mapRow.FindAllStringSubmatch(section[1], -1) {
			folder := "."
			for _, m := range inCode.FindAllStringSubmatch(row[1], -1) {
				name := m[1]
				switch {
				case !strings.HasSuffix(name, ".go"):
					folders = append(folders, name)
					folder = name
					continue
				case strings.Contains(name, "/"):
					folder = path.Dir(name)
				default:
					name = path.Join(folder, name)
				}
				files = append(files, name)
			}
		}
	}
	return files, folders
}

// nested are the folders of modules other than the main one.
func nested(t *testing.T) []string {
	t.Helper()
	var out []string
	walk(t, func(name string, _ []byte) {
		if path.Base(name) == "go.mod" && name != "go.mod" {
			out = append(out, path.Dir(name)+"/")
		}
	}, "go.mod")
	return out
}

// TestMapOfFiles checks that the map in docs/DESIGN.md names each Go file of the
// main module, tests aside, and nothing that does not exist.
func TestMapOfFiles(t *testing.T) {
	files, folders := mapped(document(t, "DESIGN.md"))
	require.NotEmpty(t, files)
	for _, name := range append(slices.Clone(files), folders...) {
		found, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(name)))
		require.NoError(t, err)
		if len(found) == 0 {
			t.Errorf("docs/DESIGN.md names %s, which is not there", name)
		}
	}
	named := func(name string) bool {
		return slices.ContainsFunc(files, func(pattern string) bool {
			ok, err := path.Match(pattern, name)
			return err == nil && ok
		})
	}
	others := nested(t)
	missing := map[string][]string{}
	walk(t, func(name string, _ []byte) {
		if strings.HasSuffix(name, "_test.go") || named(name) || strings.Contains(name, "testdata/") {
			return
		}
		if slices.ContainsFunc(others, func(folder string) bool { return strings.HasPrefix(name, folder) }) {
			return
		}
		missing[path.Dir(name)] = append(missing[path.Dir(name)], path.Base(name))
	}, ".go")
	for folder, names := range missing {
		t.Errorf("docs/DESIGN.md does not name, of %s: %s", folder, strings.Join(names, " "))
	}
}

func TestMapIsRead(t *testing.T) {
	files, folders := mapped("# D\n\n## Map\n\n| place | x |\n|---|---|\n| `a/b.go`, `c.go` | `no.go` |\n| `d.go` | y |\n| `e/f`, `g.go` | z |\n\n## Next\n\n| `h.go` | n |\n")
	require.Equal(t, []string{"a/b.go", "a/c.go", "d.go", "e/f/g.go"}, files)
	require.Equal(t, []string{"e/f"}, folders)
}
