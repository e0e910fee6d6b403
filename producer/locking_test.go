package producer

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// coreTypes are those whose methods run with Producer.mu held.
var coreTypes = []string{"core", "completion", "filling", "buffer", "memory", "keyQueues", "keyQueueList", "inFlight", "numbers", "shardMap", "shardState", "stickyPlace", "limiter", "outbox", "list", "chain", "ageList"}

// TestWhoHoldsTheLock checks what the types promise: the core and its parts do
// nothing that may wait or runs elsewhere, and a method of Producer that uses
// the core takes the lock, or says by its name that the caller has it.
func TestWhoHoldsTheLock(t *testing.T) {
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	fset := token.NewFileSet()
	checked := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil {
				continue
			}
			switch r := receiver(fn); {
			case slices.Contains(coreTypes, r):
				checked++
				ast.Inspect(fn.Body, func(n ast.Node) bool {
					if what := leavesTheCore(n); what != "" {
						t.Errorf("%v: %s.%s uses %s", fset.Position(n.Pos()), r, fn.Name.Name, what)
					}
					return true
				})
			case r == "Producer" && fn.Name.Name != "now": // which reads the start, and that does not change
				locks, uses := mentions(fn.Body, "mu"), mentions(fn.Body, "core")
				if uses && !locks && !strings.HasSuffix(fn.Name.Name, "Locked") {
					t.Errorf("%v: %s uses the core without the lock", fset.Position(fn.Pos()), fn.Name.Name)
				}
			}
		}
	}
	require.Greater(t, checked, 80)
}

func receiver(fn *ast.FuncDecl) string {
	typ := fn.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if id, ok := typ.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

// leavesTheCore names what a method of the core must not have.
func leavesTheCore(n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "a goroutine"
	case *ast.SelectStmt:
		return "select"
	case *ast.UnaryExpr:
		if n.Op == token.ARROW {
			return "a receive"
		}
	case *ast.SelectorExpr:
		x, ok := n.X.(*ast.Ident)
		switch {
		case n.Sel.Name == "mu":
			return "a lock"
		case ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker"}, n.Sel.Name):
			return "the clock"
		case slices.Contains([]string{"OnRequest", "OnShards", "Logger"}, n.Sel.Name):
			return "a function of the user"
		}
	case *ast.CallExpr:
		if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "callback" {
			return "a callback"
		}
	}
	return ""
}

// mentions reports whether a field of p with a name is used.
func mentions(body ast.Node, field string) (found bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == field {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "p" {
				found = true
			}
		}
		return true
	})
	return found
}
