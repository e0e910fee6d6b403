//go:build kcl

package dynamodbcheckpoint_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/dynamodbcheckpoint"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/producer"
	"github.com/shardlog/shardlog/stream"
)

// TestKCL runs the real KCL over the endpoint, and in turn with a consumer group on
// one table. SHARDLOG is the path of the command, SHARDLOG_KCL the classpath of
// sdktest/kcl, and SHARDLOG_MOTO the path of a python that has moto, the
// DynamoDB: dynalite refuses the index that KCL 3 adds to its table.
func TestKCL(t *testing.T) {
	dynamoDB := moto(t)
	t.Run("reshards", func(t *testing.T) { t.Parallel(); reshards(t, dynamoDB) })
	t.Run("takes over", func(t *testing.T) { t.Parallel(); takesOver(t, dynamoDB) })
}

// patience is how much longer the test may wait for a state. It leaves time to
// end the processes before go test gives up.
func patience(t *testing.T) time.Duration {
	const most = 90 * time.Second
	end, ok := t.Deadline()
	if !ok {
		return most
	}
	return min(most, time.Until(end)-20*time.Second)
}

// motoScript takes any port and prints the URL, and ends with its standard
// input, so with the test, however that ends.
const motoScript = `import sys
from moto.server import ThreadedMotoServer
s = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
s.start()
print("http://%s:%d" % s.get_host_and_port(), flush=True)
sys.stdin.read()`

// moto starts a DynamoDB and returns its URL.
func moto(t *testing.T) string {
	urls := make(chan string, 1)
	_, _, exited := command(t, func(line string) {
		if strings.HasPrefix(line, "http://") {
			urls <- line
		}
	}, environment(t, "SHARDLOG_MOTO"), "-c", motoScript)
	select {
	case url := <-urls:
		return url
	case <-exited:
		t.Fatal("moto has ended")
	case <-time.After(patience(t)):
		t.Fatal("moto does not listen")
	}
	return ""
}

func environment(t *testing.T, name string) string {
	v := os.Getenv(name)
	require.NotEmpty(t, v, "%s has to be set", name)
	return v
}

// waitFor waits until ok returns true; changed has a token after each change of
// what it looks at, and what describes it.
func waitFor(t *testing.T, changed <-chan struct{}, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience(t))
	for !ok() {
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// command starts a program whose lines on standard output are given to line, and
// kills it when the test ends. Exited is closed when it has ended.
func command(t *testing.T, line func(string), name string, args ...string) (cmd *exec.Cmd, stdin io.WriteCloser, exited chan struct{}) {
	cmd = exec.Command(name, args...)
	log, err := os.CreateTemp(t.TempDir(), filepath.Base(name))
	require.NoError(t, err)
	cmd.Stderr = log
	stdin, err = cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	exited = make(chan struct{})
	go func() {
		defer close(exited)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			line(s.Text())
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		_ = log.Close()
		if t.Failed() {
			data, _ := os.ReadFile(log.Name())
			t.Logf("standard error of %s ends with:\n%s", name, data[max(0, len(data)-20_000):])
		}
	})
	return cmd, stdin, exited
}

// server is a shardlog serve.
type endpoint struct {
	url    string
	cmd    *exec.Cmd
	exited chan struct{}
}

func serve(t *testing.T, args ...string) *endpoint {
	urls := make(chan string, 1)
	e := &endpoint{}
	e.cmd, _, e.exited = command(t, func(line string) {
		if url, ok := strings.CutPrefix(line, "listening on "); ok {
			urls <- url
		}
	}, environment(t, "SHARDLOG"), append([]string{"serve", "-addr", "127.0.0.1:0"}, args...)...)
	select {
	case e.url = <-urls:
	case <-e.exited:
		t.Fatal("shardlog serve has ended")
	case <-time.After(patience(t)):
		t.Fatal("shardlog serve does not listen")
	}
	return e
}

func (e *endpoint) stop(t *testing.T) {
	require.NoError(t, e.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-e.exited:
	case <-time.After(patience(t)):
		t.Fatal("shardlog serve does not end")
	}
}

type obj = map[string]any

// call sends a request to Kinesis.
func (e *endpoint) call(op string, in obj) (obj, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "Kinesis_20131202."+op)
	req.Header.Set("X-Amz-Date", "20260101T000000Z")
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature=0")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", op, res.Status, data)
	}
	out := obj{}
	if len(data) > 0 {
		err = json.Unmarshal(data, &out)
	}
	return out, err
}

