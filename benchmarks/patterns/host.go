package patterns

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
)

// NewReport returns a report of runs made by this process on this machine.
func NewReport(results ...Result) *Report {
	if results == nil {
		results = []Result{}
	}
	return &Report{Format: ReportFormat, Version: ReportVersion, Host: host(), Results: results}
}

func host() Host {
	h := Host{Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.GOMAXPROCS(0), CPU: processor()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return h
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			h.Revision = s.Value[:min(12, len(s.Value))] + h.Revision
		case s.Key == "vcs.modified" && s.Value == "true":
			h.Revision += "+dirty"
		}
	}
	return h
}

// processor returns the name of the processors, "" where the system does not
// report it.
func processor() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(data) {
		if k, v, ok := bytes.Cut(line, []byte(":")); ok && string(bytes.TrimSpace(k)) == "model name" {
			return string(bytes.TrimSpace(v))
		}
	}
	return ""
}
