package stsapi_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/awsapi"
	"github.com/shardlog/shardlog/awsapi/awstest"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const (
	account = "111122223333"
	form    = "Action=GetCallerIdentity&Version=2011-06-15"
)

// ask sends a form, signed by a key unless that is empty.
func ask(t *testing.T, srv *awstest.Server, method, query, body string, c awswire.Credentials, service string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, srv.URL+"/"+query, strings.NewReader(body))
	require.NoError(t, err)
	if method == "POST" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	}
	if c.AccessKey != "" {
		awswire.Sign(r, []byte(body), c, "eu-west-1", service, time.Now())
	}
	if change != nil {
		change(r)
	}
	res, err := srv.Client().Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(b)
}

// presign returns the query of a GET that was signed at a time, with the members
// of the form and more, sorted by name as they are signed.
func presign(host, more, secret string, at time.Time) string {
	date := at.UTC().Format("20060102T150405Z")
	scope := date[:8] + "/eu-west-1/sts/aws4_request"
	query := "Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + strings.ReplaceAll(account+"/"+scope, "/", "%2F") +
		"&X-Amz-Date=" + date + more + "&X-Amz-SignedHeaders=host"
	request := sha256.Sum256([]byte("GET\n/\n" + query + "\nhost:" + host + "\n\nhost\n" + hex.EncodeToString(sha256.New().Sum(nil))))
	key := []byte("AWS4" + secret)
	for _, part := range append(strings.Split(scope, "/"), "AWS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"+hex.EncodeToString(request[:])) {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	return "?" + query + "&X-Amz-Signature=" + hex.EncodeToString(key)
}

// The SDK for Go says no life of a request that it signs beforehand; others, such
// as boto3, say an hour, of which AWS gives 15 minutes.
func TestGetCallerIdentitySignedBefore(t *testing.T) {
	srv := awstest.NewServer(t, &awstest.Options{API: &awsapi.Options{Credentials: map[string]string{account: "secret"}}, Network: awstest.Network{InMemory: true}})
	host := strings.TrimPrefix(srv.URL, "http://")
	for _, c := range []struct {
		more, secret string
		age          time.Duration
		status       int
	}{
		{"", "secret", 14 * time.Minute, 200},
		{"", "secret", 16 * time.Minute, 403},
		{"", "other", 0, 403},
		{"&X-Amz-Expires=3600", "secret", 14 * time.Minute, 200},
		{"&X-Amz-Expires=3600", "secret", 16 * time.Minute, 403},
		{"&X-Amz-Expires=60", "secret", 2 * time.Minute, 403},
	} {
		query := presign(host, c.more, c.secret, time.Now().Add(-c.age))
		res, body := ask(t, srv, "GET", query, "", awswire.Credentials{}, "sts", nil)
		require.Equal(t, c.status, res.StatusCode, "%v: %s", c, body)
		// What is added is not verified, and must not be read either.
		for _, more := range []string{"&a=b", "&a=b;c", "&a;b", "&%zz"} {
			res, body = ask(t, srv, "GET", query+more, "", awswire.Credentials{}, "sts", nil)
			require.GreaterOrEqual(t, res.StatusCode, 400, "%s: %s", more, body)
		}
	}
}

type identity struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
	ARN     string   `xml:"GetCallerIdentityResult>Arn"`
	User    string   `xml:"GetCallerIdentityResult>UserId"`
	Account string   `xml:"GetCallerIdentityResult>Account"`
	ID      string   `xml:"ResponseMetadata>RequestId"`
}

func TestGetCallerIdentity(t *testing.T) {
	key := awswire.Credentials{AccessKey: account, Secret: "secret"}
	other := awswire.Credentials{AccessKey: "AKIDEXAMPLE", Secret: "x"}
	for name, opts := range map[string]*awsapi.Options{"without credentials": {}, "with credentials": {Credentials: map[string]string{account: "secret", "AKIDEXAMPLE": "x"}}} {
		t.Run(name, func(t *testing.T) {
			srv := awstest.NewServer(t, &awstest.Options{API: opts, Network: awstest.Network{InMemory: true}})
			for _, c := range []struct {
				method, query, body string
				key                 awswire.Credentials
				account             string
			}{
				{"POST", "", form, key, account},
				{"POST", "", "Version=2011-06-15&Action=GetCallerIdentity&Other=x", key, account},
				{"GET", "?" + form, "", key, account},
				{"POST", "?" + form, "", key, account},
				{"POST", "", form, other, "000000000000"},
			} {
				res, body := ask(t, srv, c.method, c.query, c.body, c.key, "sts", nil)
				require.Equal(t, 200, res.StatusCode, body)
				require.Equal(t, "text/xml", res.Header.Get("Content-Type"))
				var got identity
				require.NoError(t, xml.Unmarshal([]byte(body), &got), body)
				require.Equal(t, "arn:aws:iam::"+c.account+":root "+c.account+" "+c.account, got.ARN+" "+got.User+" "+got.Account)
				require.Equal(t, res.Header.Get("x-amzn-RequestId"), got.ID)
				require.NotEmpty(t, got.ID)
			}
		})
	}
}

