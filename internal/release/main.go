// Command release works on the modules of this tree, which are released
// together and require each other at one version.
//
//	go run ./internal/release v0.2.0          says what a release would change
//	go run ./internal/release -do v0.2.0      commits that, and tags all modules
//	go run ./internal/release -tidy           go mod tidy in every module, with the others as they are in the tree
//	go run ./internal/release -proxy DIR      writes a module proxy of the tree's files, as they are
//
// It needs git and nothing else; nothing is pushed. See CONTRIBUTING.md and
// docs/adr/0008-modules.md.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	f := flag.NewFlagSet("release", flag.ExitOnError)
	do := f.Bool("do", false, "change files, commit and tag; without it, only say what would be done")
	proxy := f.String("proxy", "", "write to this `directory`: proxy, the files of a module proxy, and tree, a copy of the tree with the versions and checksums that are in the proxy")
	tidyAll := f.Bool("tidy", false, "tidy go.mod and go.sum of every module")
	forgetVersion := f.String("forget", "", "remove this `version`, which -proxy printed, from the module cache")
	dir := f.String("C", ".", "the root `directory` of the tree")
	f.Usage = func() {
		fmt.Fprint(f.Output(), "Usage: release [-do] VERSION\n       release -tidy\n       release -proxy DIR [VERSION]\n\nFlags:\n\n")
		f.PrintDefaults()
	}
	_ = f.Parse(os.Args[1:])
	var err error
	switch {
	case *tidyAll:
		err = tidy(*dir, os.Stdout)
	case *forgetVersion != "":
		err = forget(*forgetVersion)
	case *proxy != "":
		err = writeProxy(*dir, *proxy, f.Arg(0), os.Stdout)
	default:
		err = release(*dir, f.Arg(0), *do, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// writeProxy writes the proxy of a tree, and prints the version of the modules
// in it.
func writeProxy(dir, proxy, version string, w io.Writer) error {
	t, err := load(dir)
	if err != nil {
		return err
	}
	if version == "" {
		version = t.unreleased()
	}
	if err := checkVersion(version); err != nil {
		return err
	}
	t.setVersion(version)
	if err := t.writeProxy(proxy); err != nil {
		return err
	}
	fmt.Fprintln(w, version)
	return nil
}
