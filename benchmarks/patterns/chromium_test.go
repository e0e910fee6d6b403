//go:build chromium

// These tests need Chromium, which the rest of the suite does not:
//
//	go test -tags chromium -run Chromium ./benchmarks/patterns

package patterns

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	_ "image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// chromium opens a page of a server here and returns what it prints.
func chromium(t *testing.T, args ...string) string {
	exe, err := exec.LookPath("chromium")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--user-data-dir=" + t.TempDir(), "--virtual-time-budget=20000"}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return string(out)
}

// pageOfRuns makes two short runs of workloads and returns the page that
// compares them.
func pageOfRuns(t *testing.T) []byte {
	var reports []*Report
	for range 2 {
		rep := NewReport()
		for _, name := range []string{"clickstream", "aggregated", "many-shards"} {
			w, err := Find(name)
			require.NoError(t, err)
			w.Duration, w.WarmUp = Duration(2500*time.Millisecond), 0
			res, err := Run(t.Context(), &InProcess{}, w, nil)
			require.NoError(t, err)
			rep.Results = append(rep.Results, *res)
		}
		reports = append(reports, rep)
	}
	var b bytes.Buffer
	require.NoError(t, WriteHTML(&b, []string{"before", "after"}, reports))
	return b.Bytes()
}

// TestPageInChromium checks that every chart is drawn, with marks in it, and that
// the page requests nothing.
func TestPageInChromium(t *testing.T) {
	page := pageOfRuns(t)
	var mu sync.Mutex
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.Path)
		mu.Unlock()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	}))
	defer srv.Close()

	dom := chromium(t, "--dump-dom", srv.URL+"/page")
	require.NotContains(t, dom, "data-failed")
	require.Regexp(t, `<html[^>]* data-drawn="[1-9]`, dom)
	figures := regexp.MustCompile(`(?s)<figure class="chart" data-workload="(\d)" data-chart="(\w+)">(.*?)\n?<h3>|(?s)<figure class="chart" data-workload="(\d)" data-chart="(\w+)">(.*?)</section>`).FindAllStringSubmatch(dom, -1)
	// Three workloads, two of which have consumers.
	require.Len(t, figures, 7+7+6)
	for _, f := range figures {
		name, body := f[1]+f[4]+" "+f[2]+f[5], f[3]+f[6]
		marks := strings.Count(body, "<path d=") + strings.Count(body, "<rect ") + strings.Count(body, "<circle ")
		require.GreaterOrEqual(t, marks, 2, name)
		require.NotContains(t, body, "NaN", name)
		require.NotContains(t, body, "undefined", name)
		require.Contains(t, body, "before", name)
		require.Contains(t, body, "after", name)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, path := range asked {
		require.Contains(t, []string{"/page", "/favicon.ico"}, path)
	}
}

// TestScreenshotInChromium checks that a picture of the page has the colours of
// the charts. SHARDLOG_SCREENSHOT names a file to keep the picture in.
func TestScreenshotInChromium(t *testing.T) {
	dir := t.TempDir()
	page, picture := filepath.Join(dir, "page.html"), filepath.Join(dir, "page.png")
	require.NoError(t, os.WriteFile(page, pageOfRuns(t), 0o600))
	chromium(t, "--window-size=1250,5200", "--screenshot="+picture, "file://"+page)
	data, err := os.ReadFile(picture)
	require.NoError(t, err)
	if keep := os.Getenv("SHARDLOG_SCREENSHOT"); keep != "" {
		require.NoError(t, os.WriteFile(keep, data, 0o600))
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	require.NoError(t, err)
	counts := map[string]int{}
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			counts[fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B)]++
		}
	}
	for _, c := range []string{"#0969da", "#bc4c00", "#1a7f37"} { // lines and bars
		require.Greater(t, counts[c], 300, c)
	}
	require.Greater(t, counts["#ffffff"], 1_000_000, "paper")
}
