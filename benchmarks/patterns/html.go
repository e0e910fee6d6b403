package patterns

import (
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/shardlog/shardlog"
)

//go:embed page
var pageFiles embed.FS

var pageTemplate = template.Must(template.ParseFS(pageFiles, "page/report.html"))

// page is the data of the template.
type page struct {
	CSS              template.CSS
	Reports          []pageReport
	Workloads        []pageWorkload
	Data             template.JS
	Licences         string
	D3, Plot, Script template.JS
}

type pageReport struct{ Name, Host string }

// pageWorkload is a section of the page.
type pageWorkload struct {
	Index                                  int
	ID, Name, Target, Description, Pattern string
	Notes                                  []string
	Columns                                []string
	Rows                                   []pageRow
	Repeated                               bool
	Charts                                 []pageChart
}

type pageRow struct {
	Name  string
	Cells []pageCell
}

type pageCell struct{ Text, Class string }

type pageChart struct{ Kind, Title, Caption string }

// pageData is the data of the charts.
type pageData struct {
	Reports   []string        `json:"reports"`
	Workloads []pageDataEntry `json:"workloads"`
}

type pageDataEntry struct {
	Name string    `json:"name"`
	Runs []pageRun `json:"runs"`
}

// pageRun is the one run of a report that the charts show.
type pageRun struct {
	Report string `json:"report"`
	*Result
}

// WriteHTML writes a page with tables and charts of reports, side by side if
// there are several. Names are the titles of the reports. The page is
// self-contained: it needs no network and no other file. The error matches
// shardlog.ErrInvalid if there is nothing to show, or is that of w.
func WriteHTML(w io.Writer, names []string, reports []*Report) error {
	if len(names) != len(reports) {
		return &shardlog.InvalidError{Field: "names", Value: len(names), Limit: fmt.Sprint(len(reports), ", one for each report")}
	}
	names = distinct(names)
	p := page{}
	data := pageData{Reports: names, Workloads: []pageDataEntry{}}
	for i, r := range reports {
		p.Reports = append(p.Reports, pageReport{names[i], r.Host.line()})
	}
	rows := Compare(reports...)
	for i, key := range workloads(reports) {
		entry := pageDataEntry{Name: key[0]}
		section := pageWorkload{Index: i, ID: fmt.Sprint("workload-", i+1), Name: key[0], Target: key[1], Columns: names}
		for j, r := range reports {
			if run := r.typical(key); run != nil {
				entry.Runs = append(entry.Runs, pageRun{names[j], run})
			}
		}
		section.fill(entry.Runs, rows)
		data.Workloads = append(data.Workloads, entry)
		p.Workloads = append(p.Workloads, section)
	}
	if len(p.Workloads) == 0 {
		return &shardlog.InvalidError{Field: "reports", Value: len(reports), Limit: "reports with at least one result"}
	}
	return p.write(w, &data)
}

// write fills in what does not depend on the reports, and writes the page.
func (p *page) write(w io.Writer, data *pageData) error {
	// The encoder escapes <, > and &, so the data cannot end the script that
	// contains them.
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	p.Data = template.JS(text)
	file := func(name string) (content string) {
		b, e := pageFiles.ReadFile("page/" + name)
		if e != nil {
			err = e
		}
		return string(b)
	}
	p.CSS, p.Script = template.CSS(file("report.css")), template.JS(file("report.js"))
	p.D3, p.Plot = template.JS(file("vendored/d3.min.js")), template.JS(file("vendored/plot.umd.min.js"))
	p.Licences = "D3:\n" + file("vendored/d3.LICENSE") + "\nObservable Plot:\n" + file("vendored/plot.LICENSE")
	if err != nil {
		return err
	}
	return pageTemplate.Execute(w, p)
}

// distinct makes names unique: it numbers those that occur more than once.
func distinct(names []string) []string {
	var out []string
	for _, name := range names {
		unique := name
		for n := 2; slices.Contains(out, unique); n++ {
			unique = fmt.Sprintf("%s (%d)", name, n)
		}
		out = append(out, unique)
	}
	return out
}

// typical returns the run with the median throughput, nil if there is none.
func (r *Report) typical(key [2]string) *Result {
	var runs []*Result
	for i := range r.Results {
		if res := &r.Results[i]; res.Workload.Name == key[0] && res.Target == key[1] {
			runs = append(runs, res)
		}
	}
	if len(runs) == 0 {
		return nil
	}
	slices.SortStableFunc(runs, func(a, b *Result) int {
		switch {
		case a.RecordsPerSecond < b.RecordsPerSecond:
			return -1
		case a.RecordsPerSecond > b.RecordsPerSecond:
			return 1
		}
		return 0
	})
	return runs[(len(runs)-1)/2]
}

// fill makes the section from the runs that are drawn and the rows of all.
func (s *pageWorkload) fill(runs []pageRun, rows []Row) {
	s.Description, s.Pattern = runs[0].Workload.Description, runs[0].Workload.describe()
	delivery := false
	for _, r := range runs {
		delivery = delivery || r.Result.Delivery.Count > 0
		for _, n := range append(r.notes(), r.Check.Problem(true)) {
			if n != "" {
				s.Notes = append(s.Notes, r.Report+": "+n)
			}
		}
	}
	for i := range rows {
		row := &rows[i]
		if row.Workload != s.Name || row.Target != s.Target {
			continue
		}
		r := pageRow{Name: row.Metric}
		for j := range row.Summaries {
			sum := &row.Summaries[j]
			s.Repeated = s.Repeated || sum.N > 1
			cell := pageCell{Text: sum.text(row.Unit)}
			if j > 0 {
				d := &row.Differences[j-1]
				cell.Text = strings.TrimSpace(cell.Text + "  " + d.text(row.Summaries[0].N, sum.N))
				if d.Verdict == Better || d.Verdict == Worse {
					cell.Class = d.Verdict
				}
			}
			r.Cells = append(r.Cells, cell)
		}
		s.Rows = append(s.Rows, r)
	}
	s.Charts = []pageChart{{"ack", "Latency over time, put to acknowledgement", "Of the records acknowledged in each second."}}
	if delivery {
		s.Charts = append(s.Charts, pageChart{"delivery", "Latency over time, put to delivery", "Of the records delivered in each second, all consumers together."})
	}
	s.Charts = append(s.Charts,
		pageChart{"throughput", "Throughput", "Records in each second; the last may be shorter. Delivered are those of all consumers together."},
		pageChart{"histogram", "Latency histogram", "Each bar is an eighth of a doubling."},
		pageChart{"shards", "Shards", "Stored records on each shard in each second; an aggregate is one."},
		pageChart{"keys", "Hottest keys", "The ten partition keys with most records."},
		pageChart{"sizes", "Sizes", "Of the records' data, by powers of two."})
}
