package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	self   = "github.com/shardlog/shardlog"
	badger = "github.com/dgraph-io/badger/v4"
	root   = "../.."
)

// modules are those that the packages of the main module may be built from,
// tests aside. A new line is a decision: say in the change why it is worth it.
var modules = []string{
	badger,
	"github.com/cespare/xxhash/v2",
	"github.com/klauspost/compress",
	"golang.org/x/sys",
	"golang.org/x/time",
	"google.golang.org/protobuf",
	// What Badger needs.
	"github.com/dgraph-io/ristretto/v2",
	"github.com/dustin/go-humanize",
	"github.com/go-logr/logr",
	"github.com/go-logr/stdr",
	"github.com/google/flatbuffers",
	"go.opentelemetry.io/auto/sdk",
	"go.opentelemetry.io/otel",
	"go.opentelemetry.io/otel/metric",
	"go.opentelemetry.io/otel/trace",
}

// layers says which of our packages each package may import, by the path
// below the module; "." is the root package. Programs (package main) are not
// in it: they may import everything, and nothing can import them.
var layers = map[string][]string{
	".":                           {},
	"checkpoint":                  {"."},
	"checkpoint/checkpointtest":   {".", "checkpoint"},
	"checkpoint/badgercheckpoint": {".", "checkpoint"},
	"cost":                        {"."},
	"producer":                    {".", "internal/backoff", "internal/block", "internal/kpl", "internal/reentry"},
	"consumer":                    {".", "checkpoint", "consumer/internal/lease", "internal/backoff", "internal/kpl", "internal/reentry"},
	"consumer/internal/lease":     {".", "checkpoint", "internal/backoff", "internal/reentry"},
	"internal/backoff":            {"."},
	"internal/block":              {"."},
	"internal/kpl":                {"."},
	"internal/kv":                 {"."},
	"internal/kv/badgerfile":      {"."},
	"internal/kv/badgerkv":        {".", "internal/kv", "internal/kv/badgerfile", "internal/kv/redo"},
	"internal/kv/powerloss":       {"internal/kv/badgerfile", "internal/kv/badgerkv", "internal/kv/redo"},
	"internal/kv/redo":            {".", "internal/kv"},
	"internal/kv/kvtest":          {".", "internal/kv"},
	"internal/leaktest":           {},
	"internal/lint":               {},
	"internal/reentry":            {},
	"awsapi":                      {".", "internal/awswire"},
	"awsapi/iam":                  {},
	"awsapi/kinesisapi":           {".", "awsapi", "awsapi/iam", "internal/awswire", "internal/block", "internal/ctxsync", "stream"},
	"internal/awswire":            {"."},
	"awsapi/stsapi":               {"awsapi", "internal/awswire"},
	"awsapi/awstest":              {".", "awsapi", "awsapi/kinesisapi", "awsapi/stsapi", "stream"},
	"kinesistest":                 {"awsapi/awstest", "awsapi/kinesisapi", "stream"},
	"internal/ctxsync":            {"."},
	"internal/once":               {".", "internal/ctxsync", "internal/kv", "internal/logstore"},
	"internal/logstore":           {".", "internal/block", "internal/kv"},
	"shard":                       {".", "internal/logstore"},
	"stream":                      {".", "checkpoint", "internal/block", "internal/kv", "internal/ctxsync", "internal/kv/badgerkv", "internal/logstore", "internal/once", "shard"},

	// Nested modules.
	"benchmarks/patterns":           {".", "checkpoint", "consumer", "internal/backoff", "internal/kpl", "producer", "stream"},
	"benchmarks/patterns/benchcmd":  {".", "benchmarks/patterns"},
	"checkpoint/dynamodbcheckpoint": {".", "checkpoint"},
	"checkpoint/redischeckpoint":    {".", "checkpoint"},
	"checkpoint/sqlcheckpoint":      {".", "checkpoint"},
	"sdktest/golang":                {},
}

// badgerUsers import Badger themselves: the seam to it, and the comparison, where
// it is a rival.
var badgerUsers = []string{"checkpoint/badgercheckpoint", "internal/kv/badgerfile", "internal/kv/badgerkv", "internal/kv/powerloss", "benchmarks/compare"}