func TestWhatIsRefused(t *testing.T) {
	srv := awstest.NewServer(t, &awstest.Options{API: &awsapi.Options{Credentials: map[string]string{account: "secret"}}, Network: awstest.Network{InMemory: true}})
	key := awswire.Credentials{AccessKey: account, Secret: "secret"}
	for name, c := range map[string]struct {
		method, query, body string
		key                 awswire.Credentials
		service             string
		change              func(*http.Request)
		status              int
		code, message       string
	}{
		"another operation":    {"POST", "", "Action=AssumeRole&Version=2011-06-15", key, "sts", nil, 400, "InvalidAction", "Could not find operation AssumeRole for version 2011-06-15"},
		"another version":      {"POST", "", "Action=GetCallerIdentity&Version=2010-01-01", key, "sts", nil, 400, "InvalidAction", "for version 2010-01-01"},
		"no version":           {"POST", "", "Action=GetCallerIdentity", key, "sts", nil, 400, "InvalidAction", "NO_VERSION_SPECIFIED"},
		"no action":            {"POST", "", "Version=2011-06-15", key, "sts", nil, 400, "MissingAction", ""},
		"an action in lower":   {"POST", "", "Action=getcalleridentity&Version=2011-06-15", key, "sts", nil, 400, "InvalidAction", ""},
		"two actions":          {"POST", "", form + "&Action=AssumeRole", key, "sts", nil, 400, "MalformedQueryString", ""},
		"two places":           {"POST", "?Action=GetCallerIdentity", form, key, "sts", nil, 400, "MalformedQueryString", ""},
		"markup":               {"POST", "", "Action=%3Cb%3E&Version=2011-06-15", key, "sts", nil, 400, "InvalidAction", "operation <b> for"},
		"not signed":           {"POST", "", form, awswire.Credentials{}, "sts", nil, 403, "MissingAuthenticationToken", "Request is missing Authentication Token"},
		"not signed, in a GET": {"GET", "?" + form, "", awswire.Credentials{}, "sts", nil, 403, "MissingAuthenticationToken", ""},
		"an unknown key":       {"POST", "", form, awswire.Credentials{AccessKey: "AKIDOTHER", Secret: "x"}, "sts", nil, 403, "InvalidClientTokenId", "The security token included in the request is invalid."},
		"a wrong secret":       {"POST", "", form, awswire.Credentials{AccessKey: account, Secret: "x"}, "sts", nil, 403, "SignatureDoesNotMatch", ""},
		"a token":              {"POST", "", form, awswire.Credentials{AccessKey: account, Secret: "secret", Token: "x"}, "sts", nil, 403, "InvalidClientTokenId", ""},
		"another body":         {"POST", "", form, key, "sts", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(form[:len(form)-1] + "6")) }, 400, "InvalidAction", ""},
		"another query":        {"GET", "?" + form, "", key, "sts", func(r *http.Request) { r.URL.RawQuery += "&x=y" }, 403, "SignatureDoesNotMatch", ""},
	} {
		t.Run(name, func(t *testing.T) {
			res, body := ask(t, srv, c.method, c.query, c.body, c.key, c.service, c.change)
			require.Equal(t, c.status, res.StatusCode, body)
			var got struct {
				XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
				Error   struct{ Type, Code, Message string }
				ID      string `xml:"RequestId"`
			}
			require.NoError(t, xml.Unmarshal([]byte(body), &got), body)
			require.Equal(t, "Sender", got.Error.Type)
			require.Equal(t, c.code, got.Error.Code)
			require.Contains(t, got.Error.Message, c.message)
			require.Equal(t, res.Header.Get("x-amzn-RequestId"), got.ID)
		})
	}
	// A signature for Kinesis does not ask STS, and no other way around.
	res, body := ask(t, srv, "POST", "", form, key, "kinesis", nil)
	require.Equal(t, 403, res.StatusCode, body)
	require.Contains(t, body, "Unable to determine service/operation name")
	res, body = ask(t, srv, "POST", "", "{}", key, "sts", func(r *http.Request) {
		r.Header.Set("X-Amz-Target", "Kinesis_20131202.ListStreams")
		r.Header.Set("Content-Type", awswire.JSON11.Media)
	})
	require.Equal(t, 400, res.StatusCode)
	require.Contains(t, body, "Credential should be scoped to correct service: 'kinesis'.")
}
