package lint

import (
	"go/ast"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeTime are the functions that run their last argument in a bubble of
// testing/synctest.
var fakeTime = map[string]bool{"synctest.Test": true, "bubble": true, "clockAt": true, "clocked": true}

// In fake time a sleep ends when nothing else could move, but what has the same
// time as its end may still move: a test that looks then, without synctest.Wait,
// races with it.
func TestTestsInFakeTimeWaitBeforeTheyLook(t *testing.T) {
	walk(t, func(path string, data []byte) {
		if !strings.Contains(string(data), "time.Sleep") {
			return
		}
		fset, file := parse(t, path, data)
		for _, s := range looks(file) {
			t.Errorf("%s: add synctest.Wait() behind this sleep", fset.Position(s.Pos()))
		}
	}, "_test.go")
}

func TestLooksAreFound(t *testing.T) {
	_, file := parse(t, "x_test.go", []byte(`package x
func f() {
	synctest.Test(t, func(t *testing.T) {
		go func() {
			time.Sleep(1)
			require.Zero(t, 1)
		}()
		for range 2 {
			time.Sleep(1)
			require.Zero(t, 2)
		}
		time.Sleep(1)
		synctest.Wait()
		require.Zero(t, 3)
		time.Sleep(1)
		if x != 4 {
		}
	})
	time.Sleep(1)
	require.Zero(t, 5)
}`))
	require.Len(t, looks(file), 2)
}

// looks returns the sleeps of tests in fake time that a look at something follows.
func looks(file *ast.File) (found []ast.Stmt) {
	ast.Inspect(file, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		if !ok || len(c.Args) == 0 || !fakeTime[dotted(c.Fun)] {
			return true
		}
		if f, ok := c.Args[len(c.Args)-1].(*ast.FuncLit); ok {
			found = append(found, looksIn(f.Body)...)
		}
		return true
	})
	return found
}

// looksIn leaves out functions inside of body: other goroutines may run them.
func looksIn(body *ast.BlockStmt) (found []ast.Stmt) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.BlockStmt:
			for i, s := range n.List {
				if called(s) != "time.Sleep" || i+1 == len(n.List) {
					continue
				}
				_, branch := n.List[i+1].(*ast.IfStmt)
				next := called(n.List[i+1])
				if branch || strings.HasPrefix(next, "require.") || strings.HasPrefix(next, "assert.") {
					found = append(found, s)
				}
			}
		}
		return true
	})
	return found
}

// called returns the name of the function that a statement calls, if it is a call.
func called(s ast.Stmt) string {
	if x, ok := s.(*ast.ExprStmt); ok {
		if c, ok := x.X.(*ast.CallExpr); ok {
			return dotted(c.Fun)
		}
	}
	return ""
}

// dotted returns a name or a name of a package or value, with what it belongs to.
func dotted(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return dotted(e.X) + "." + e.Sel.Name
	}
	return ""
}
