package dynamodbcheckpoint_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/checkpointtest"
	"github.com/shardlog/shardlog/checkpoint/dynamodbcheckpoint"
)

// The conformance test needs a server: SHARDLOG_DYNAMODB is the URL of one, or
// the path of the command dynalite, which is started for the test. Without it
// the test is not part of the suite.

// dynalite is a script for node. It takes any port and prints it, and ends with
// its standard input, so with the test, however that ends. It closes no
// connection that is idle: on a busy machine that would meet a request.
const dynalite = `const s = require(process.argv[1])({createTableMs: 0})
s.keepAliveTimeout = 0
s.listen(0, "127.0.0.1", () => console.log(s.address().port))
process.stdin.resume().on("end", () => process.exit())`

var server = sync.OnceValues(func() (string, error) {
	program, err := filepath.EvalSymlinks(os.Getenv("SHARDLOG_DYNAMODB"))
	if err != nil {
		return "", err
	}
	cmd := exec.Command("node", "-e", dynalite, filepath.Dir(program))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	stopServer = func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("dynalite does not listen: %w", err)
	}
	return "http://127.0.0.1:" + strings.TrimSpace(port), nil
})

var stopServer = func() {}

func TestMain(m *testing.M) {
	code := m.Run()
	stopServer()
	os.Exit(code)
}

func newClient(url string, h aws.HTTPClient) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region: "us-east-1", BaseEndpoint: &url, HTTPClient: h,
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
}

var tables atomic.Int64

func TestWithAServer(t *testing.T) {
	url := os.Getenv("SHARDLOG_DYNAMODB")
	if url == "" {
		return
	}
	if !strings.HasPrefix(url, "http") {
		var err error
		url, err = server()
		require.NoError(t, err)
	}
	openWith := func(t *testing.T, c *dynamodb.Client, o dynamodbcheckpoint.Options) *dynamodbcheckpoint.Store {
		s, err := dynamodbcheckpoint.Open(t.Context(), c, &o)
		require.NoError(t, err)
		return s
	}
	table := func() string { return fmt.Sprintf("test-%d-%d", os.Getpid(), tables.Add(1)) }
	openNew := func(t *testing.T, o dynamodbcheckpoint.Options) *dynamodbcheckpoint.Store {
		o.Table = table()
		return openWith(t, newClient(url, nil), o)
	}
	checkpointtest.RunShared(t, func(t *testing.T) (a, b checkpoint.Store) {
		o := dynamodbcheckpoint.Options{Table: table()}
		return openWith(t, newClient(url, nil), o), openWith(t, newClient(url, nil), o)
	})
	checkpointtest.RunMany(t, func(t *testing.T) checkpoint.Store { return openNew(t, dynamodbcheckpoint.Options{}) })
	t.Run("faults", func(t *testing.T) {
		checkpointtest.RunFaults(t, func(t *testing.T) checkpointtest.Faulty {
			return faulty(t, url, http.DefaultClient, dynamodbcheckpoint.Options{Table: table()})
		})
	})
	t.Run("conforms", func(t *testing.T) {
		checkpointtest.Run(t, func(t *testing.T) checkpoint.Store { return openNew(t, dynamodbcheckpoint.Options{}) })
	})
	t.Run("conforms with the names of KCL", func(t *testing.T) {
		checkpointtest.Run(t, func(t *testing.T) checkpoint.Store {
			return openNew(t, dynamodbcheckpoint.Options{Group: "group", Stream: "stream"})
		})
	})
	t.Run("has nothing else in KCL's table", func(t *testing.T) { kclsTable(t, newClient(url, nil), table()) })
	t.Run("moves the rows of an earlier version", func(t *testing.T) { earlierVersion(t, newClient(url, nil), table()) })
	t.Run("leaves the attributes of others", func(t *testing.T) {
		ctx := t.Context()
		o := dynamodbcheckpoint.Options{Group: "g", Stream: "s", Table: fmt.Sprintf("test-%d-others", os.Getpid())}
		c := newClient(url, nil)
		s, err := dynamodbcheckpoint.Open(ctx, c, &o)
		require.NoError(t, err)
		_, err = dynamodbcheckpoint.Open(ctx, c, &o)
		require.NoError(t, err, "the table is there")
		l, err := s.Create(ctx, checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: "x"}, Owner: "a"})
		require.NoError(t, err)
		key := map[string]types.AttributeValue{"leaseKey": &types.AttributeValueMemberS{Value: "x"}}
		_, err = c.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: &o.Table, Key: key, UpdateExpression: aws.String("SET throughputKBps = :n, leaseOwner = :o ADD leaseCounter :one"),
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":n": &types.AttributeValueMemberN{Value: "7"}, ":o": &types.AttributeValueMemberS{Value: "kcl"}, ":one": &types.AttributeValueMemberN{Value: "1"},
			},
		})
		require.NoError(t, err)
		_, err = s.Update(ctx, l)
		require.ErrorIs(t, err, shardlog.ErrConflict)
		l, err = s.Get(ctx, l.Key)
		require.NoError(t, err)
		require.Equal(t, "kcl", l.Owner)
		l.Owner = "b"
		_, err = s.Update(ctx, l)
		require.NoError(t, err)
		out, err := c.GetItem(ctx, &dynamodb.GetItemInput{TableName: &o.Table, Key: key})
		require.NoError(t, err)
		require.Equal(t, &types.AttributeValueMemberN{Value: "7"}, out.Item["throughputKBps"])
		require.Equal(t, &types.AttributeValueMemberS{Value: "b"}, out.Item["leaseOwner"])
	})
}

