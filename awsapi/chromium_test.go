//go:build chromium

// This test needs Chromium, which the rest of the suite does not:
//
//	go test -tags chromium -run Chromium ./awsapi

package awsapi_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/awsapi"
	"github.com/shardlog/shardlog/awsapi/awstest"
	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/stream"
)

// attack is a page that lists and deletes the streams of an endpoint: by what
// scripts may do, and by what needs no permission of the endpoint.
const attack = `<!doctype html><pre id="out">running</pre><script>
const to = new URLSearchParams(location.search).get("to");
const headers = op => ({
  "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Kinesis_20131202." + op, "X-Amz-Date": "20260101T000000Z",
  "Authorization": "AWS4-HMAC-SHA256 Credential=111122223333/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=00"});
const ask = async (op, body, how) => {
  try { const r = await fetch(to, {method: "POST", body: JSON.stringify(body), headers: headers(op), ...how}); return r.status + " " + await r.text() }
  catch (e) { return "refused" }
};
(async () => {
  const out = ["list: " + await ask("ListStreams", {}), "delete: " + await ask("DeleteStream", {StreamName: "s"})];
  out.push("simple: " + await ask("DeleteStream", {StreamName: "s"}, {mode: "no-cors", headers: {"Content-Type": "text/plain"}}));
  document.getElementById("out").textContent = out.join("; ") + "; done";
})();
</script>`

// visit opens a page and returns what it has become.
func visit(t *testing.T, page, to string) string {
	exe, err := exec.LookPath("chromium")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
		"--host-resolver-rules=MAP rebound.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost", "--user-data-dir="+t.TempDir(),
		"--virtual-time-budget=20000", "--dump-dom", page+"?to="+url.QueryEscape(to))
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	require.Contains(t, string(out), "; done", stderr.String())
	return string(out)
}

// servePage serves the page at /page, and what else is asked for by h.
func servePage(t *testing.T, h http.Handler) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/page" {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write([]byte(attack)) // if it fails, the browser is gone
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv
}

func TestPagesInChromium(t *testing.T) {
	db := awstest.OpenDB(t)
	endpoint := func(opts *awsapi.Options) *httptest.Server {
		s, err := kinesisapi.Service(db, nil)
		require.NoError(t, err)
		e, err := awsapi.New(opts, s)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		return servePage(t, e)
	}
	_, err := db.Create(t.Context(), "s", stream.Config{Shards: 1})
	require.NoError(t, err)
	there := func() bool { _, err := db.Stream(t.Context(), "s"); return err == nil }
	page := servePage(t, http.NotFoundHandler())
	e := endpoint(nil)

	out := visit(t, page.URL+"/page", e.URL)
	require.Contains(t, out, "list: refused; delete: refused", "a page of another port: %s", out)
	require.True(t, there())

	rebound := strings.Replace(e.URL, "127.0.0.1", "rebound.example", 1)
	out = visit(t, rebound+"/page", rebound)
	require.Contains(t, out, "list: 403 ", "a name that resolves to this machine: %s", out)
	require.Contains(t, out, "delete: 403 ")
	require.True(t, there())

	allowed := endpoint(&awsapi.Options{AllowOrigins: []string{page.URL}})
	out = visit(t, page.URL+"/page", allowed.URL)
	require.Contains(t, out, `list: 200 {"StreamNames":["s"]`)
	require.False(t, there(), "a page that is allowed deletes")
}
