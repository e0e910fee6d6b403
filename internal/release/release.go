package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// release says what a release of a version would change, and with do does it:
// one commit, and a tag for each module.
func release(dir, version string, do bool, w io.Writer) error {
	if err := checkVersion(version); err != nil {
		return err
	}
	dirty, err := git(dir, "status", "--porcelain")
	if err != nil {
		return err
	}
	if dirty != "" {
		return fmt.Errorf("the tree has changes that are not committed:\n%s", dirty)
	}
	t, err := load(dir)
	if err != nil {
		return err
	}
	var tags []string
	for _, m := range t.modules {
		tags = append(tags, m.tag(version))
	}
	existing, err := git(dir, append([]string{"tag", "--list"}, tags...)...)
	if err != nil {
		return err
	}
	if existing != "" {
		return fmt.Errorf("there are tags already: %s", strings.Join(strings.Fields(existing), ", "))
	}
	before := maps.Clone(t.files)
	t.setVersion(version)
	changed := slices.DeleteFunc(slices.Sorted(maps.Keys(t.files)), func(name string) bool {
		return bytes.Equal(before[name], t.files[name])
	})
	for _, name := range changed {
		fmt.Fprintln(w, name)
		printDifference(w, string(before[name]), string(t.files[name]))
	}
	fmt.Fprintf(w, "tags: %s\n", strings.Join(tags, " "))
	if !do {
		fmt.Fprintln(w, "nothing is changed; -do does it")
		return nil
	}
	for _, name := range changed {
		if err := write(filepath.Join(dir, filepath.FromSlash(name)), t.files[name]); err != nil {
			return err
		}
	}
	if err := commit(dir, version, tags, len(changed) > 0); err != nil {
		return err
	}
	fmt.Fprintf(w, "done; to publish: git push REMOTE HEAD %s\n", strings.Join(tags, " "))
	return nil
}

// commit records a release. If a tag cannot be made, those before it are
// removed: a release has all of its tags or none.
func commit(dir, version string, tags []string, changed bool) error {
	if changed {
		if _, err := git(dir, "add", "--all"); err != nil {
			return err
		}
		if _, err := git(dir, "commit", "--quiet", "--message", "Release "+version); err != nil {
			return err
		}
	}
	for i, tag := range tags {
		if _, err := git(dir, "tag", "--annotate", "--message", tag, tag); err != nil {
			if i > 0 {
				_, undo := git(dir, append([]string{"tag", "--delete"}, tags[:i]...)...)
				err = errors.Join(err, undo)
			}
			return err
		}
	}
	return nil
}

// printDifference prints the lines that only one of two texts has.
func printDifference(w io.Writer, before, after string) {
	old, now := slices.Collect(strings.Lines(before)), slices.Collect(strings.Lines(after))
	for _, line := range old {
		if !slices.Contains(now, line) {
			fmt.Fprint(w, "  - ", line)
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			fmt.Fprint(w, "  + ", line)
		}
	}
}