// network is a way to the server that disturbs the next write.
type network struct {
	server aws.HTTPClient
	next   checkpointtest.Fault
}

func TestFaults(t *testing.T) {
	for name, o := range map[string]dynamodbcheckpoint.Options{
		"one table":  {},
		"KCL's rows": {Group: "group", Stream: "stream"},
	} {
		t.Run(name, func(t *testing.T) {
			checkpointtest.RunFaults(t, func(t *testing.T) checkpointtest.Faulty { return faulty(t, "http://127.0.0.1", newMemory(), o) })
		})
	}
}

func faulty(t *testing.T, url string, server aws.HTTPClient, o dynamodbcheckpoint.Options) checkpointtest.Faulty {
	n := &network{server: server}
	return checkpointtest.Faulty{Store: open(t, newClient(url, n), o), Inject: func(f checkpointtest.Fault) bool { n.next = f; return true }}
}

func (n *network) Do(r *http.Request) (*http.Response, error) {
	f := n.next
	if target := r.Header.Get("X-Amz-Target"); !strings.HasSuffix(target, ".UpdateItem") && !strings.HasSuffix(target, ".DeleteItem") {
		f = 0
	}
	if f == 0 {
		return n.server.Do(r)
	}
	n.next = 0
	switch f {
	case checkpointtest.LostAnswer:
		res, err := n.server.Do(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	case checkpointtest.Throttled:
		return answers{"UpdateItem": always(400, throttled), "DeleteItem": always(400, throttled)}.Do(r)
	}
	return nil, errors.New("connection reset")
}

const throttled = `{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow"}`

// answers is a DynamoDB that gives one answer to all requests of one operation.
type answers map[string]func() (int, string, error)

func (a answers) Do(r *http.Request) (*http.Response, error) {
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	f, ok := a[op]
	if !ok {
		return nil, fmt.Errorf("unexpected %s", op)
	}
	status, body, err := f()
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Request: r,
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}},
	}, nil
}

func always(status int, body string) func() (int, string, error) {
	return func() (int, string, error) { return status, body, nil }
}

const active = `{"Table":{"TableStatus":"ACTIVE","KeySchema":[{"AttributeName":"leaseKey","KeyType":"HASH"}]}}`

