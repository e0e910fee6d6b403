package benchcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/benchmarks/patterns"
)

// Long is the help text of the command.
const Long = `
Runs workloads and reports throughput, latency from put to acknowledgement and
to delivery, throttles, the balance of the shards, bytes on disk, processor time
and allocations. A workload is one of those that "bench list" prints, a
YAML file, or what the flags say; flags also change those that have a name.

    bench clickstream
    bench single-put batched -count 6 -json before.json -html before.html
    bench -rate 5000 -size lognormal:400 -keys zipf:10000:1 -shards 4 -consumers 2
    bench app-logs -lines access.log -keys lines:1
    bench compare before.json after.json

At a -rate, the latency of a record counts from the time at which it was due,
not from the call, so that a stall shows in every record that had to wait.

Lines without the field that is the key are left out, counted and reported. If a
run fails, the report has those before it.

The command fails if a record that was acknowledged is not delivered.`

// FileError says that a file does not hold what it should. It may match
// shardlog.ErrInvalid, but the command line is not what is wrong.
type FileError struct {
	Path string
	Err  error
}

// Error describes e in one line.
func (e *FileError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns what is wrong with the file.
func (e *FileError) Unwrap() error { return e.Err }

// Run runs the workloads with these names, or the one that the flags describe, on
// a target, and writes the report where the flags say. Progress goes to stderr. It
// blocks until all is done; if ctx ends, it reports what it has run so far. The
// error matches shardlog.ErrInvalid for invalid names and flags.
func (b *Flags) Run(ctx context.Context, target patterns.Target, names []string, stdout, stderr io.Writer) error {
	all, err := b.workloads(names, os.ReadFile)
	if err != nil {
		return err
	}
	// A run takes long, so files that cannot be written are found before it.
	for _, name := range []string{b.json, b.html, b.profile} {
		if name != "" && name != "-" {
			if err := writable(name); err != nil {
				return err
			}
		}
	}
	if b.profile == "" {
		return b.runAll(ctx, target, all, stdout, stderr)
	}
	return toFile(b.profile, func(w io.Writer) error {
		if err := pprof.StartCPUProfile(w); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
		return b.runAll(ctx, target, all, stdout, stderr)
	})
}

// runAll runs the workloads, each as often as -count says.
func (b *Flags) runAll(ctx context.Context, target patterns.Target, all []patterns.Workload, stdout, stderr io.Writer) error {
	var opts patterns.Options
	if !b.quiet {
		opts.Progress = func(p patterns.Progress) { fmt.Fprintln(stderr, progressLine(&p)) }
	}
	var results []patterns.Result
	var problems []error
runs:
	for range b.count { // in turn, so that other work of the machine affects all of them
		for _, w := range all {
			if ctx.Err() != nil {
				break
			}
			res, err := patterns.Run(ctx, target, w, &opts)
			if err != nil {
				if ctx.Err() == nil {
					if w.Lines != "" && errors.Is(err, shardlog.ErrInvalid) { // the workload itself was checked
						err = &FileError{w.Lines, err}
					}
					problems = append(problems, fmt.Errorf("workload %s: %w", w.Name, err))
				}
				break runs // with a report of what was run before
			}
			results = append(results, *res)
			if p := res.Check.Problem(target.Exact()); p != "" && ctx.Err() == nil {
				problems = append(problems, fmt.Errorf("workload %s: %s", w.Name, p))
			}
		}
	}
	if len(results) > 0 {
		problems = append([]error{b.write(patterns.NewReport(results...), stdout)}, problems...)
	}
	return errors.Join(problems...)
}

// write writes the report in the requested forms.
func (b *Flags) write(rep *patterns.Report, stdout io.Writer) error {
	var err error
	switch b.json {
	case "-":
		err = rep.Write(stdout)
	case "":
		err = rep.WriteText(stdout)
	default:
		err = errors.Join(rep.WriteText(stdout), toFile(b.json, rep.Write))
	}
	if b.html != "" {
		err = errors.Join(err, toFile(b.html, func(w io.Writer) error {
			return patterns.WriteHTML(w, []string{reportName(b.json)}, []*patterns.Report{rep})
		}))
	}
	return err
}

// toFile writes a file. One that was there stays as it was if f fails.
func toFile(name string, f func(io.Writer) error) error {
	if fi, err := os.Stat(name); err == nil && !fi.Mode().IsRegular() { // a device or a pipe
		w, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(f(w), w.Close())
	}
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	w, err := os.Create(name + newSuffix)
	if err != nil {
		return err
	}
	if err = errors.Join(f(w), w.Close()); err == nil {
		err = os.Rename(w.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(w.Name()))
	}
	return nil
}

// newSuffix is added to the name of a file while it is written.
const newSuffix = ".new"

// writable reports why toFile could not write a file, nil if it could.
func writable(name string) error {
	fi, err := os.Stat(name)
	switch {
	case err == nil && fi.IsDir():
		return fmt.Errorf("%s is a directory", name)
	case err == nil && !fi.Mode().IsRegular():
		return nil
	}
	w, err := os.Create(name + newSuffix)
	if err != nil {
		return err
	}
	return errors.Join(w.Close(), os.Remove(w.Name()))
}

func progressLine(p *patterns.Progress) string {
	s := fmt.Sprintf("%s %s %.0fs", p.Workload, p.Phase, p.Elapsed.Seconds())
	if p.Total > 0 {
		s += fmt.Sprintf(" of %.0fs", p.Total.Seconds())
	}
	s += fmt.Sprintf(": %d records", p.Acked)
	if p.Wanted > 0 {
		s += fmt.Sprintf(" of %d", p.Wanted)
	}
	if p.HaveLast {
		s += "; last second " + patterns.SecondLine(&p.Last)
	}
	return s
}

// List prints the built-in workloads.
func List(w io.Writer) error {
	for _, name := range patterns.Ready() {
		wl, err := patterns.Find(name)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%-16s %s\n", name, wl.Description); err != nil {
			return err
		}
	}
	return nil
}

