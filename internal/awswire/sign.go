package awswire

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Credentials are what a client signs with.
type Credentials struct {
	AccessKey, Secret string
	// Token is that of a session; "" for none.
	Token string
}

// Sign adds the date and a signature to a request of a client, whose body it
// does not read. It signs the host, the content type and all headers that begin
// with x-amz, so the caller sets those first.
func Sign(r *http.Request, body []byte, c Credentials, region, service string, now time.Time) {
	date := now.UTC().Format(signedTime)
	r.Header.Set("X-Amz-Date", date)
	if c.Token != "" {
		r.Header.Set("X-Amz-Security-Token", c.Token)
	}
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	signed := []string{"host"}
	for name := range r.Header {
		if name = strings.ToLower(name); name == "content-type" || strings.HasPrefix(name, "x-amz-") {
			signed = append(signed, name)
		}
	}
	slices.Sort(signed)
	q := canonical{r: r, host: host, length: r.ContentLength, query: r.URL.Query(), signed: strings.Join(signed, ";"), body: hexSum(body)}
	scope := date[:8] + "/" + region + "/" + service + "/" + scopeEnd
	r.Header.Set("Authorization", algorithm+" Credential="+c.AccessKey+"/"+scope+", SignedHeaders="+q.signed+", Signature="+q.compute(newSigningKey(c.Secret, scope), date))
}