func TestErrorsOfTheServer(t *testing.T) {
	ctx := t.Context()
	k := checkpoint.Key{Group: "g", Stream: "s", Shard: "x"}
	a := answers{"DescribeTable": always(200, active)}
	s, err := dynamodbcheckpoint.Open(ctx, newClient("http://127.0.0.1", a), nil)
	require.NoError(t, err)

	n := 0
	lost := func() (int, string, error) { n++; return 0, "", errors.New("connection reset") }
	a["UpdateItem"], a["DeleteItem"] = lost, lost
	_, err = s.Create(ctx, checkpoint.Lease{Key: k})
	require.ErrorIs(t, err, checkpoint.ErrUnavailable)
	_, err = s.Update(ctx, checkpoint.Lease{Key: k})
	require.ErrorIs(t, err, checkpoint.ErrUnavailable)
	require.ErrorIs(t, s.Delete(ctx, checkpoint.Lease{Key: k}), checkpoint.ErrUnavailable)
	require.Equal(t, 3, n, "no write is sent twice")

	a["UpdateItem"] = always(400, throttled)
	_, err = s.Update(ctx, checkpoint.Lease{Key: k})
	require.ErrorIs(t, err, checkpoint.ErrUnavailable, "throttled")

	refused := always(400, `{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no"}`)
	a["UpdateItem"], a["DeleteItem"], a["GetItem"] = refused, refused, always(200, `{}`)
	_, err = s.Create(ctx, checkpoint.Lease{Key: k})
	require.ErrorIs(t, err, shardlog.ErrExists)
	_, err = s.Update(ctx, checkpoint.Lease{Key: k})
	require.ErrorIs(t, err, shardlog.ErrNotFound)
	require.ErrorIs(t, s.Delete(ctx, checkpoint.Lease{Key: k}), shardlog.ErrNotFound)
	a["GetItem"] = always(200, `{"Item":{"leaseKey":{"S":"g/s/x"},"leaseCounter":{"N":"9"}}}`)
	_, err = s.Update(ctx, checkpoint.Lease{Key: k})
	require.ErrorIs(t, err, shardlog.ErrConflict)
	require.ErrorContains(t, err, "version 0 given, the row has 9")
	_, err = s.Update(ctx, checkpoint.Lease{Key: k, Version: 9})
	require.ErrorIs(t, err, shardlog.ErrConflict)
	a["Scan"] = always(200, `{"Items":[{"leaseKey":{"S":"g/s/x"},"leaseCounter":{"S":"9"}}]}`)
	_, err = s.List(ctx, "g", "")
	require.ErrorIs(t, err, shardlog.ErrCorrupt)
	rows, err := s.List(ctx, "other", "")
	require.NoError(t, err)
	require.Empty(t, rows)

	why := errors.New("no longer wanted")
	cancelled, cancel := context.WithCancelCause(ctx)
	a["UpdateItem"] = func() (int, string, error) { cancel(why); return 0, "", context.Canceled }
	_, err = s.Update(cancelled, checkpoint.Lease{Key: k})
	require.ErrorIs(t, err, why)
}

func TestTheTableIsMade(t *testing.T) {
	missing := always(400, `{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException","message":"none"}`)
	a := answers{"DescribeTable": missing}
	made := 0
	a["CreateTable"] = func() (int, string, error) {
		made++
		a["DescribeTable"] = always(200, active)
		return 400, `{"__type":"com.amazonaws.dynamodb.v20120810#ResourceInUseException","message":"another made it"}`, nil
	}
	_, err := dynamodbcheckpoint.Open(t.Context(), newClient("http://127.0.0.1", a), nil)
	require.NoError(t, err)
	require.Equal(t, 1, made)
	a["DescribeTable"] = missing
	a["CreateTable"] = always(400, `{"__type":"com.amazonaws.dynamodb.v20120810#AccessDeniedException","message":"not you"}`)
	_, err = dynamodbcheckpoint.Open(t.Context(), newClient("http://127.0.0.1", a), nil)
	require.ErrorIs(t, err, checkpoint.ErrUnavailable)
}

