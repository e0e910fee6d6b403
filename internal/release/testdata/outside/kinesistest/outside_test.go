// Package outside is a test outside the tree that uses the endpoint.
package outside

import (
	"net/http"
	"testing"

	"github.com/shardlog/shardlog/kinesistest"
)

func TestEndpoint(t *testing.T) {
	srv := kinesistest.NewServer(t, &kinesistest.Options{Streams: map[string]int{"orders": 4}})
	res, err := srv.Client().Get(srv.URL + "/_shardlog/ready")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
}