func (e *endpoint) must(t *testing.T, op string, in obj) obj {
	t.Helper()
	out, err := e.call(op, in)
	require.NoError(t, err)
	return out
}

// delivery is a record as a consumer got it. Data is the key, a slash, and a
// number that rises with each record of the key.
type delivery struct{ shard, key, data string }

// kcl is a running KCL application, see sdktest/kcl.
type kcl struct {
	stdin   io.WriteCloser
	exited  chan struct{}
	changed chan struct{}

	mu      sync.Mutex
	records []delivery
	calls   []string // all other lines
}

func startKCL(t *testing.T, app string, e *endpoint, dynamoDB string, most int) *kcl {
	k := &kcl{changed: make(chan struct{}, 1)}
	_, k.stdin, k.exited = command(t, k.line, "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-cp", environment(t, "SHARDLOG_KCL"), "shardlog.App",
		"orders", app, e.url, dynamoDB, fmt.Sprint(most))
	return k
}

func (k *kcl) line(s string) {
	k.mu.Lock()
	if f := strings.Fields(s); len(f) == 6 && f[0] == "record" {
		k.records = append(k.records, delivery{f[1], f[2], f[3]})
	} else {
		k.calls = append(k.calls, s)
	}
	k.mu.Unlock()
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

func (k *kcl) delivered() []delivery {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.records)
}

// said reports whether there is a line that begins so.
func (k *kcl) said(prefix string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.calls, func(s string) bool { return strings.HasPrefix(s+" ", prefix+" ") })
}

func (k *kcl) wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	waitFor(t, k.changed, what, func() bool {
		select {
		case <-k.exited:
			t.Fatalf("%s: KCL has ended; it said %q", what, k.calls)
		default:
		}
		return ok()
	})
}

func (k *kcl) saying(t *testing.T, prefix string) {
	t.Helper()
	k.wait(t, prefix, func() bool { return k.said(prefix) })
}

// reading waits for a record of a shard.
func (k *kcl) reading(t *testing.T, shard string) {
	t.Helper()
	k.wait(t, "a record of "+shard, func() bool {
		return slices.ContainsFunc(k.delivered(), func(d delivery) bool { return d.shard == shard })
	})
}

// stop ends the application in an orderly way.
func (k *kcl) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, k.stdin.Close())
	select {
	case <-k.exited:
	case <-time.After(patience(t)):
		t.Fatal("KCL does not end")
	}
	require.True(t, k.said("stopped"), "%q", k.calls)
	require.False(t, k.said("stopped by force"))
	require.False(t, k.said("failed"), "%q", k.calls)
}

// inOrder fails if a record of a key was delivered first after a later one.
func inOrder(t *testing.T, all []delivery) {
	t.Helper()
	last := map[string]int{}
	seen := map[string]bool{}
	for _, d := range all {
		if seen[d.data] {
			continue
		}
		seen[d.data] = true
		var n int
		_, err := fmt.Sscanf(strings.TrimPrefix(d.data, d.key+"/"), "%d", &n)
		require.NoError(t, err)
		require.Greater(t, n, last[d.key], "order of %s", d.key)
		last[d.key] = n
	}
}

func data(all []delivery) (out []string) {
	for _, d := range all {
		out = append(out, d.data)
	}
	slices.Sort(out)
	return out
}

// source makes records, keys in turn.
type source struct{ n int }

func (s *source) next() (key, data string) {
	key = fmt.Sprint("key-", s.n%20)
	s.n++
	return key, fmt.Sprintf("%s/%d", key, s.n)
}

// leases are the leaseKeys of KCL's table, by entityType.
func leases(t *testing.T, c *dynamodb.Client, table string) map[string][]string {
	out := map[string][]string{}
	pages := dynamodb.NewScanPaginator(c, &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		for _, i := range page.Items {
			e, _ := i["entityType"].(*types.AttributeValueMemberS)
			require.NotNil(t, e, "%v", i)
			out[e.Value] = append(out[e.Value], i["leaseKey"].(*types.AttributeValueMemberS).Value)
		}
	}
	return out
}

const (
	shard0 = "shardId-000000000000"
	shard1 = "shardId-000000000001"
	shard2 = "shardId-000000000002"
	shard3 = "shardId-000000000003"
	shard4 = "shardId-000000000004"
	middle = "85070591730234615865843651857942052863" // of the first of two shards
)

