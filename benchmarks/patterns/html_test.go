package patterns

import (
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// withoutScripts cuts the scripts out of a page and returns them.
func withoutScripts(t *testing.T, page string) (rest string, scripts []string) {
	re := regexp.MustCompile(`(?s)<script([^>]*)>(.*?)</script>`)
	for _, m := range re.FindAllStringSubmatch(page, -1) {
		scripts = append(scripts, m[2])
	}
	return re.ReplaceAllString(page, ""), scripts
}

func TestPage(t *testing.T) {
	a, b := reportOf(100, 101, 99, 100.5, 99.5, 100.2), reportOf(110, 111, 109, 110.5, 109.5, 110.2)
	for i := range b.Results {
		b.Results[i].Backlog = 5
		b.Results[i].Delivery = b.Results[i].Ack
	}
	b.Results[5].Workload.Name, b.Results[5].Workload.Description = "<i>other", `"quoted" & <b>`
	var out strings.Builder
	require.NoError(t, WriteHTML(&out, []string{"same", "same"}, []*Report{a, b}))
	page, scripts := withoutScripts(t, out.String())

	// The page loads nothing from elsewhere, and its policy forbids it.
	require.Contains(t, page, `content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"`)
	require.NotRegexp(t, `(?i)(src|href|action|poster)\s*=\s*["']?(?:[a-z]+:)?//`, page)
	require.NotRegexp(t, `(?i)@import|url\(|<(link|iframe|img|object|embed|base)\b`, page)
	require.NotRegexp(t, `<script[^>]+src`, out.String())

	// The tables are readable without scripts.
	require.Contains(t, page, "<td class=\"better\">110 records/s  &#43;9.9% better (p=0.004 n=6&#43;5)</td>")
	require.Contains(t, page, "same (2): did not keep up: 5 records")
	require.Contains(t, page, "&lt;i&gt;other")
	require.NotContains(t, page, "<i>other")
	require.Contains(t, page, "&#34;quoted&#34; &amp; &lt;b&gt;")
	require.Contains(t, page, "Permission to use, copy, modify", "the licences of what is inside")
	require.Equal(t, strings.Count(page, "<section"), strings.Count(page, "</section>"))

	// Each chart has its data.
	require.Len(t, scripts, 4)
	var data pageData
	require.NoError(t, json.Unmarshal([]byte(scripts[0]), &data))
	require.Equal(t, []string{"same", "same (2)"}, data.Reports)
	require.Len(t, data.Workloads, 2)
	require.Equal(t, 100.0, data.Workloads[0].Runs[0].RecordsPerSecond, "the run in the middle")
	require.Equal(t, "same (2)", data.Workloads[0].Runs[1].Report)
	require.Len(t, data.Workloads[1].Runs, 1)
	require.NotContains(t, scripts[0], "<", "nothing that could end the script")
	figures := regexp.MustCompile(`<figure class="chart" data-workload="(\d)" data-chart="(\w+)">`).FindAllStringSubmatch(page, -1)
	var kinds [2][]string
	for _, f := range figures {
		kinds[f[1][0]-'0'] = append(kinds[f[1][0]-'0'], f[2])
		require.Contains(t, scripts[3], "    "+f[2], "drawn by the script")
	}
	all := []string{"ack", "delivery", "throughput", "histogram", "shards", "keys", "sizes"}
	require.Equal(t, all, kinds[0])
	require.Equal(t, all, kinds[1])

	out.Reset()
	require.NoError(t, WriteHTML(&out, []string{"a"}, []*Report{reportOf(1)}))
	require.NotContains(t, out.String(), `data-chart="delivery"`)
	require.NotContains(t, out.String(), "Medians of the runs")

	require.ErrorIs(t, WriteHTML(io.Discard, nil, nil), shardlog.ErrInvalid)
	require.ErrorIs(t, WriteHTML(io.Discard, []string{"a"}, []*Report{NewReport()}), shardlog.ErrInvalid)
	require.ErrorIs(t, WriteHTML(io.Discard, nil, []*Report{a}), shardlog.ErrInvalid)
}