// Show prints a built-in workload as YAML.
func Show(w io.Writer, name string) error {
	text, err := patterns.Text(name)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	return err
}

// Compare compares reports in files with the first of them, and prints which
// differences are larger than the noise, as a table or as JSON. If html is not "",
// it writes a page with charts side by side to that file.
func Compare(files []string, asJSON bool, html string, stdout io.Writer) error {
	if len(files) < 2 && html == "" || len(files) == 0 {
		return &shardlog.InvalidError{Field: "files", Value: len(files), Limit: "two or more reports"}
	}
	var names []string
	var reports []*patterns.Report
	for _, file := range files {
		rep, err := readFile(file)
		if err != nil {
			return err
		}
		names, reports = append(names, reportName(file)), append(reports, rep)
	}
	if html != "" {
		if err := toFile(html, func(w io.Writer) error { return patterns.WriteHTML(w, names, reports) }); err != nil {
			return err
		}
	}
	rows := patterns.Compare(reports...)
	if asJSON {
		return patterns.WriteJSON(stdout, rows)
	}
	return patterns.WriteComparison(stdout, names, rows)
}

// Merge writes a report with the runs of several others, such as those of two
// builds that were run in turn. Its host is that of the first.
func Merge(to string, files []string) error {
	if len(files) == 0 {
		return &shardlog.InvalidError{Field: "files", Value: 0, Limit: "one or more reports"}
	}
	var merged *patterns.Report
	for _, file := range files {
		rep, err := readFile(file)
		if err != nil {
			return err
		}
		if merged == nil {
			merged = rep
		} else {
			merged.Results = append(merged.Results, rep.Results...)
		}
	}
	return toFile(to, merged.Write)
}

func readFile(name string) (*patterns.Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rep, err := patterns.Read(f)
	if err != nil {
		return nil, &FileError{name, err}
	}
	return rep, nil
}

// reportName returns the title of a report, from the name of its file.
func reportName(file string) string {
	if file == "" || file == "-" {
		return "this run"
	}
	return strings.TrimSuffix(filepath.Base(file), ".json")
}
