package lint

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// required lists, by a module's directory, the modules that its go.mod may
// require directly, ours aside. A new line is a decision, as in modules.
var required = map[string][]string{
	".": {
		badger, testify, "github.com/cespare/xxhash/v2", "github.com/klauspost/compress", "golang.org/x/sys", "golang.org/x/time",
		"google.golang.org/protobuf",
	},
	"benchmarks/compare": {
		aws, aws + "/service/kinesis", badger, "github.com/cockroachdb/pebble/v2", "github.com/hashicorp/raft", "github.com/hashicorp/raft-wal",
		"github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go", "github.com/tidwall/wal", "github.com/twmb/franz-go",
		"github.com/twmb/franz-go/pkg/kfake", "github.com/wcharczuk/go-chart/v2", "go.etcd.io/bbolt", "golang.org/x/sys", "modernc.org/sqlite",
	},
	"benchmarks/kinesis": {
		aws, aws + "/config", aws + "/credentials", aws + "/service/kinesis", smithy, testify,
	},
	"benchmarks/patterns": {
		"github.com/HdrHistogram/hdrhistogram-go", "github.com/aclements/go-moremath", testify, "go.yaml.in/yaml/v3",
	},
	"checkpoint/dynamodbcheckpoint": {aws, aws + "/credentials", aws + "/service/dynamodb", testify},
	"checkpoint/redischeckpoint":    {"github.com/redis/go-redis/v9", testify},
	"checkpoint/sqlcheckpoint":      {"github.com/jackc/pgx/v5", testify, "modernc.org/sqlite"},
	"cmd/shardlog":                  {testify},
	"examples/clickstream":          {testify, "modernc.org/sqlite"},
	"examples/workergroup":          {"github.com/jackc/pgx/v5", testify, "modernc.org/sqlite"},
	"sdktest/golang":                {aws, aws + "/config", aws + "/credentials", aws + "/service/kinesis", aws + "/service/sts", smithy, testify},
}

const (
	aws     = "github.com/aws/aws-sdk-go-v2"
	smithy  = "github.com/aws/smithy-go"
	testify = "github.com/stretchr/testify"
)

// goMod is what a go.mod or go.work says.
type goMod struct {
	dir     string // below the root, with slashes
	Module  struct{ Path string }
	Go      string
	Require []struct {
		Path, Version string
		Indirect      bool
	}
	Replace []struct {
		Old, New struct{ Path, Version string }
	}
	Use []struct{ DiskPath string }
}

func readMod(t *testing.T, path string, args ...string) *goMod {
	t.Helper()
	out, err := exec.Command("go", append(args, "edit", "-json", filepath.Join(root, path))...).Output()
	require.NoError(t, err, path)
	m := &goMod{dir: filepath.ToSlash(filepath.Dir(path))}
	require.NoError(t, json.Unmarshal(out, m))
	return m
}

// goMods returns the modules of the tree.
func goMods(t *testing.T) (all []*goMod) {
	t.Helper()
	walk(t, func(path string, _ []byte) { all = append(all, readMod(t, path, "mod")) }, "/go.mod")
	require.Contains(t, slices.Collect(func(yield func(string) bool) {
		for _, m := range all {
			if !yield(m.dir) {
				return
			}
		}
	}), ".")
	return all
}

// TestModules checks what each go.mod requires: modules on its list, and ours
// all at the same version, which go.work replaces by the tree's own files.
func TestModules(t *testing.T) {
	work := readMod(t, "go.work", "work")
	var used, dirs []string
	for _, u := range work.Use {
		used = append(used, filepath.ToSlash(filepath.Clean(u.DiskPath)))
	}
	versions := map[string]bool{}
	replaced := map[string]string{}
	for _, r := range work.Replace {
		require.Empty(t, r.New.Version)
		versions[r.Old.Version] = true
		replaced[r.Old.Path] = filepath.ToSlash(filepath.Clean(r.New.Path))
	}
	needed := map[string]string{}
	for _, m := range goMods(t) {
		dirs = append(dirs, m.dir)
		path, ours := (&listed{ImportPath: m.Module.Path}).path()
		require.True(t, ours, m.Module.Path)
		require.Equal(t, m.dir, path, "the path of a module is that of its directory")
		require.Equal(t, work.Go, m.Go, m.dir)
		require.Empty(t, m.Replace, "%s: a replacement would hold for nobody else", m.dir)
		requiresRoot := false
		for _, r := range m.Require {
			if below, ours := (&listed{ImportPath: r.Path}).path(); ours {
				require.False(t, r.Indirect && below == ".", m.dir)
				versions[r.Version] = true
				needed[r.Path] = below
				requiresRoot = requiresRoot || below == "."
			} else if !r.Indirect && !slices.Contains(required[m.dir], r.Path) {
				t.Errorf("module %s requires %s, which is not on its list", m.dir, r.Path)
			}
		}
		require.Equal(t, m.dir != ".", requiresRoot, "%s: each nested module requires the main one, and that requires none", m.dir)
	}
	require.ElementsMatch(t, dirs, used, "go.work uses all modules")
	require.ElementsMatch(t, dirs, slices.Collect(maps.Keys(required)))
	require.Equal(t, needed, replaced, "go.work replaces what the modules require of each other")
	require.Len(t, versions, 1, "the modules require each other at one version")
}

// TestLibrariesAreImportedOutsideTheTree looks for an importer of each nested
// module whose root is a library: .ci/run builds those outside the tree, and a
// module without one would be released without ever having been required.
func TestLibrariesAreImportedOutsideTheTree(t *testing.T) {
	imported := map[string]bool{}
	mains, err := filepath.Glob(filepath.Join(root, "internal/release/testdata/outside/*/*.go"))
	require.NoError(t, err)
	for _, name := range mains {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, i := range f.Imports {
			imported[strings.Trim(i.Path.Value, `"`)] = true
		}
	}
	libraries := 0
	for _, m := range goMods(t) {
		if m.dir == "sdktest/golang" {
			continue // tests, and a package that is empty
		}
		files, err := filepath.Glob(filepath.Join(root, m.dir, "*.go"))
		require.NoError(t, err)
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.PackageClauseOnly)
			require.NoError(t, err)
			if f.Name.Name != "main" {
				libraries++
				require.True(t, imported[m.Module.Path], "nothing in internal/release/testdata/outside imports %s", m.Module.Path)
			}
			break
		}
	}
	require.GreaterOrEqual(t, libraries, 5, "the log, three checkpoint stores and the patterns")
}

// TestToolVersionsAreWrittenOnce looks for the version of staticcheck, which
// more than one file needs.
func TestToolVersionsAreWrittenOnce(t *testing.T) {
	var files []string
	walk(t, func(path string, data []byte) {
		if strings.Contains(string(data), "cmd/staticcheck"+"@v") {
			files = append(files, path)
		}
	}, "Makefile", ".ci/run", ".sh", ".md", ".go")
	require.Equal(t, []string{".ci/run"}, files)
}
