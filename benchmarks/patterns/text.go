package patterns

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteText writes the report as text with tables. The error is that of w.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.Host.line())
	for i := range r.Results {
		b.WriteByte('\n')
		r.Results[i].text(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// line describes the host in one line.
func (h *Host) line() string {
	s := fmt.Sprintf("%s %s/%s, %d CPUs", h.Go, h.OS, h.Arch, h.CPUs)
	if h.CPU != "" {
		s += ", " + h.CPU
	}
	if h.Revision != "" {
		s += ", commit " + h.Revision
	}
	return s
}

// describe describes the workload in one line.
func (w *Workload) describe() string {
	var s []string
	add := func(format string, args ...any) { s = append(s, fmt.Sprintf(format, args...)) }
	switch w.Sizes.Kind {
	case SizeFixed:
		add("records of %s", bytesText(float64(w.Sizes.Bytes)))
	case SizeLogNormal:
		add("records of %s (log-normal, sigma %g)", bytesText(float64(w.Sizes.Bytes)), w.Sizes.Sigma)
	default:
		add("lines of a file")
	}
	switch w.Keys.Kind {
	case KeyUniform:
		add("%s", plural(w.Keys.Count, "key"))
	case KeyZipf:
		add("%d keys (Zipf %g)", w.Keys.Count, w.Keys.Exponent)
	case KeyHot:
		add("%d keys, one with %g %%", w.Keys.Count, w.Keys.HotShare*100)
	default:
		add("keys from field %d", w.Keys.Field)
	}
	if w.Rate > 0 {
		add("open loop at %s/s", count(w.Rate))
	} else {
		add("closed loop")
	}
	put := map[string]string{PutSingle: "one by one", PutBatch: fmt.Sprintf("in batches of %d", w.Batch), PutAsync: "through a producer"}[w.Put]
	if w.Aggregate {
		put += ", aggregated"
	}
	add("%s, %s", plural(w.Producers, "producer"), put)
	add("%s", plural(w.Shards, "shard"))
	if w.Memory {
		add("in memory")
	} else if w.Sync != "" {
		add("sync %s", w.Sync)
	}
	if w.Compression != "none" && w.Compression != "" {
		add("%s", w.Compression)
	}
	if w.Limits != "none" && w.Limits != "" {
		add("limits of %s", w.Limits)
	}
	if c := w.Consumers; c.Count > 0 {
		s = append(s, fmt.Sprintf("%s (%s)", plural(c.Count, "consumer"), c.Mode))
	}
	return strings.Join(s, "; ")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprint(n, " ", what, "s")
}

// text writes the result of one run.
func (r *Result) text(b *strings.Builder) {
	w := &r.Workload
	fmt.Fprintf(b, "%s on %s: %s\n  %s\n", w.Name, r.Target, w.Description, w.describe())
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	row := func(what, format string, args ...any) {
		fmt.Fprintf(t, "  %s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	row("put", "%s records in %.1f s: %s/s, %s/s", count(float64(r.Records)), r.Seconds, count(r.RecordsPerSecond), bytesText(r.BytesPerSecond))
	for _, note := range r.notes() {
		row("", "%s", note)
	}
	row("put to ack", "%s", r.Ack.line())
	if r.Delivery.Count > 0 {
		row("put to delivery", "%s", r.Delivery.line())
		row("delivered", "%s/s to each consumer", count(r.DeliveredPerSecond))
	}
	row("throttled", "%d puts, %d reads", r.Throttled, r.ReadsThrottled)
	row("stored", "%s records, %s, in %s calls; %s PUT units", count(float64(r.Stored.Records)), bytesText(float64(r.Stored.Bytes)), count(float64(r.Calls)), count(float64(r.Stored.PutUnits)))
	row("shards", "%s", r.balance())
	row("hottest keys", "%s", r.hot(3))
	if d := r.Disk; d != nil {
		row("disk", "%s (%s live), %s written (%s times), %d syncs", bytesText(float64(d.Bytes)), bytesText(float64(d.Live)), bytesText(float64(d.Written)), digits(d.Amplification), d.Syncs)
	}
	p := &r.Process
	row("per record", "%s CPU, of which %s to make it; %s allocations, %s", nanos(p.CPUPerRecord), nanos(p.LoadCPUPerRecord), digits(p.AllocsPerRecord), bytesText(p.AllocBytesPerRecord))
	row("heap", "at most %s", bytesText(float64(p.MaxHeap)))
	row("check", "%s", r.Check.line(w.Consumers.Count))
	_ = t.Flush() // into memory
}

// notes returns what a reader of the figures has to know.
func (r *Result) notes() (notes []string) {
	if r.Backlog > 0 {
		notes = append(notes, fmt.Sprintf("did not keep up: %s records that were to come were not put, so latencies look too good", count(float64(r.Backlog))))
	}
	if r.Failed > 0 {
		notes = append(notes, fmt.Sprintf("%d records failed", r.Failed))
	}
	if r.MalformedLines > 0 {
		notes = append(notes, fmt.Sprintf("%d lines of %s are malformed and were left out: they have no field %d, or NUL bytes", r.MalformedLines, r.Workload.Lines, r.Workload.Keys.Field))
	}
	return notes
}

// line is a latency's percentiles.
func (l *Latency) line() string {
	f := func(v int64) string { return nanos(float64(v)) }
	return fmt.Sprintf("p50 %s  p90 %s  p99 %s  p99.9 %s  max %s", f(l.P50), f(l.P90), f(l.P99), f(l.P999), f(l.Max))
}

// SecondLine describes a second in one line.
func SecondLine(s *Second) string {
	f := func(v int64) string { return nanos(float64(v)) }
	line := fmt.Sprintf("%s put, ack p50 %s p99 %s max %s", count(float64(s.Records)), f(s.AckP50), f(s.AckP99), f(s.AckMax))
	if s.Delivered > 0 {
		line += fmt.Sprintf("; %s delivered, p50 %s p99 %s", count(float64(s.Delivered)), f(s.DeliveryP50), f(s.DeliveryP99))
	}
	if s.Throttled > 0 {
		line += fmt.Sprintf("; %d throttled", s.Throttled)
	}
	return line
}

// balance describes how much the loads of the shards differ.
func (r *Result) balance() string {
	if len(r.Shards) == 0 || r.Stored.Records == 0 {
		return fmt.Sprint(len(r.Shards))
	}
	top := &r.Shards[0]
	for i := range r.Shards {
		if r.Shards[i].Records > top.Records {
			top = &r.Shards[i]
		}
	}
	even := float64(r.Stored.Records) / float64(len(r.Shards))
	return fmt.Sprintf("%d; busiest %s with %.1f %% (%.2f of an even share), in its worst second %s records and %s",
		len(r.Shards), top.ID, top.Share*100, float64(top.Records)/even, count(float64(top.WorstSecondRecords)), bytesText(float64(top.WorstSecondBytes)))
}

// hot lists the hottest keys.
func (r *Result) hot(n int) string {
	var s []string
	for _, k := range r.Keys[:min(n, len(r.Keys))] {
		s = append(s, fmt.Sprintf("%q %.1f %%", k.Key, k.Share*100))
	}
	return fmt.Sprintf("%s; of %d", strings.Join(s, ", "), r.DistinctKeys)
}

// Problem describes what is wrong, "" if nothing is. With exact, that includes
// copies and records out of order, which a target that is not exact may produce.
func (c *Check) Problem(exact bool) string {
	var s []string
	add := func(n int64, what string) {
		if n > 0 {
			s = append(s, fmt.Sprintf("%d records %s", n, what))
		}
	}
	add(c.Missing, "missing")
	add(c.Foreign, "of another run")
	if exact {
		add(c.Duplicates, "delivered twice")
		add(c.Misordered, "out of order")
	}
	return strings.Join(s, ", ")
}

// line describes the checks and their outcome.
func (c *Check) line(consumers int) string {
	s := fmt.Sprintf("%d records acknowledged", c.Acked)
	if consumers == 0 {
		return s + "; nobody read them"
	}
	if p := c.Problem(true); p != "" {
		return s + "; " + strings.ToUpper(p)
	}
	return s + ", all delivered, once and in order"
}

// WriteComparison writes the rows of Compare as a text table; names are those of
// the reports. The error is that of w.
func WriteComparison(w io.Writer, names []string, rows []Row) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	last := ""
	few := false
	for i := range rows {
		r := &rows[i]
		if head := r.Workload + " on " + r.Target; head != last {
			if last != "" {
				fmt.Fprintln(t)
			}
			last = head
			fmt.Fprintf(t, "%s\t%s\n", head, strings.Join(names, "\t"))
		}
		fmt.Fprintf(t, "  %s", r.Metric)
		for j := range r.Summaries {
			fmt.Fprintf(t, "\t%s", r.Summaries[j].text(r.Unit))
			if j > 0 {
				d := &r.Differences[j-1]
				few = few || d.Verdict == TooFew
				if s := d.text(r.Summaries[0].N, r.Summaries[j].N); s != "" {
					fmt.Fprintf(t, "  %s", s)
				}
			}
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // into memory
	if few {
		fmt.Fprintf(&b, "\nToo few runs to tell a difference from noise (p <= %g): run each side with -count 4 or more; 6 give intervals.\n", Alpha)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// text formats a median with half of its confidence interval.
func (s *Summary) text(unit string) string {
	if s.N == 0 {
		return "-"
	}
	t := amount(s.Median, unit)
	if s.Low != nil && s.Median != 0 {
		t += fmt.Sprintf(" ±%.0f%%", max(*s.High-s.Median, s.Median-*s.Low)/s.Median*100)
	}
	return t
}

// text formats the change, or "~" if it is within the noise.
func (d *Difference) text(n, m int) string {
	of := fmt.Sprint("n=", n)
	if n != m {
		of = fmt.Sprintf("n=%d+%d", n, m)
	}
	switch d.Verdict {
	case Better, Worse:
		return fmt.Sprintf("%+.1f%% %s (p=%.3f %s)", d.Change*100, d.Verdict, d.P, of)
	case Same:
		return fmt.Sprintf("~ (p=%.3f %s)", d.P, of)
	case TooFew:
		return fmt.Sprintf("? (%+.1f%%, %s)", d.Change*100, of)
	}
	return ""
}
