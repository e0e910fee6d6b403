package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// files returns everything below a directory with its contents.
func files(t *testing.T, dir string) map[string]string {
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			all[path] = "directory"
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	}))
	return all
}

// TestOnlyThatMakesADatabase runs all commands on directories that hold none.
// They report that and write nothing, unless making one is what they are for.
func TestOnlyThatMakesADatabase(t *testing.T) {
	commands := []string{
		"stream list -dir", "stream describe s -dir", "stream split s 0 -dir", "stream merge s 0 1 -dir", "stream delete s -dir",
		"tail s -dir", "put s data -dir", "put s -dir", "check", "check -repair",
	}
	for name, c := range map[string]struct {
		make  func(dir string)
		says  string
		makes string // what commands that make a database say; "" if they succeed
	}{
		"not there": {func(string) {}, "no such file", ""},
		"a path with a typing error": {func(dir string) {
			require.NoError(t, os.Mkdir(dir+"x", 0o755))
		}, "no such file", ""},
		"empty": {func(dir string) { require.NoError(t, os.Mkdir(dir, 0o755)) }, "no database in", ""},
		"a new file system": {func(dir string) {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "lost+found"), 0o755))
		}, "no database in", ""},
		"what a desktop or git has left": {func(dir string) {
			require.NoError(t, os.Mkdir(dir, 0o755))
			for _, name := range []string{".DS_Store", "._x", ".gitkeep", "Thumbs.db", ".Trash-1000", ".nfs0001"} {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
			}
		}, "no database in", ""},
		"other files": {func(dir string) {
			require.NoError(t, os.Mkdir(dir, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "letter.txt"), []byte("Dear"), 0o644))
		}, "no database in", "which holds other files, such as letter.txt"},
		"a hidden file": {func(dir string) {
			require.NoError(t, os.Mkdir(dir, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(dir, ".profile"), nil, 0o644))
		}, "no database in", "such as .profile"},
		"directories": {func(dir string) {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "stream", "more"), 0o755))
		}, "no database in", "such as stream"},
		"a MANIFEST of something else": {func(dir string) {
			require.NoError(t, os.Mkdir(dir, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "MANIFEST"), []byte("README\nlib/Some/Module.pm\n"), 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "README"), []byte("x"), 0o644))
		}, "", "MANIFEST"},
		"a file": {func(dir string) { require.NoError(t, os.WriteFile(dir, []byte("x"), 0o644)) }, "not a directory", "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, "d")
			c.make(dir)
			before := files(t, root)
			for _, line := range commands {
				args := append(strings.Fields(line), dir)
				if name == "a MANIFEST of something else" && line == "check -repair" {
					continue // which is asked to write
				}
				code, _, errs := cli(t, "x\n", args...)
				require.Equal(t, exitFail, code, "%s: %s", line, errs)
				require.Contains(t, errs, c.says, line)
				require.Equal(t, before, files(t, root), line)
			}
			if c.makes != "" {
				for _, line := range []string{"stream create s -dir", "serve -addr 127.0.0.1:0 -dir"} {
					code, out, errs := cli(t, "", append(strings.Fields(line), dir)...)
					require.Equal(t, exitFail, code, line)
					require.Empty(t, out)
					require.Contains(t, errs, c.makes, line)
					require.Equal(t, before, files(t, root), line)
				}
				return
			}
			// A command line that is wrong, and an address that is in use, make none.
			used := startServe(t)
			for _, line := range []string{
				"stream create s -retention 9000 -dir", "stream create a/b -dir", "serve -addr " + strings.TrimPrefix(used.url, "http://") + " -dir",
				"serve -addr 127.0.0.1:0 -tls-addr " + strings.TrimPrefix(used.url, "http://") + " -dir", "serve -addr 127.0.0.1:0 -cert none -key none -dir",
			} {
				code, _, errs := cli(t, "", append(strings.Fields(line), dir)...)
				require.NotEqual(t, exitOK, code, line)
				require.NotEmpty(t, errs)
				require.Equal(t, before, files(t, root), line)
			}
			mustCLI(t, "", "stream", "create", "s", "-dir", dir)
			require.Equal(t, "s\n", mustCLI(t, "", "stream", "list", "-dir", dir))
			// Files that come to a database later do not matter.
			require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o644))
			mustCLI(t, "", "stream", "create", "t", "-dir", dir)
		})
	}
}

// A process that was killed while it made a database has left some files of one.
func TestHalfMadeDatabase(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "LOCK"), nil, 0o644))
	code, _, errs := cli(t, "", "stream", "list", "-dir", dir)
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "no database in")
	mustCLI(t, "", "stream", "create", "s", "-dir", dir)
}
