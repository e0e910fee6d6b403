package dynamodbcheckpoint_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/checkpointtest"
	"github.com/shardlog/shardlog/checkpoint/dynamodbcheckpoint"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

func open(t *testing.T, c *dynamodb.Client, o dynamodbcheckpoint.Options) *dynamodbcheckpoint.Store {
	s, err := dynamodbcheckpoint.Open(t.Context(), c, &o)
	require.NoError(t, err)
	return s
}

func TestConforms(t *testing.T) {
	for name, o := range map[string]dynamodbcheckpoint.Options{
		"one table":  {},
		"KCL's rows": {Group: "group", Stream: "stream"},
	} {
		t.Run(name, func(t *testing.T) {
			checkpointtest.Run(t, func(t *testing.T) checkpoint.Store {
				return open(t, newClient("http://127.0.0.1", newMemory()), o)
			})
		})
	}
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// keys are the leaseKeys of a table.
func keys(t *testing.T, c *dynamodb.Client, table string) (out []string) {
	pages := dynamodb.NewScanPaginator(c, &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		for _, i := range page.Items {
			out = append(out, i["leaseKey"].(*types.AttributeValueMemberS).Value)
		}
	}
	slices.Sort(out)
	return out
}

func names(rows []checkpoint.Lease) (out []string) {
	for _, l := range rows {
		out = append(out, fmt.Sprint(l.Key))
	}
	return out
}

// entities puts a row of each type into a table that KCL 3.5 keeps in it, with
// the attributes that they have there, and returns their leaseKeys.
func entities(t *testing.T, c *dynamodb.Client, table string) []string {
	one := &types.AttributeValueMemberN{Value: "1"}
	rows := map[string]map[string]types.AttributeValue{
		"a-worker":  {"entityType": text("WORKER_METRIC_STATS"), "lut": one},
		"Leader":    {"entityType": text("LEADER"), "ownerName": text("a-worker"), "leaseDuration": text("120000"), "recordVersionNumber": text("x")},
		"stream":    {"entityType": text("STREAM"), "streamId": text("x")},
		"Migration": {"entityType": text("CLIENT_VERSION_MIGRATION"), "cv": text("CLIENT_VERSION_3X")},
		"Tables":    {"entityType": text("TABLE_MIGRATION"), "ts": one},
		// Also one that would look like a lease.
		"later": {"entityType": text("OF_A_LATER_VERSION"), "leaseCounter": one, "checkpoint": text("TRIM_HORIZON")},
	}
	for key, i := range rows {
		i["leaseKey"] = text(key)
		_, err := c.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: i})
		require.NoError(t, err)
	}
	return slices.Sorted(maps.Keys(rows))
}

func TestKCLsTable(t *testing.T) {
	kclsTable(t, newClient("http://127.0.0.1", newMemory()), "app")
}

// kclsTable: KCL's table has leases and what KCL keeps there for itself, and
// nothing else, whatever a group does.
func kclsTable(t *testing.T, c *dynamodb.Client, table string) {
	ctx := t.Context()
	s := open(t, c, dynamodbcheckpoint.Options{Table: table, Group: "g", Stream: "s"})
	theirs := entities(t, c, table)
	rows := map[string]checkpoint.Lease{}
	for name, k := range map[string]checkpoint.Key{
		"shard":  {Group: "g", Stream: "s", Shard: "shardId-000000000000"},
		"worker": {Group: "g", Stream: "s/workers", Shard: "worker/w"},
		"group":  {Group: "g", Stream: "s/workers", Shard: "group"},
		"other":  {Group: "other", Stream: "s", Shard: "shardId-000000000000"},
	} {
		l, err := s.Create(ctx, checkpoint.Lease{Key: k, Owner: "w"})
		require.NoError(t, err)
		l, err = s.Update(ctx, l)
		require.NoError(t, err)
		rows[name] = l
	}
	require.Equal(t, slices.Sorted(slices.Values(append([]string{"shardId-000000000000"}, theirs...))), keys(t, c, table))
	require.Len(t, keys(t, c, table+"-workers"), 3)
	out, err := c.GetItem(ctx, &dynamodb.GetItemInput{TableName: &table, Key: map[string]types.AttributeValue{"leaseKey": text("shardId-000000000000")}})
	require.NoError(t, err)
	require.Equal(t, text("LEASE"), out.Item["entityType"])

	for _, key := range theirs {
		k := checkpoint.Key{Group: "g", Stream: "s", Shard: key}
		_, err := s.Get(ctx, k)
		require.ErrorIs(t, err, shardlog.ErrNotFound, key)
		_, err = s.Update(ctx, checkpoint.Lease{Key: k})
		require.ErrorIs(t, err, shardlog.ErrNotFound, key)
		require.ErrorIs(t, s.Delete(ctx, checkpoint.Lease{Key: k}), shardlog.ErrNotFound, key)
	}
	list, err := s.List(ctx, "g", "")
	require.NoError(t, err)
	require.Equal(t, []checkpoint.Lease{rows["shard"], rows["group"], rows["worker"]}, list)
	list, err = s.List(ctx, "g", "s")
	require.NoError(t, err)
	require.Equal(t, []checkpoint.Lease{rows["shard"]}, list)
	list, err = s.List(ctx, "other", "")
	require.NoError(t, err)
	require.Equal(t, []checkpoint.Lease{rows["other"]}, list)
	for _, l := range rows {
		require.NoError(t, s.Delete(ctx, l))
	}
	require.Equal(t, theirs, keys(t, c, table))
	require.Empty(t, keys(t, c, table+"-workers"))
}

