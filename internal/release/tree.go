package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// self is the path of the main module, with which those of all others begin.
const self = "github.com/shardlog/shardlog"

var (
	modulePath = regexp.MustCompile(`(?m)^module (\S+)$`)
	// ourVersion finds our modules with their versions, in go.mod and go.work.
	ourVersion  = regexp.MustCompile(`(` + regexp.QuoteMeta(self) + `(?:/[\w./-]+)?) (v\d\S*)`)
	ourSums     = regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(self) + `[ /].*\n`)
	versionForm = regexp.MustCompile(`^v[01]\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)
)

// checkVersion refuses what is no version of a module of ours. From v2 on,
// paths would have to end with the major version.
func checkVersion(version string) error {
	if !versionForm.MatchString(version) {
		return fmt.Errorf("%q is not a version such as v0.2.0, below v2", version)
	}
	return nil
}

// tree holds the files of the tree in memory.
type tree struct {
	files   map[string][]byte // by slash-separated path below the root
	modules []*module         // each after those that it requires
	version string            // of all modules, once setVersion has run
}

// module is one module of the tree.
type module struct {
	dir      string // below the root, "." for the main module
	path     string
	requires []string // paths of our modules
	sum, mod string   // checksums as go.sum has them, known once setVersion has run
}

// tag is the git tag of the module's version.
func (m *module) tag(version string) string {
	if m.dir == "." {
		return version
	}
	return m.dir + "/" + version
}

// load reads a tree: what git has or would add, and without git everything.
func load(dir string) (*tree, error) {
	names, err := list(dir)
	if err != nil {
		return nil, err
	}
	t := &tree{files: map[string][]byte{}}
	for _, name := range names {
		info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue // deleted, but not yet from the index; a module has no symbolic links
		}
		if err != nil {
			return nil, err
		}
		if t.files[name], err = os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			return nil, err
		}
	}
	return t, t.findModules()
}

func list(dir string) (names []string, err error) {
	if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
		out, err := git(dir, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
		return strings.FieldsFunc(out, func(r rune) bool { return r == 0 }), err
	}
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err = filepath.Rel(dir, name)
		names = append(names, filepath.ToSlash(name))
		return err
	})
	return names, err
}

// git runs git and returns its output.
func git(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), nil
}

// findModules fills t.modules, in an order in which each module comes after
// those that it requires.
func (t *tree) findModules() error {
	byPath := map[string]*module{}
	var paths []string
	for name, data := range t.files {
		if path.Base(name) != "go.mod" {
			continue
		}
		match := modulePath.FindSubmatch(data)
		if match == nil {
			return fmt.Errorf("%s names no module", name)
		}
		m := &module{dir: path.Dir(name), path: string(match[1])}
		if m.path != path.Join(self, m.dir) {
			return fmt.Errorf("%s names the module %s, which is another one", name, m.path)
		}
		for _, r := range ourVersion.FindAllSubmatch(data, -1) {
			m.requires = append(m.requires, string(r[1]))
		}
		byPath[m.path] = m
		paths = append(paths, m.path)
	}
	if byPath[self] == nil {
		return errors.New("there is no go.mod of " + self)
	}
	slices.Sort(paths)
	state := map[string]int{} // 1 while what it requires is visited, 2 afterwards
	var visit func(p string) error
	visit = func(p string) error {
		m := byPath[p]
		switch {
		case m == nil:
			return fmt.Errorf("a module requires %s, which is not in the tree", p)
		case state[p] == 1:
			return fmt.Errorf("%s requires itself", p)
		case state[p] == 2:
			return nil
		}
		state[p] = 1
		for _, r := range m.requires {
			if err := visit(r); err != nil {
				return err
			}
		}
		state[p] = 2
		t.modules = append(t.modules, m)
		return nil
	}
	for _, p := range paths {
		if err := visit(p); err != nil {
			return err
		}
	}
	return nil
}

// unreleased returns a version that no other content has, because it has a
// hash of the files in it. A module cache never asks twice for a version, so a
// proxy of an unreleased tree must not use the version of a release.
func (t *tree) unreleased() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(t.files)) {
		fmt.Fprintf(h, "%x %s\n", sha256.Sum256(t.files[name]), name)
	}
	return fmt.Sprintf("v0.0.0-tree.t%x", h.Sum(nil)[:6])
}

// setVersion makes all modules require each other at a version and go.work
// replace that one, and writes into each go.sum the checksums of our modules
// that it requires. They are known before a tag is made: a module's files do
// not depend on those of the modules that require it.
func (t *tree) setVersion(version string) {
	t.version = version
	for name, data := range t.files {
		if path.Base(name) == "go.mod" || name == "go.work" {
			t.files[name] = ourVersion.ReplaceAll(data, []byte("${1} "+version))
		}
	}
	byPath := map[string]*module{}
	for _, m := range t.modules {
		byPath[m.path] = m
		t.setSums(m, byPath)
		m.mod = sum(map[string][]byte{"go.mod": t.files[path.Join(m.dir, "go.mod")]})
		m.sum = sum(t.content(m))
	}
}

// setSums writes the lines for our modules into m's go.sum, and removes those
// of other versions. The order is that of the go command, by path.
func (t *tree) setSums(m *module, byPath map[string]*module) {
	name := path.Join(m.dir, "go.sum")
	lines := slices.Collect(strings.Lines(string(ourSums.ReplaceAll(t.files[name], nil))))
	for _, r := range m.requires {
		at := slices.IndexFunc(lines, func(line string) bool {
			p, _, _ := strings.Cut(line, " ")
			return p > r
		})
		if at < 0 {
			at = len(lines)
		}
		lines = slices.Insert(lines, at, fmt.Sprintf("%s %s %s\n", r, t.version, byPath[r].sum),
			fmt.Sprintf("%s %s/go.mod %s\n", r, t.version, byPath[r].mod))
	}
	if len(lines) > 0 {
		t.files[name] = []byte(strings.Join(lines, ""))
	}
}

// content returns the files of a module as its zip names them: all below its
// directory that are in no other module, and the license of the tree, which
// the go command adds to a nested module without one of its own. See
// golang.org/x/mod/zip for what else is left out.
func (t *tree) content(m *module) map[string][]byte {
	prefix := m.path + "@" + t.version + "/"
	files := map[string][]byte{}
	for name, data := range t.files {
		rel := name
		if m.dir != "." {
			var below bool
			if rel, below = strings.CutPrefix(name, m.dir+"/"); !below {
				continue
			}
		}
		if t.owner(name) == m && !strings.HasPrefix(rel, "vendor/") && !strings.Contains(rel, "/vendor/") {
			files[prefix+rel] = data
		}
	}
	if _, ok := files[prefix+"LICENSE"]; !ok && t.files["LICENSE"] != nil {
		files[prefix+"LICENSE"] = t.files["LICENSE"]
	}
	return files
}

// owner returns the module that a file belongs to.
func (t *tree) owner(name string) (owner *module) {
	for _, m := range t.modules {
		if m.dir == "." && owner == nil || strings.HasPrefix(name, m.dir+"/") && (owner == nil || len(m.dir) > len(owner.dir)) {
			owner = m
		}
	}
	return owner
}