// linksBadger are the libraries that Badger may be linked into.
var linksBadger = []string{"benchmarks/patterns", "benchmarks/patterns/benchcmd", "checkpoint/badgercheckpoint", "internal/kv/badgerfile", "internal/kv/badgerkv", "internal/kv/powerloss", "awsapi/awstest", "awsapi/kinesisapi", "kinesistest", "stream"}

// importsInternal are nested modules that may import internal packages of the
// main module. Such an import breaks a build that selects a newer main module
// than the nested one was released with, so these are programs and what only
// our own programs are made of.
var importsInternal = []string{self + "/benchmarks/patterns", self + "/cmd/shardlog"}

// forTests are packages that may import testing and what helps with it.
func forTests(path string) bool {
	return path == "checkpoint/checkpointtest" || path == "kinesistest" || path == "awsapi/awstest" ||
		(strings.HasPrefix(path, "internal/") && strings.HasSuffix(path, "test"))
}

type listed struct {
	ImportPath, Name string
	Standard         bool
	Imports, Deps    []string
	Module           *struct{ Path string }
}

// path is below the module, and ours reports whether the package is.
func (p *listed) path() (path string, ours bool) {
	if p.ImportPath == self {
		return ".", true
	}
	return strings.CutPrefix(p.ImportPath, self+"/")
}

// list returns all packages that those of the tree's modules are built from.
func list(t *testing.T, goos string) map[string]*listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Name,Standard,Imports,Deps,Module")
	for _, m := range goMods(t) {
		cmd.Args = append(cmd.Args, "./"+m.dir+"/...")
	}
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	all := map[string]*listed{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = &p
	}
}

func TestDependencies(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		t.Run(goos, func(t *testing.T) {
			all := list(t, goos)
			for _, p := range all {
				path, ours := p.path()
				if !ours {
					continue
				}
				checkPackage(t, p, path)
				if forTests(path) || p.Module.Path != self {
					continue
				}
				for _, d := range p.Deps {
					if d := all[d]; d != nil && !d.Standard && d.Module != nil && d.Module.Path != self && !slices.Contains(modules, d.Module.Path) {
						t.Errorf("%s needs %s of module %s, which is not on the list", p.ImportPath, d.ImportPath, d.Module.Path)
					}
				}
			}
			require.Contains(t, all, self)
			require.Contains(t, all, self+"/cmd/shardlog", "nested modules are listed as well")
		})
	}
}

func checkPackage(t *testing.T, p *listed, path string) {
	t.Helper()
	allowed, known := layers[path]
	if !known && p.Name != "main" {
		t.Errorf("package %s is new: say in layers what it may import", path)
		return
	}
	for _, imp := range p.Imports {
		below, ours := (&listed{ImportPath: imp}).path()
		if ours && strings.HasPrefix(below, "internal/") && p.Module.Path != self && !slices.Contains(importsInternal, p.Module.Path) {
			t.Errorf("%s must not import %s: a build may have a newer main module than it was written for", path, below)
		}
		if ours && known && !slices.Contains(allowed, below) {
			t.Errorf("%s must not import %s", path, below)
		}
		if (imp == badger || strings.HasPrefix(imp, badger+"/")) && !slices.Contains(badgerUsers, path) {
			t.Errorf("%s must not import %s: internal/kv/badgerkv is for that", path, imp)
		}
	}
	if slices.Contains(p.Deps, badger) && known && !slices.Contains(linksBadger, path) {
		t.Errorf("%s must not link Badger", path)
	}
	for _, dep := range p.Deps {
		if path == "benchmarks/compare" {
			break // some of the systems that it measures link testing
		}
		helper := dep == "testing" || strings.HasPrefix(dep, "github.com/stretchr/testify")
		below, ours := (&listed{ImportPath: dep}).path()
		if (helper || ours && forTests(below)) && !forTests(path) {
			t.Errorf("%s links %s, which is for tests", path, dep)
		}
	}
}

// TestLayersHaveNoCycle keeps the table itself honest: nothing may be allowed
// that would let a package reach itself.
func TestLayersHaveNoCycle(t *testing.T) {
	var visit func(path string, above []string)
	visit = func(path string, above []string) {
		require.NotContains(t, above, path)
		for _, below := range layers[path] {
			visit(below, append(slices.Clone(above), path))
		}
	}
	for path := range layers {
		visit(path, nil)
	}
}