// A group that works, is killed and is forgotten leaves nothing else in KCL's
// table at any time.
func TestAGroupInKCLsTable(t *testing.T) {
	m := newMemory()
	c := newClient("http://127.0.0.1", m)
	store := open(t, c, dynamodbcheckpoint.Options{Table: "app", Group: "g", Stream: "s"})
	theirs := entities(t, c, "app")
	m.fail = func(op string, r request) error {
		if op == "UpdateItem" && r.TableName == "app" && strings.Contains(keyOf(r.Key), "/") {
			return errors.New("a row that is no lease")
		}
		return nil
	}
	db, err := stream.Open("", &stream.Options{InMemory: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	s, err := db.Ensure(t.Context(), "s", stream.Config{Shards: 2})
	require.NoError(t, err)
	_, err = s.Put(t.Context(), shardlog.Record{PartitionKey: "k", Data: []byte("x")})
	require.NoError(t, err)

	w, err := consumer.New(s, &consumer.Options{Group: "g", Store: store})
	require.NoError(t, err)
	require.NoError(t, w.Run(t.Context(), consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		rows, err := store.List(ctx, "g", "")
		if err != nil || len(rows) != 4 { // two shards, the worker and the group
			return fmt.Errorf("%v: %w", names(rows), err)
		}
		return w.Shutdown(ctx)
	})))
	require.Equal(t, slices.Sorted(slices.Values(append([]string{"shardId-000000000000", "shardId-000000000001"}, theirs...))), keys(t, c, "app"))
	_, err = store.Create(t.Context(), checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s/workers", Shard: "worker/killed"}, Beat: 1})
	require.NoError(t, err)
	require.NoError(t, consumer.Forget(t.Context(), store, "g", "s"))
	require.Equal(t, theirs, keys(t, c, "app"))
	require.Empty(t, keys(t, c, "app-workers"))
}

func TestRowsOfAnEarlierVersion(t *testing.T) {
	earlierVersion(t, newClient("http://127.0.0.1", newMemory()), "app")
}

// earlierVersion: the rows of workers and groups lay in KCL's table, named as
// those of a Store without KCL's layout, and leases had no entityType.
func earlierVersion(t *testing.T, c *dynamodb.Client, table string) {
	ctx := t.Context()
	plain := open(t, c, dynamodbcheckpoint.Options{Table: table})
	theirs := entities(t, c, table)
	var old []checkpoint.Lease
	for _, k := range []checkpoint.Key{
		{Group: "g", Stream: "s", Shard: "shardId-000000000000"}, // the layout was without KCL's names
		{Group: "g", Stream: "s/workers", Shard: "group"},
		{Group: "g", Stream: "s/workers", Shard: "worker/a"},
		{Group: "g", Stream: "s/workers", Shard: "worker/b"},
		{Group: "g", Stream: "second", Shard: "shardId-000000000000"},
		{Group: "other", Stream: "s", Shard: "shardId-000000000000"},
		{Group: "other", Stream: "s/workers", Shard: "worker/a"},
	} {
		l, err := plain.Create(ctx, checkpoint.Lease{Key: k, Owner: "w", Epoch: 3, Beat: 7})
		require.NoError(t, err)
		old = append(old, l)
	}
	_, err := c.PutItem(ctx, &dynamodb.PutItemInput{TableName: &table, Item: map[string]types.AttributeValue{
		"leaseKey": text("shardId-000000000001"), "leaseCounter": &types.AttributeValueMemberN{Value: "5"}, "checkpoint": text("LATEST"),
	}})
	require.NoError(t, err)

	o := dynamodbcheckpoint.Options{Table: table, Group: "g", Stream: "s", WorkersTable: table + "-second"}
	s := open(t, c, o)
	for _, l := range old[:4] {
		got, err := s.Get(ctx, l.Key)
		require.NoError(t, err)
		require.Equal(t, l, got, "with its version, so that its owner keeps it")
	}
	list, err := s.List(ctx, "g", "s")
	require.NoError(t, err)
	require.Len(t, list, 2)
	ours := []string{"shardId-000000000000", "shardId-000000000001"}
	require.Len(t, keys(t, c, table+"-second"), 3)

	// A Store without KCL's layout still has the rows of others, until this one
	// is used for them.
	left, err := plain.List(ctx, "other", "")
	require.NoError(t, err)
	require.Equal(t, old[5:], left)
	require.Len(t, keys(t, c, table), len(ours)+len(theirs)+3)
	second, err := s.Update(ctx, old[4])
	require.NoError(t, err)
	_, err = s.Create(ctx, checkpoint.Lease{Key: old[5].Key})
	require.ErrorIs(t, err, shardlog.ErrExists)
	left, err = s.List(ctx, "other", "")
	require.NoError(t, err)
	require.Equal(t, old[5:], left)
	require.Equal(t, slices.Sorted(slices.Values(append(ours, theirs...))), keys(t, c, table))

	// One that was moved, and changed, before the old one was removed.
	_, err = plain.Create(ctx, old[4])
	require.NoError(t, err)
	s = open(t, c, o)
	got, err := s.Get(ctx, second.Key)
	require.NoError(t, err)
	require.Equal(t, second, got)
	require.Equal(t, slices.Sorted(slices.Values(append(ours, theirs...))), keys(t, c, table))
}

// Whatever request fails while rows are moved: none is lost, and the next Open
// ends what was begun.
func TestMovingMayFailAnywhere(t *testing.T) {
	for step := 0; ; step++ {
		m := newMemory()
		c := dynamodb.New(newClient("http://127.0.0.1", m).Options(), func(o *dynamodb.Options) { o.RetryMaxAttempts = 1 })
		plain := open(t, c, dynamodbcheckpoint.Options{Table: "app"})
		var want []string
		for i := range 5 {
			l, err := plain.Create(t.Context(), checkpoint.Lease{Key: checkpoint.Key{Group: "g", Stream: "s/workers", Shard: fmt.Sprint("worker/", i)}})
			require.NoError(t, err)
			want = append(want, fmt.Sprint(l.Key))
		}
		n := 0
		m.fail = func(string, request) error {
			n++
			if n > step {
				return errors.New("connection reset")
			}
			return nil
		}
		o := dynamodbcheckpoint.Options{Table: "app", Group: "g", Stream: "s"}
		_, err := dynamodbcheckpoint.Open(t.Context(), c, &o)
		m.fail = nil
		if err != nil {
			require.ErrorIs(t, err, checkpoint.ErrUnavailable)
		}
		s := open(t, c, o)
		rows, listErr := s.List(t.Context(), "g", "")
		require.NoError(t, listErr)
		require.Equal(t, want, names(rows))
		require.Empty(t, keys(t, c, "app"))
		if err == nil {
			require.Greater(t, step, 10)
			return
		}
	}
}

// The rows of others are moved by the first call that asks for them; its error is that of the move.
func TestMovingWhenAskedMayFail(t *testing.T) {
	m := newMemory()
	c := dynamodb.New(newClient("http://127.0.0.1", m).Options(), func(o *dynamodb.Options) { o.RetryMaxAttempts = 1 })
	plain := open(t, c, dynamodbcheckpoint.Options{Table: "app"})
	l, err := plain.Create(t.Context(), checkpoint.Lease{Key: checkpoint.Key{Group: "other", Stream: "s", Shard: "x"}})
	require.NoError(t, err)
	s := open(t, c, dynamodbcheckpoint.Options{Table: "app", Group: "g", Stream: "s"})
	m.fail = func(op string, _ request) error {
		if op == "PutItem" {
			return errors.New("connection reset")
		}
		return nil
	}
	_, err = s.Get(t.Context(), l.Key)
	require.ErrorIs(t, err, checkpoint.ErrUnavailable)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Get(ended, l.Key)
	require.ErrorIs(t, err, context.Canceled)
	m.fail = nil
	got, err := s.Get(t.Context(), l.Key)
	require.NoError(t, err)
	require.Equal(t, l, got)
}
