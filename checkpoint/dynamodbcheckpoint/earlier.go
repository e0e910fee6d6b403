package dynamodbcheckpoint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// earlier knows the rows that an earlier version has left in KCL's table, where
// every row counts as a lease. Those of the Store's own group and stream are
// moved by Open. Others may be those of a Store without KCL's layout in the same
// table, which must not lose them, so they are moved when this Store is used for
// their group and stream.
type earlier struct {
	left atomic.Bool   // rows of others were found, and not yet all moved
	turn chan struct{} // has a token while somebody moves rows or reads of
	of   map[scope]bool
}

// scope is a group and one of its streams.
type scope struct{ group, stream string }

// takeOver moves the rows of the Store's own group and stream, and notes whose
// there are as well.
func (s *Store) takeOver(ctx context.Context) error {
	s.earlier = &earlier{turn: make(chan struct{}, 1)}
	// The rows of a stream's workers are under its name with a suffix.
	own := func(k checkpoint.Key) bool {
		return k.Group == s.leases.group && (k.Stream == s.leases.stream || strings.HasPrefix(k.Stream, s.leases.stream+"/"))
	}
	var err error
	if s.earlier.of, err = s.move(ctx, own); err != nil {
		return fmt.Errorf("checkpoint: table %s: move the rows of an earlier version: %w", s.leases.name, err)
	}
	s.earlier.left.Store(len(s.earlier.of) > 0)
	return nil
}

// ready is called before any use of the rows of a key's group and stream; an
// empty stream is all of them.
func (s *Store) ready(ctx context.Context, k checkpoint.Key) error {
	if err := shardlog.ContextError(ctx); err != nil {
		return err
	}
	if s.earlier == nil || !s.earlier.left.Load() {
		return nil
	}
	select {
	case s.earlier.turn <- struct{}{}:
		defer func() { <-s.earlier.turn }()
	case <-ctx.Done():
		return shardlog.ContextError(ctx)
	}
	asked := func(of scope) bool { return of.group == k.Group && (k.Stream == "" || of.stream == k.Stream) }
	found := false
	for of := range s.earlier.of {
		found = found || asked(of)
	}
	if !found {
		return nil
	}
	_, err := s.move(ctx, func(k checkpoint.Key) bool { return asked(scope{k.Group, k.Stream}) })
	if err != nil {
		return fmt.Errorf("move the rows of an earlier version: %w", err)
	}
	maps.DeleteFunc(s.earlier.of, func(of scope, _ bool) bool { return asked(of) })
	s.earlier.left.Store(len(s.earlier.of) > 0)
	return nil
}

// move moves the rows of the earlier version that are asked for to where this
// one looks for them, and returns whose others there are. It may be repeated
// after any error: a row is written at its new place, unless there is one, before
// the old one is removed.
func (s *Store) move(ctx context.Context, asked func(checkpoint.Key) bool) (others map[scope]bool, err error) {
	others = map[scope]bool{}
	pages := dynamodb.NewScanPaginator(s.client, &dynamodb.ScanInput{
		TableName: &s.leases.name, ConsistentRead: aws.Bool(true),
		FilterExpression:          aws.String("attribute_exists(" + row + ") AND attribute_exists(" + leaseCounter + ") AND contains(" + leaseKey + ", :slash)"),
		ExpressionAttributeValues: item{":slash": text("/")},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, unavailable(ctx, err)
		}
		for _, i := range page.Items {
			k, ok := s.others.parseKey(str(i, leaseKey))
			if !ok || k.Validate() != nil {
				continue
			}
			if !asked(k) {
				others[scope{k.Group, k.Stream}] = true
			} else if err := s.moveRow(ctx, k, i[leaseKey]); err != nil {
				return nil, unavailable(ctx, err)
			}
		}
	}
	return others, nil
}

// moveRow moves the row with an old name. It reads it again, because the page
// with it may be old: another process may have moved the row since, and a worker
// removed it from its new place, where it must not appear again.
func (s *Store) moveRow(ctx context.Context, k checkpoint.Key, name types.AttributeValue) error {
	from := item{leaseKey: name}
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.leases.name, Key: from, ConsistentRead: aws.Bool(true)})
	if err != nil || out.Item == nil {
		return err
	}
	to, moved := s.of(k), maps.Clone(out.Item)
	maps.Copy(moved, to.itemKey(k))
	if to.kcl() {
		moved[entityType] = text(entityLease)
	}
	var refused *types.ConditionalCheckFailedException
	_, err = s.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: &to.name, Item: moved, ConditionExpression: aws.String("attribute_not_exists(" + leaseKey + ")"),
	})
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	// One that was written since is left to the next Open.
	_, err = s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &s.leases.name, Key: from,
		ConditionExpression: aws.String(isVersion), ExpressionAttributeValues: item{":is": out.Item[leaseCounter]},
	})
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	return nil
}
