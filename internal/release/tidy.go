package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// tidy does what "go mod tidy" does, in each module of the tree. Without this
// command that asks for the version of our modules that go.mod names, which
// need not be released yet, and has not what the tree has.
func tidy(dir string, w io.Writer) error {
	t, err := load(dir)
	if err != nil {
		return err
	}
	for i := range t.modules {
		// What a module needs depends on what those before it need, so each
		// gets a proxy that has these as they are by now.
		now, err := load(dir)
		if err != nil {
			return err
		}
		if err := tidyModule(dir, now, now.modules[i], w); err != nil {
			return err
		}
	}
	return nil
}

func tidyModule(dir string, t *tree, m *module, w io.Writer) (err error) {
	tmp, err := os.MkdirTemp("", "shardlog-tidy")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	oldMod, oldSum := t.files[path.Join(m.dir, "go.mod")], t.files[path.Join(m.dir, "go.sum")]
	t.setVersion(t.unreleased())
	defer func() { err = errors.Join(err, forget(t.version)) }()
	if err := t.writeProxy(tmp); err != nil {
		return err
	}
	proxies, err := exec.Command("go", "env", "GOPROXY").Output()
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "mod", "tidy")
	cmd.Dir = filepath.Join(tmp, "tree", filepath.FromSlash(m.dir))
	cmd.Env = append(os.Environ(), "GOWORK=off", "GONOSUMDB="+self,
		"GOPROXY=file://"+filepath.ToSlash(tmp)+"/proxy,"+strings.TrimSpace(string(proxies)))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go mod tidy in %s: %w: %s", m.dir, err, out)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(cmd.Dir, name))
		if err != nil {
			return err
		}
		if name == "go.mod" {
			data = restoreVersion(data, oldMod)
		} else {
			data = restoreSums(data, oldSum)
		}
		name = path.Join(m.dir, name)
		if err := write(filepath.Join(dir, filepath.FromSlash(name)), data); err != nil {
			return err
		}
	}
	fmt.Fprintln(w, "tidy:", m.dir)
	return nil
}

// restoreVersion returns a go.mod with the version that another one has for
// our modules.
func restoreVersion(data, before []byte) []byte {
	if v := ourVersion.FindSubmatch(before); v != nil {
		return ourVersion.ReplaceAll(data, append([]byte("${1} "), v[2]...))
	}
	return data
}

// restoreSums returns a go.sum with the lines that another one has for our
// modules: those of the last release, or none.
func restoreSums(data, before []byte) []byte {
	at := ourSums.FindIndex(data)
	if at == nil {
		return data
	}
	return slices.Concat(data[:at[0]], bytes.Join(ourSums.FindAll(before, -1), nil), ourSums.ReplaceAll(data[at[0]:], nil))
}

// forget removes a version that no release has from the module cache.
func forget(version string) error {
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return err
	}
	root := strings.TrimSpace(string(cache))
	var found []string
	for _, dir := range []string{filepath.Join(root, path.Dir(self)), filepath.Join(root, "cache", "download", self)} {
		err = errors.Join(err, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && strings.Contains(d.Name(), version) {
				found = append(found, name)
				if d.IsDir() {
					return fs.SkipDir
				}
			}
			return err
		}))
	}
	for _, name := range found {
		err = errors.Join(err, removeAll(name))
	}
	return err
}

// removeAll removes files of a module cache, which are in directories that
// cannot be written to.
func removeAll(dir string) error {
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(name, 0o755)
		}
		return err
	})
	return errors.Join(err, os.RemoveAll(dir))
}
