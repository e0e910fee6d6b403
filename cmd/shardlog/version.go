package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// logModule is the module of the log that the command is built from.
const logModule = "github.com/shardlog/shardlog"

var versionCommand = &command{
	words: "version", short: "print the versions of the command and of what it is built with",
	long: `
Prints the versions of the command, of the log in it, and of Go. A command built
from a source tree has the version (devel), or one that names the commit.`,
}

func init() { versionCommand.run = printVersion }

// printVersion prints what the go command has recorded in the binary, so no
// version is written in the source.
func printVersion(e *env, args []string) error {
	if _, err := e.parse(e.flags(), args, 0); err != nil {
		return err
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	_, err := fmt.Fprintf(e.stdout, "shardlog %s, log %s, %s %s/%s\n",
		known(info.Main.Version), known(moduleVersion(info, logModule)), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// moduleVersion returns the version of a module in a build, "" if it has none.
func moduleVersion(info *debug.BuildInfo, path string) string {
	for _, m := range info.Deps {
		if m.Path == path {
			if m.Replace != nil {
				return m.Replace.Version
			}
			return m.Version
		}
	}
	return ""
}

func known(version string) string {
	if version == "" {
		return "(devel)"
	}
	return version
}
