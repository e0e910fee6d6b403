package awsapi_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/awsapi"
	"github.com/shardlog/shardlog/internal/awswire"
)

// echo is a service whose answers are as long as the request says.
func echo() *awsapi.Service {
	size := awswire.Optional("Size", awswire.Integer(0, 1<<20))
	input := awswire.Structure(size, awswire.Optional("Fill", awswire.Text(0, 1<<20, "")))
	text := func(c *awswire.Call) string { return strings.Repeat("x", int(c.In.Int("Size"))) }
	say := &awswire.Operation{Name: "Say", Input: input, Run: func(c *awswire.Call) error {
		c.Out.Open()
		c.Out.TextField("Text", text(c))
		c.Out.Close()
		return nil
	}}
	fail := &awswire.Operation{Name: "Fail", Input: input, Run: func(c *awswire.Call) error { return awswire.Errorf("Failed", "%s", text(c)) }}
	return &awsapi.Service{
		Name: "echo", TargetPrefix: "Echo.",
		Protocols:  []*awswire.Protocol{awswire.JSON11, awswire.CBOR11},
		Operations: map[string]*awswire.Operation{"Say": say, "Fail": fail},
		Throttled:  func(c *awswire.Call) error { return awswire.Errorf("Throttled", "") },
	}
}

// exchange is one request, and whether its answer waits.
type exchange struct {
	agent, op, media string
	fill, size       int // bytes of the request and of the answer
	proto            int
	presigned        bool
	waits            bool
}

// The body of a request, of either encoding.
func (x exchange) body() []byte {
	fill := strings.Repeat("y", x.fill)
	enc := awswire.Encoder{Format: awswire.JSON11.Format}
	if x.media == awswire.CBOR11.Media {
		enc.Format = awswire.CBOR11.Format
	}
	enc.Open()
	enc.TextField("Fill", fill)
	enc.IntField("Size", int64(x.size))
	enc.Close()
	return enc.Buf
}

func (x exchange) request() *http.Request {
	target := "/"
	const credential = "AKID/20260102/us-east-1/echo/aws4_request"
	if x.presigned {
		target = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + credential + "&X-Amz-Date=20260102T030405Z&X-Amz-SignedHeaders=host&X-Amz-Signature=00"
	}
	r := httptest.NewRequest(http.MethodPost, target, bytes.NewReader(x.body()))
	r.ProtoMajor = x.proto
	r.Header.Set("User-Agent", x.agent)
	r.Header.Set("Content-Type", x.media)
	r.Header.Set("X-Amz-Target", "Echo."+x.op)
	if !x.presigned {
		r.Header.Set("X-Amz-Date", "20260102T030405Z")
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+credential+", SignedHeaders=host;x-amz-date;x-amz-target, Signature=00")
	}
	return r
}

// Answers that would be too early for the AWS SDK for Go wait, those of every
// service, and no others do. The clock shows it, which is that of a bubble.
func TestAnswersThatWait(t *testing.T) {
	const sdk = "aws-sdk-go-v2/1.47.7 ua/2.1 os/linux lang/go#1.26.8 api/echo#1.0.0"
	json, cbor := awswire.JSON11.Media, awswire.CBOR11.Media
	tests := map[string]exchange{
		"large both ways":                 {sdk, "Say", json, 5000, 5000, 1, false, true},
		"with CBOR":                       {sdk, "Say", cbor, 5000, 5000, 1, false, true},
		"signed in the query":             {sdk, "Say", json, 5000, 5000, 1, true, true},
		"an error":                        {sdk, "Fail", json, 5000, 5000, 1, false, true},
		"within another name":             {"APN/1.0 HashiCorp/1.0 Terraform/1.9 " + sdk, "Say", json, 5000, 5000, 1, false, true},
		"just above one segment":          {sdk, "Say", json, 5000, 769, 1, false, true},
		"an answer of one segment":        {sdk, "Say", json, 5000, 700, 1, false, false},
		"just above the buffer":           {sdk, "Say", json, 4096, 5000, 1, false, true},
		"a request that fits into it":     {sdk, "Say", json, 2000, 5000, 1, false, false},
		"over HTTP/2":                     {sdk, "Say", json, 5000, 5000, 2, false, false},
		"another SDK":                     {"aws-sdk-java/2.57.8 md/io#async", "Say", json, 5000, 5000, 1, false, false},
		"the first SDK for Go":            {"aws-sdk-go/1.55.8 (go1.26.8; linux; amd64)", "Say", json, 5000, 5000, 1, false, false},
		"no name":                         {"", "Say", json, 5000, 5000, 1, false, false},
		"an operation that is not there":  {sdk, "Shout", json, 5000, 0, 1, false, false},
		"a small request and its refusal": {sdk, "Fail", json, 10, 100, 1, false, false},
	}
	for name, x := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, err := awsapi.New(nil, echo())
				require.NoError(t, err)
				w := httptest.NewRecorder()
				begin := time.Now()
				e.ServeHTTP(w, x.request())
				assert.GreaterOrEqual(t, w.Body.Len(), x.size)
				assert.Equal(t, x.waits, time.Since(begin) > 0)
				assert.Equal(t, e.FreeMemory(), freshMemory(t), "what was waiting holds no memory")
			})
		})
	}
}

// An answer that waits gives the memory of its request to others.
func TestWaitingAnswersHoldNoBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := awsapi.New(nil, echo())
		require.NoError(t, err)
		x := exchange{"aws-sdk-go-v2/1.47.7", "Say", awswire.JSON11.Media, 100_000, 5000, 1, false, true}
		w := httptest.NewRecorder()
		done := make(chan struct{})
		go func() { e.ServeHTTP(w, x.request()); close(done) }()
		synctest.Wait() // it sleeps
		select {
		case <-done:
			t.Error("the answer did not wait")
		default:
		}
		assert.Equal(t, freshMemory(t), e.FreeMemory())
		<-done
		assert.NotEmpty(t, w.Body.Bytes())
	})
}

func freshMemory(t *testing.T) awsapi.Memory {
	e, err := awsapi.New(nil, echo())
	require.NoError(t, err)
	return e.FreeMemory()
}
