package awsapi_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/awsapi"
	"github.com/shardlog/shardlog/awsapi/awstest"
	"github.com/shardlog/shardlog/awsapi/kinesisapi"
	"github.com/shardlog/shardlog/internal/awswire"
)

// browse is a request of a page or of a program.
type browse struct {
	method, peer, host, origin, site, referer, media string
	tls                                              bool
}

// send sends a request that defines a word, and returns status and headers.
func (b browse) send(e *awsapi.Endpoint) (int, http.Header) {
	body := `{"Word":"a"}`
	method := b.method
	if method == "" {
		method = "POST"
	}
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:50000"
	if b.peer != "" {
		r.RemoteAddr = b.peer
	}
	r.Host = "127.0.0.1:4567"
	if b.host != "" {
		r.Host = b.host
	}
	r.Header.Set("Content-Type", awswire.JSON10.Media)
	if b.media != "" {
		r.Header.Set("Content-Type", b.media)
	}
	r.Header.Set("X-Amz-Target", "Words_2026.Define")
	awswire.Sign(r, []byte(body), awswire.Credentials{AccessKey: account, Secret: "secret"}, "eu-west-1", "words", time.Now())
	for name, value := range map[string]string{"Origin": b.origin, "Sec-Fetch-Site": b.site, "Referer": b.referer} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	if b.tls {
		r.TLS = &tls.ConnectionState{}
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w.Code, w.Header()
}

// noRates is the toy without rates, so that any number of calls is answered.
func noRates(t *testing.T, opts *awsapi.Options) *awsapi.Endpoint {
	t.Helper()
	s := toy()
	s.Rates = false
	e, err := awsapi.New(opts, s)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

func TestPagesOfOtherOrigins(t *testing.T) {
	const evil, app = "https://evil.example", "http://localhost:3000"
	e := noRates(t, &awsapi.Options{AllowOrigins: []string{app, "https://APP.example:443"}})
	for name, c := range map[string]struct {
		b    browse
		want int
	}{
		"a program":                              {browse{}, 200},
		"a program, localhost":                   {browse{host: "localhost:4567"}, 200},
		"a program, IPv6":                        {browse{host: "[::1]:4567", peer: "[::1]:50000"}, 200},
		"a program elsewhere":                    {browse{host: "kinesis.example.com", peer: "192.0.2.1:1"}, 200},
		"a container":                            {browse{host: "kinesis:4567", peer: "172.17.0.3:1"}, 200},
		"a container, through the host":          {browse{host: "host.docker.internal:4567"}, 200},
		"a name of one label":                    {browse{host: "kinesis:4567"}, 200},
		"a foreign page":                         {browse{origin: evil}, 403},
		"a page of another port":                 {browse{origin: "http://127.0.0.1:8080"}, 403},
		"a page of this machine by another name": {browse{origin: "http://localhost:4567"}, 403},
		"a page of another scheme":               {browse{origin: "https://127.0.0.1:4567"}, 403},
		"our own page":                           {browse{origin: "http://127.0.0.1:4567", site: "same-origin"}, 200},
		"our own page with TLS":                  {browse{origin: "https://127.0.0.1:4567", tls: true}, 200},
		"our own page at the usual port":         {browse{origin: "http://localhost", host: "localhost:80"}, 200},
		"a sandboxed page":                       {browse{origin: "null"}, 403},
		"a file":                                 {browse{origin: "file://"}, 403},
		"an extension":                           {browse{origin: "moz-extension://abc"}, 403},
		"no origin at all":                       {browse{origin: "x"}, 403},
		"a simple POST":                          {browse{origin: evil, media: "text/plain"}, 403},
		"a form":                                 {browse{origin: evil, media: "application/x-www-form-urlencoded", site: "cross-site"}, 403},
		"a preflight":                            {browse{origin: evil, method: "OPTIONS"}, 403},
		"an allowed page":                        {browse{origin: app, site: "same-site"}, 200},
		"an allowed page, to any name":           {browse{origin: app, site: "cross-site", host: "kinesis.example.com:4567", peer: "192.0.2.1:1"}, 200},
		"an allowed page's preflight to it":      {browse{origin: app, method: "OPTIONS", host: "kinesis.example.com:4567"}, 200},
		"a foreign page, to any name":            {browse{origin: evil, host: "kinesis.example.com:4567", peer: "192.0.2.1:1"}, 403},
		"a host of localhost with a long port":   {browse{origin: "http://localhost:4567.evil.example"}, 403},
		"a name that is an address elsewhere":    {browse{host: "127.0.0.1.nip.io:4567"}, 403},
		"a page there":                           {browse{origin: "http://127.0.0.1.nip.io:4567", host: "127.0.0.1.nip.io:4567", peer: "192.0.2.1:1"}, 403},
		"localhost with a dot":                   {browse{origin: "http://localhost.:4567", host: "localhost.:4567"}, 200},
		"our own page, IPv6":                     {browse{origin: "http://[::1]:4567", host: "[::1]:4567", peer: "[::1]:1"}, 200},
		"our own page in a LAN":                  {browse{origin: "http://192.168.1.5:4567", host: "192.168.1.5:4567", peer: "192.168.1.9:1"}, 200},
		"an allowed page's preflight":            {browse{origin: app, method: "OPTIONS"}, 200},
		"an allowed page in capitals":            {browse{origin: "https://app.example"}, 200},
		"longer than an allowed one":             {browse{origin: app + "1"}, 403},
		"below an allowed one":                   {browse{origin: "https://x.app.example"}, 403},
		"cross-site without an origin":           {browse{site: "cross-site"}, 403},
		"same-site without an origin":            {browse{site: "same-site"}, 403},
		"same-origin without an origin":          {browse{site: "same-origin"}, 200},
		"typed by a person":                      {browse{site: "none"}, 200},
		"a site of tomorrow":                     {browse{site: "x"}, 403},
		"a foreign referer":                      {browse{referer: evil + "/x"}, 403},
		"an allowed referer":                     {browse{referer: app + "/x?y"}, 200},
		"our own referer":                        {browse{referer: "http://127.0.0.1:4567/"}, 200},
		"rebinding":                              {browse{host: "evil.example:4567"}, 403},
		"rebinding, as browsers send it":         {browse{host: "evil.example:4567", origin: "http://evil.example:4567", site: "same-origin"}, 403},
		"rebinding to an address of a network":   {browse{host: "evil.example:4567", origin: "http://evil.example:4567", peer: "192.0.2.1:1"}, 403},
		"rebinding with a dot at the end":        {browse{host: "evil.example.:4567"}, 403},
		"rebinding with localhost in it":         {browse{host: "localhost.evil.example:4567"}, 403},
		"rebinding, referer only":                {browse{host: "evil.example:4567", referer: "http://evil.example:4567/", peer: "192.0.2.1:1"}, 403},
		"the host of an allowed page":            {browse{host: "app.example:4567"}, 200},
	} {
		status, h := c.b.send(e)
		require.Equal(t, c.want, status, name)
		if status == 403 || c.b.origin == "" {
			require.Empty(t, h.Get("Access-Control-Allow-Origin"), name)
		} else {
			require.Equal(t, c.b.origin, h.Get("Access-Control-Allow-Origin"), name)
			require.Equal(t, "Origin", h.Get("Vary"), name)
		}
	}
}

func TestAllOriginsMayBeAllowed(t *testing.T) {
	e := noRates(t, &awsapi.Options{AllowOrigins: []string{"*"}})
	for _, b := range []browse{{origin: "https://evil.example"}, {origin: "null"}, {host: "evil.example"}, {site: "cross-site"}} {
		status, h := b.send(e)
		require.Equal(t, 200, status)
		if b.origin != "" {
			require.Equal(t, "*", h.Get("Access-Control-Allow-Origin"))
		}
	}
	for _, bad := range []string{"", "localhost", "localhost:3000", "http://", "null", "http://a/", "http://a?b", "http://a#b", "http://u@a", "*.example.com", "http://a#"} {
		err := (&awsapi.Options{AllowOrigins: []string{bad}}).Validate()
		require.ErrorIs(t, err, shardlog.ErrInvalid, bad)
		require.ErrorContains(t, err, "Options.AllowOrigins", bad)
	}
}

// With credentials a page needs a key, and CORS is that of AWS.
func TestPagesWithCredentials(t *testing.T) {
	e := noRates(t, &awsapi.Options{Credentials: map[string]string{account: "secret"}})
	status, h := browse{origin: "https://evil.example", host: "kinesis.example.com"}.send(e)
	require.Equal(t, 200, status)
	require.Equal(t, "*", h.Get("Access-Control-Allow-Origin"))
	status, h = browse{origin: "https://evil.example", method: "OPTIONS"}.send(e)
	require.Equal(t, 200, status)
	require.Equal(t, "*", h.Get("Access-Control-Allow-Origin"))
}

// TestPagesReachNoService goes over a socket: whatever a page asks for, no
// service of the endpoint sees it.
func TestPagesReachNoService(t *testing.T) {
	kinesis, err := kinesisapi.Service(awstest.OpenDB(t), nil)
	require.NoError(t, err)
	e, err := awsapi.New(nil, kinesis, toy())
	require.NoError(t, err)
	srv := awstest.Serve(t, e, awstest.Network{})
	operations := map[string][]string{"Words_2026.": {"Define"}, "Kinesis_20131202.": nil}
	for name := range kinesis.Operations {
		operations["Kinesis_20131202."] = append(operations["Kinesis_20131202."], name)
	}
	for prefix, names := range operations {
		for _, name := range append(names, "", "None") {
			r, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL, strings.NewReader("{}"))
			require.NoError(t, err)
			r.Header.Set("Content-Type", awswire.JSON11.Media)
			r.Header.Set("X-Amz-Target", prefix+name)
			r.Header.Set("Origin", "http://127.0.0.1:1")
			awswire.Sign(r, []byte("{}"), awswire.Credentials{AccessKey: account, Secret: "x"}, "eu-west-1", "kinesis", time.Now())
			res, err := srv.Client().Do(r)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, 403, res.StatusCode, name)
		}
	}
}