// reshards: KCL reads by fan-out through a split and a merge while records are
// put: all of them, in order for each key, and it is called at the end of each
// shard. It begins where a group has begun that had read nothing, after the
// records of before.
func reshards(t *testing.T, dynamoDB string) {
	const app = "reshards"
	dir := t.TempDir()
	db, err := stream.Open(dir, nil)
	require.NoError(t, err)
	orders, err := db.Ensure(t.Context(), "orders", stream.Config{Shards: 2})
	require.NoError(t, err)
	for i := range 20 {
		_, err := orders.Put(t.Context(), shardlog.Record{PartitionKey: fmt.Sprint("key-", i), Data: []byte("before")})
		require.NoError(t, err)
	}
	store := open(t, newClient(dynamoDB, nil), dynamodbcheckpoint.Options{Table: app, Group: app, Stream: "orders"})
	begin(t, orders, store, app)
	require.NoError(t, db.Close())

	e := serve(t, "-dir", dir, "-durability", "never")
	var put []string
	from := &source{}
	one := func() error {
		key, data := from.next()
		if _, err := e.call("PutRecord", obj{"StreamName": "orders", "PartitionKey": key, "Data": []byte(data)}); err != nil {
			return err
		}
		put = append(put, data)
		return nil
	}
	for range 100 {
		require.NoError(t, one())
	}
	k := startKCL(t, app, e, dynamoDB, 0)
	k.wait(t, "the first records", func() bool { return len(k.delivered()) >= 100 })
	arn := e.must(t, "DescribeStreamSummary", obj{"StreamName": "orders"})["StreamDescriptionSummary"].(obj)["StreamARN"]
	require.Len(t, e.must(t, "ListStreamConsumers", obj{"StreamARN": arn})["Consumers"], 1, "KCL reads by fan-out")

	stop, written := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				written <- nil
				return
			case <-time.After(3 * time.Millisecond): // the rate of a writer, nobody waits for it
			}
			if err := one(); err != nil {
				written <- err
				return
			}
		}
	}()
	k.wait(t, "records that were put since", func() bool { return len(k.delivered()) >= 200 })
	e.must(t, "SplitShard", obj{"StreamName": "orders", "ShardToSplit": shard0, "NewStartingHashKey": middle})
	k.saying(t, "ended "+shard0)
	k.reading(t, shard2)
	k.reading(t, shard3)
	e.must(t, "MergeShards", obj{"StreamName": "orders", "ShardToMerge": shard2, "AdjacentShardToMerge": shard3})
	k.saying(t, "ended "+shard2)
	k.saying(t, "ended "+shard3)
	k.reading(t, shard4)
	close(stop)
	require.NoError(t, <-written)
	k.wait(t, "all records", func() bool {
		return len(slices.Compact(data(k.delivered()))) >= len(put)
	})
	k.stop(t)
	slices.Sort(put)
	require.Equal(t, put, slices.Compact(data(k.delivered())))
	inOrder(t, k.delivered())
	for _, id := range []string{shard1, shard4} {
		require.False(t, k.said("ended "+id), "an open shard")
	}
	t.Logf("%d records, %d deliveries", len(put), len(k.delivered()))
}