// KCL adds an index to its table, which is UPDATING for as long as that takes,
// and can be used.
func TestATableThatIsUpdated(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	described := 0
	a := answers{"DescribeTable": func() (int, string, error) {
		if described++; described > 1 {
			cancel()
		}
		return 200, strings.Replace(active, "ACTIVE", "UPDATING", 1), nil
	}}
	_, err := dynamodbcheckpoint.Open(ctx, newClient("http://127.0.0.1", a), nil)
	require.NoError(t, err)
	require.Equal(t, 1, described, "Open does not wait")
}

// Of a table with another key no row could be read: KCL has some too.
func TestATableOfAnotherKey(t *testing.T) {
	for name, schema := range map[string]string{
		"of another name": `{"AttributeName":"wid","KeyType":"HASH"}`,
		"with a second":   `{"AttributeName":"leaseKey","KeyType":"HASH"},{"AttributeName":"shard","KeyType":"RANGE"}`,
	} {
		a := answers{"DescribeTable": always(200, `{"Table":{"TableStatus":"ACTIVE","KeySchema":[`+schema+`]}}`)}
		_, err := dynamodbcheckpoint.Open(t.Context(), newClient("http://127.0.0.1", a), nil)
		require.ErrorIs(t, err, shardlog.ErrInvalid, name)
		require.NotErrorIs(t, err, checkpoint.ErrUnavailable, name)
	}
}

// Two groups cannot have one table with KCL's layout: its rows have no group in
// their names. So it is for a group or a stream that gets another name.
func TestATableOfAnotherGroup(t *testing.T) {
	ctx, c := t.Context(), newClient("http://127.0.0.1", newMemory())
	was := open(t, c, dynamodbcheckpoint.Options{Table: "app", Group: "g", Stream: "s"})
	l, err := was.Create(ctx, checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s", Shard: "x"}, Epoch: 4})
	require.NoError(t, err)
	for _, o := range []dynamodbcheckpoint.Options{{Group: "renamed", Stream: "s"}, {Group: "g", Stream: "renamed"}} {
		o.Table = "app"
		s := open(t, c, o)
		k := checkpoint.Key{Group: o.Group, Stream: o.Stream, Shard: "x"}
		_, err = s.Get(ctx, k)
		require.ErrorIs(t, err, shardlog.ErrCorrupt)
		require.ErrorContains(t, err, "of another key, {g s x}")
		_, err = s.List(ctx, o.Group, "")
		require.ErrorIs(t, err, shardlog.ErrCorrupt)
		_, err = s.Create(ctx, checkpoint.Lease{Key: k})
		require.ErrorIs(t, err, shardlog.ErrExists)
	}
	got, err := was.Get(ctx, l.Key)
	require.NoError(t, err)
	require.Equal(t, l, got)
}

func TestBadArguments(t *testing.T) {
	_, err := dynamodbcheckpoint.Open(t.Context(), nil, &dynamodbcheckpoint.Options{Table: "a b", Group: "g"})
	require.ErrorIs(t, err, shardlog.ErrInvalid)
	for _, field := range []string{"Client", "Table", "Stream", "WorkersTable"} {
		require.ErrorContains(t, err, "invalid "+field)
	}
	c := newClient("http://127.0.0.1", answers{})
	for name, o := range map[string]dynamodbcheckpoint.Options{
		"without KCL's layout": {WorkersTable: "workers"},
		"the same table":       {Table: "app", Group: "g", Stream: "s", WorkersTable: "app"},
		"a bad name":           {Group: "g", Stream: "s", WorkersTable: "a b"},
		"no room for a suffix": {Table: strings.Repeat("a", 250), Group: "g", Stream: "s"},
	} {
		_, err := dynamodbcheckpoint.Open(t.Context(), c, &o)
		require.ErrorIs(t, err, shardlog.ErrInvalid, name)
		require.ErrorContains(t, err, "invalid WorkersTable", name)
	}
}
