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
		return checkpoint.Key{Group: t.group, Stream: t.stream, Shard: parts[0]}, true
	case len(parts) == 3 && !t.kcl():
		return checkpoint.Key{Group: parts[0], Stream: parts[1], Shard: parts[2]}, true
	}
	return k, false
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
	err := s.ensureTable(ctx, name)
	if err != nil {
		return fmt.Errorf("checkpoint: table %s: %w", name, unavailable(ctx, err))
	}
	return nil
}

func (s *Store) ensureTable(ctx context.Context, name string) error {
	describe := &dynamodb.DescribeTableInput{TableName: &name}
	out, err := s.client.DescribeTable(ctx, describe)
	var missing *types.ResourceNotFoundException
	if err == nil && out.Table.TableStatus == types.TableStatusActive {
		return nil
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
		return err
	}
	w := dynamodb.NewTableExistsWaiter(s.client, func(o *dynamodb.TableExistsWaiterOptions) { o.MinDelay = 50 * time.Millisecond })
	return w.Wait(ctx, describe, created)
}
