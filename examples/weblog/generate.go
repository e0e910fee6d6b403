package main

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"time"
)

// generator is an access log that is made up as it is read: a few clients and
// paths get most of the requests (Zipf's law), the traffic follows the hours
// of the day, and statuses, sizes, referers and agents are mixed as on a small
// public site. The same seed gives the same lines, and a longer log begins with
// the lines of a shorter one.
type generator struct {
	rnd            *rand.Rand
	clients, paths *rand.Zipf
	salt           uint64
	now            time.Time
	left           int64
	buf            []byte // of the current line, what was not read yet
}

func newGenerator(seed uint64, records int64) *generator {
	rnd := rand.New(rand.NewPCG(seed, 0x77656c6f67))
	return &generator{
		rnd:     rnd,
		clients: rand.NewZipf(rnd, 1.15, 8, 20_000),
		paths:   rand.NewZipf(rnd, 1.25, 4, 5_000),
		salt:    rnd.Uint64(),
		now:     time.Date(2026, time.January, 5, 0, 0, 0, 0, time.UTC),
		left:    records,
	}
}

// Read implements io.Reader.
func (g *generator) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(g.buf) == 0 {
			if g.left == 0 {
				break
			}
			g.left--
			e := g.entry()
			g.buf = append(g.buf, e.String()...)
			g.buf = append(g.buf, '\n')
		}
		k := copy(p[n:], g.buf)
		g.buf = g.buf[k:]
		n += k
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

var agents = []string{
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
	"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
	"Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
	`FeedReader/3.1 (\"daily news\"; 12 subscribers)`,
	"curl/8.15.0",
	"-",
}

var referers = []string{"-", "-", "https://www.example.com/", "https://www.google.com/", "https://news.example.org/item?id=4711", "-"}

// entry makes up the next request.
func (g *generator) entry() entry {
	hour := float64(g.now.Hour()) + float64(g.now.Minute())/60
	perSecond := 1.2 - math.Cos((hour-4)/24*2*math.Pi) // quiet at 4 in the morning
	g.now = g.now.Add(time.Duration(g.rnd.ExpFloat64() / perSecond * float64(time.Second)))

	client, page := g.clients.Uint64(), g.paths.Uint64()
	e := entry{
		Client: g.address(client), Ident: "-", User: "-", Time: g.now.Format("02/Jan/2006:15:04:05 -0700"),
		Referer: referers[g.rnd.IntN(len(referers))],
		// A client keeps its agent, and busy clients are often robots.
		Agent: agents[mix(client^g.salt)%uint64(len(agents))],
	}
	if client%50 == 7 {
		e.User = "member" + fmt.Sprint(client)
	}
	method := "GET"
	switch g.rnd.IntN(40) {
	case 0:
		method = "HEAD"
	case 1:
		method = "POST"
	}
	e.Request = method + " " + pathOf(page) + " HTTP/1.1"
	size := int64(math.Exp(g.rnd.NormFloat64()*1.4 + 8.5))
	e.Status, e.Size = g.outcome(method, page, size)
	if e.Status == 408 {
		e.Request, e.Referer, e.Agent = "-", "-", "-"
	}
	return e
}

// outcome draws a status and what was sent with it.
func (g *generator) outcome(method string, page uint64, size int64) (status int, sent int64) {
	p := g.rnd.Float64()
	switch {
	case page%97 == 50:
		return 404, 312
	case page%61 == 33:
		return 301, 178
	case p < 0.001:
		return 408, 0
	case p < 0.003:
		return 500, 530
	case p < 0.005:
		return 403, 199
	case p < 0.02:
		return 404, 312
	case p < 0.025:
		return 206, size / 4
	case p < 0.09:
		return 304, 0
	case method == "HEAD":
		return 200, 0
	}
	return 200, size
}

// address is the n-th client's; one in eight has an IPv6 address.
func (g *generator) address(n uint64) string {
	h := mix(n + g.salt)
	if h%8 == 0 {
		return fmt.Sprintf("2001:db8:%x:%x::%x", h>>16&0xffff, h>>32&0xffff, h>>48|1)
	}
	return fmt.Sprintf("%d.%d.%d.%d", 1+h>>8%223, h>>16&0xff, h>>24&0xff, 1+h>>32%254)
}

// pathOf is the n-th path, in the order of how often they are asked for.
func pathOf(n uint64) string {
	switch {
	case n == 0:
		return "/"
	case n == 1:
		return "/favicon.ico"
	case n%5 == 2:
		return fmt.Sprintf("/images/%d.png", n)
	case n%5 == 3:
		return fmt.Sprintf("/search?q=word%d&page=%d", n, 1+n%3)
	case n%5 == 4:
		return fmt.Sprintf("/static/site-%d.css", n)
	}
	return fmt.Sprintf("/articles/%d/", n)
}

// mix spreads the bits of n (the finalizer of SplitMix64).
func mix(n uint64) uint64 {
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
