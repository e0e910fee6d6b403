package cost

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteText writes e for people; the date of the prices is in the first line.
// It returns the error of w.
func (e *Estimate) WriteText(w io.Writer) error {
	var b strings.Builder
	p, n := &e.Pattern, &e.Need
	fmt.Fprintf(&b, "Estimate for AWS Kinesis Data Streams, %s, prices as of %s, %v hours a month\n\n", e.Region, e.PricesDate, e.HoursPerMonth)
	fmt.Fprintf(&b, "load (%s)\n", p.Basis)
	fmt.Fprintf(&b, "  mean          %s records/s, %s/s, %s PUT units/s\n", number(p.Records), size(p.Bytes), number(p.PutUnits))
	fmt.Fprintf(&b, "  worst second  %s records, %s; the hottest key has %.1f %% of it\n", number(p.PeakRecords), size(p.PeakBytes), p.HotShare*100)
	fmt.Fprintf(&b, "  shards        %d by the worst second with %.0f %% headroom (%d by the mean)\n", n.Shards, n.Headroom*100, n.AverageShards)
	if n.HotKey != "" {
		fmt.Fprintf(&b, "  hottest key   %q fills %.2f of a shard in its worst second\n", n.HotKey, n.HotKeyFill)
	} else if n.HotKeyFill > 0 {
		fmt.Fprintf(&b, "  hottest key   fills %.2f of a shard in its worst second\n", n.HotKeyFill)
	}
	for i := range e.Plans {
		e.Plans[i].text(&b)
	}
	b.WriteString("\nnotes\n")
	for _, note := range e.Notes {
		fmt.Fprintf(&b, "  - %s\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (p *Plan) text(b *strings.Builder) {
	fmt.Fprintf(b, "\n%s: %s a month\n", p.Name, dollars(p.Dollars))
	if t := p.Throttling; t != nil {
		fmt.Fprintf(b, "  %d shards, the fullest %.0f %% full in its worst second; risk of throttling: %s", p.Shards, t.Fill*100, t.Risk)
		if t.SecondsOver >= 0 {
			fmt.Fprintf(b, " (%d seconds over)", t.SecondsOver)
		}
		if t.ReadFill > 0 {
			fmt.Fprintf(b, "; readers %.0f %%", t.ReadFill*100)
		}
		b.WriteString("\n")
	}
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, l := range p.Lines {
		mark := ""
		if l.Doubt != "" {
			mark = "in doubt, see notes"
		}
		fmt.Fprintf(tw, "  %s\t%s\tx %v\t%s\t%s\t%s\n", l.What, number(l.Quantity), l.Price, l.Unit, dollars(l.Dollars), mark)
	}
	_ = tw.Flush() // a strings.Builder does not fail
}

func dollars(v float64) string { return fmt.Sprintf("$%.2f", v) }

func number(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func size(v float64) string {
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if v < 1024 {
			return fmt.Sprintf("%.4g %s", v, unit)
		}
		v /= 1024
	}
	return fmt.Sprintf("%.4g TiB", v)
}
