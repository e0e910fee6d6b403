package dynamodbcheckpoint

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// table is a table and the names of its rows.
type table struct {
	name string
	// group and stream are set for a table of KCL's: it has their shards, named
	// as KCL names them, and no other row of ours. Without them the name of a
	// row has the group, the stream and the shard in it.
	group, stream string
}

// kcl reports whether the rows are leases of KCL.
func (t table) kcl() bool { return t.group != "" }

func (t table) keyName(k checkpoint.Key) string {
	if t.kcl() {
		return part(k.Shard)
	}
	return part(k.Group) + "/" + part(k.Stream) + "/" + part(k.Shard)
}

// parseKey is the reverse; ok is false for items that are no row of ours.
func (t table) parseKey(name string) (k checkpoint.Key, ok bool) {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		if parts[i], ok = unpart(p); !ok {
			return k, false
		}
	}
	switch {
	case len(parts) == 1 && t.kcl():
		k = checkpoint.Key{Group: t.group, Stream: t.stream, Shard: parts[0]}
	case len(parts) == 3 && !t.kcl():
		k = checkpoint.Key{Group: parts[0], Stream: parts[1], Shard: parts[2]}
	}
	// Base64 has several forms of the same bytes; Get finds only one of them.
	return k, t.keyName(k) == name
}

func (t table) itemKey(k checkpoint.Key) item { return item{leaseKey: text(t.keyName(k))} }

// attributes is a row as it is stored in this table.
func (t table) attributes(l checkpoint.Lease) item {
	a := attributes(l)
	if t.kcl() {
		a[entityType] = text(entityLease)
	}
	return a
}

// of is the table of a row.
func (s *Store) of(k checkpoint.Key) table {
	if k.Group == s.leases.group && k.Stream == s.leases.stream {
		return s.leases
	}
	return s.others
}

// tables are those with rows of a group and stream, or of all of its streams.
func (s *Store) tables(group, stream string) []table {
	if s.leases.kcl() && group == s.leases.group && stream == "" {
		return []table{s.leases, s.others}
	}
	return []table{s.of(checkpoint.Key{Group: group, Stream: stream})}
}

// created is how long Open waits for a table that it has made.
const created = 2 * time.Minute

func (s *Store) makeTable(ctx context.Context, name string) error {
	out, err := s.ensureTable(ctx, name)
	if err != nil {
		return fmt.Errorf("checkpoint: table %s: %w", name, unavailable(ctx, err))
	}
	if key := out.Table.KeySchema; len(key) != 1 || aws.ToString(key[0].AttributeName) != leaseKey {
		return &shardlog.InvalidError{Field: "Table", Value: name, Limit: "a table with the key " + leaseKey + " alone"}
	}
	return nil
}

// ensureTable returns a table that can be used; it makes one that is not there.
func (s *Store) ensureTable(ctx context.Context, name string) (*dynamodb.DescribeTableOutput, error) {
	describe := &dynamodb.DescribeTableInput{TableName: &name}
	out, err := s.client.DescribeTable(ctx, describe)
	var missing *types.ResourceNotFoundException
	if err == nil {
		// A table that is being updated can be used, and KCL's is for as long as
		// it gets its index, which may be more than created.
		if st := out.Table.TableStatus; st == types.TableStatusActive || st == types.TableStatusUpdating {
			return out, nil
		}
	}
	if errors.As(err, &missing) {
		_, err = s.client.CreateTable(ctx, &dynamodb.CreateTableInput{
			TableName:            &name,
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String(leaseKey), AttributeType: types.ScalarAttributeTypeS}},
			KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String(leaseKey), KeyType: types.KeyTypeHash}},
			BillingMode:          types.BillingModePayPerRequest,
		})
		var inUse *types.ResourceInUseException
		if errors.As(err, &inUse) {
			err = nil // another worker has just made it
		}
	}
	if err != nil {
		return nil, err
	}
	w := dynamodb.NewTableExistsWaiter(s.client, func(o *dynamodb.TableExistsWaiterOptions) { o.MinDelay = 50 * time.Millisecond })
	return w.WaitForOutput(ctx, describe, created)
}