// takesOver: a consumer group, KCL, and the group again work on one stream, each from where
// the other has stopped: inside of aggregates, and with shards that the other
// has ended. Every stop is in order, so no record is delivered twice.
func takesOver(t *testing.T, dynamoDB string) {
	const app = "takes-over"
	dir, client := t.TempDir(), newClient(dynamoDB, nil)
	store := func() *dynamodbcheckpoint.Store {
		return open(t, client, dynamodbcheckpoint.Options{Table: app, Group: app, Stream: "orders"})
	}
	from, all := &source{}, []delivery(nil)
	var put []string

	db, err := stream.Open(dir, nil)
	require.NoError(t, err)
	orders, err := db.Ensure(t.Context(), "orders", stream.Config{Shards: 1})
	require.NoError(t, err)
	aggregates := func(n int) {
		p, err := producer.New(orders, &producer.Options{Aggregation: producer.Aggregation{Enabled: true, MaxCount: 7}, Linger: time.Hour})
		require.NoError(t, err)
		for range n {
			key, data := from.next()
			put = append(put, data)
			require.NoError(t, p.PutAsync(t.Context(), shardlog.Record{PartitionKey: key, Data: []byte(data)}, nil))
		}
		require.NoError(t, p.Shutdown(t.Context()))
	}
	aggregates(150)
	_, err = orders.Split(t.Context(), shard0, shardlog.NewHashKey(1<<63, 0))
	require.NoError(t, err)
	aggregates(150)
	all = append(all, group(t, orders, store(), app, 200)...)
	require.Len(t, all, 200)
	require.NoError(t, db.Close())
	// A worker that was killed has left its row. Where KCL sees it, it is a shard
	// that nobody works on.
	_, err = store().Create(t.Context(), checkpoint.Lease{
		Key: checkpoint.Key{Group: app, Stream: "orders/workers", Shard: "worker/killed"}, Owner: "token", Epoch: 1, Beat: 7,
	})
	require.NoError(t, err)
	require.Equal(t, []string{shard0, shard1, shard2}, leases(t, client, app)["LEASE"])

	// What is left of the two children, 150, and 20 of the shard that they
	// become.
	e := serve(t, "-dir", dir)
	single := func(n int) {
		for range n {
			key, data := from.next()
			put = append(put, data)
			e.must(t, "PutRecord", obj{"StreamName": "orders", "PartitionKey": key, "Data": []byte(data)})
		}
	}
	single(50)
	e.must(t, "MergeShards", obj{"StreamName": "orders", "ShardToMerge": shard1, "AdjacentShardToMerge": shard2})
	single(50)
	k := startKCL(t, app, e, dynamoDB, 170)
	k.saying(t, "limit "+shard3)
	k.stop(t)
	e.stop(t)
	require.Len(t, k.delivered(), 170)
	for _, line := range k.calls {
		if id, ok := strings.CutPrefix(line, "initialized "); ok {
			require.Contains(t, []string{shard1, shard2, shard3}, strings.Fields(id)[0])
		}
	}
	require.False(t, k.said("ended "+shard0), "Go has ended it")
	require.True(t, k.said("ended "+shard1))
	require.True(t, k.said("ended "+shard2))
	all = append(all, k.delivered()...)
	rows := leases(t, client, app)
	require.Subset(t, []string{shard0, shard1, shard2, shard3}, rows["LEASE"])
	require.Contains(t, rows["LEASE"], shard3)
	require.NotEmpty(t, rows["WORKER_METRIC_STATS"], "KCL keeps rows of other types in the table")

	db, err = stream.Open(dir, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	orders, err = db.Stream(t.Context(), "orders")
	require.NoError(t, err)
	all = append(all, group(t, orders, store(), app, len(put)-len(all))...)
	slices.Sort(put)
	require.Equal(t, put, data(all))
	inOrder(t, all)
}

// begin starts a group at the end of a stream, and stops it when the places are
// stored.
func begin(t *testing.T, s *stream.Stream, store *dynamodbcheckpoint.Store, name string) {
	t.Helper()
	c, err := consumer.New(s, &consumer.Options{Group: name, Store: store, Start: shardlog.Latest()})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		ended <- c.Run(t.Context(), consumer.HandlerFunc(func(context.Context, *consumer.Batch) error {
			return errors.New("a record of before")
		}))
	}()
	for deadline := time.Now().Add(patience(t)); ; time.Sleep(20 * time.Millisecond) {
		rows, err := store.List(t.Context(), name, s.Name())
		require.NoError(t, err)
		if len(rows) == 2 {
			break
		}
		require.True(t, time.Now().Before(deadline), "the group has not begun")
	}
	require.NoError(t, c.Shutdown(t.Context()))
	require.NoError(t, <-ended)
}

// group is a consumer group that delivers most records and stops.
func group(t *testing.T, s *stream.Stream, store *dynamodbcheckpoint.Store, name string, most int) []delivery {
	t.Helper()
	c, err := consumer.New(s, &consumer.Options{Group: name, Store: store, MaxBatchRecords: 5})
	require.NoError(t, err)
	var mu sync.Mutex
	var got []delivery
	full := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- c.Run(t.Context(), consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
			for i, r := range b.Records {
				mu.Lock()
				if len(got) == most {
					mu.Unlock()
					<-ctx.Done()
					return &consumer.PartialError{Index: i, Err: context.Cause(ctx)}
				}
				got = append(got, delivery{b.ShardID, r.PartitionKey, string(r.Data)})
				if len(got) == most {
					close(full)
				}
				mu.Unlock()
			}
			return nil
		}))
	}()
	select {
	case <-full:
	case err := <-ended:
		t.Fatalf("the group has ended: %v", err)
	case <-time.After(patience(t)):
		t.Fatalf("the group waits for %d records, and has %d", most, len(got))
	}
	// The handler of another shard may wait for the end of its context, which
	// Shutdown brings about only when its own has ended.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := c.Shutdown(ctx); err != nil {
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	require.NoError(t, <-ended)
	return got
}
