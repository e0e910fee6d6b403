package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// walk calls f for each file of the project with one of the endings, with its
// path below the project's root.
func walk(t *testing.T, f func(path string, data []byte), endings ...string) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == ".git" || d.Name() == "fuzz" && filepath.Base(filepath.Dir(name)) == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		for _, e := range endings {
			if !strings.HasSuffix(name, e) {
				continue
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			path, err := filepath.Rel(root, name)
			f(filepath.ToSlash(path), data)
			return err
		}
		return nil
	})
	require.NoError(t, err)
}

const (
	maxFileLines = 600
	maxFuncLines = 80
)

func TestSizes(t *testing.T) {
	walk(t, func(path string, data []byte) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		if n := strings.Count(string(data), "\n"); n >= maxFileLines {
			t.Errorf("%s has %d lines; keep files below %d", path, n, maxFileLines)
		}
		fset, file := parse(t, path, data)
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n >= maxFuncLines {
				t.Errorf("%s: function %s has %d lines; keep them below %d", path, fn.Name.Name, n, maxFuncLines)
			}
		}
	}, ".go")
}

func parse(t *testing.T, path string, data []byte) (*token.FileSet, *ast.File) {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, data, parser.ParseComments|parser.SkipObjectResolution)
	require.NoError(t, err)
	return fset, file
}

func TestExportedNamesAreDocumented(t *testing.T) {
	walk(t, func(path string, data []byte) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		fset, file := parse(t, path, data)
		if file.Name.Name == "main" {
			return
		}
		missing := func(n ast.Node, name string) { t.Errorf("%v: %s has no doc comment", fset.Position(n.Pos()), name) }
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && d.Doc == nil {
					missing(d, d.Name.Name)
				}
			case *ast.GenDecl:
				undocumented(d, missing)
			}
		}
	}, ".go")
}

// exportedReceiver reports whether users can see the methods of d's receiver.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

// undocumented finds types, constants and variables; in a group the comment of
// the group or one behind the name is enough.
func undocumented(d *ast.GenDecl, missing func(ast.Node, string)) {
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
				missing(s, s.Name.Name)
			}
		case *ast.ValueSpec:
			for _, n := range s.Names {
				if n.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
					missing(s, n.Name)
				}
			}
		}
	}
}

// Badger publishes its figures on http.DefaultServeMux, which therefore must
// not be served.
func TestNobodyUsesTheDefaultMux(t *testing.T) {
	walk(t, func(path string, data []byte) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		fset, file := parse(t, path, data)
		ast.Inspect(file, func(n ast.Node) bool {
			if usesDefaultMux(n) {
				t.Errorf("%v uses http.DefaultServeMux", fset.Position(n.Pos()))
			}
			return true
		})
	}, ".go")
}

func usesDefaultMux(n ast.Node) bool {
	http := func(e ast.Expr) string {
		if s, ok := e.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "http" {
				return s.Sel.Name
			}
		}
		return ""
	}
	switch n := n.(type) {
	case *ast.SelectorExpr:
		switch http(n) {
		case "DefaultServeMux", "Handle", "HandleFunc":
			return true
		}
	case *ast.CallExpr:
		switch http(n.Fun) {
		case "ListenAndServe", "ListenAndServeTLS", "Serve", "ServeTLS":
			for _, a := range n.Args {
				if id, ok := a.(*ast.Ident); ok && id.Name == "nil" {
					return true
				}
			}
		}
	}
	return false
}

func TestDefaultMuxIsFound(t *testing.T) {
	for src, want := range map[string]bool{
		`http.Handle("/", nil)`:                 true,
		`http.HandleFunc("/", f)`:               true,
		`http.ListenAndServe(":0", nil)`:        true,
		`http.ListenAndServe(":0", mux)`:        false,
		`mux.Handle("/", h)`:                    false,
		`http.DefaultServeMux.ServeHTTP(w, r)`:  true,
		`http.NewServeMux().Handle("/", other)`: false,
	} {
		e, err := parser.ParseExpr(src)
		require.NoError(t, err)
		found := false
		ast.Inspect(e, func(n ast.Node) bool {
			found = found || usesDefaultMux(n)
			return true
		})
		require.Equal(t, want, found, src)
	}
}

// What a type can do in addition to its interface has a declared name, which
// says what it means and who asks for it.
func TestNobodyAssertsAnUnnamedInterface(t *testing.T) {
	walk(t, func(path string, data []byte) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		fset, file := parse(t, path, data)
		ast.Inspect(file, func(n ast.Node) bool {
			if x, ok := n.(*ast.TypeAssertExpr); ok {
				if _, unnamed := x.Type.(*ast.InterfaceType); unnamed {
					t.Errorf("%v asserts an interface without a name: declare it", fset.Position(n.Pos()))
				}
			}
			return true
		})
	}, ".go")
}

// forbidden is what must not stay in files. The expressions are written so
// that they do not match themselves.
var forbidden = []struct {
	what    string
	re      *regexp.Regexp
	endings string // of files; "" for all
}{
	{"a path of one machine", regexp.MustCompile(`(^|[\s"'=:(` + "`" + `])/(work|root|home/\w+)/`), ""},
	{"the host of a module registry", regexp.MustCompile(`(proxy|sum)[.]golang[.]org|registry[.]npmjs[.]org|[^\w.]pypi[.]org`), ""},
	{"the form of a shard's ID, which shardlog.ShardID knows", regexp.MustCompile(`shardId-%0[0-9]+d`), ".go"},
	{"something left to do", regexp.MustCompile(`\b(TO[D]O|FIX[M]E|XX[X])\b`), ".go"},
}

func TestForbiddenWords(t *testing.T) {
	walk(t, func(path string, data []byte) {
		for _, f := range forbidden {
			if strings.HasSuffix(path, f.endings) {
				if m := f.re.Find(data); m != nil {
					t.Errorf("%s has %s: %q", path, f.what, m)
				}
			}
		}
	}, ".go", ".md", ".txt", ".yml", ".yaml", ".conf", ".mod", ".sh", "Makefile", ".ci/run")
}
