// Package dynamodbcheckpoint keeps the checkpoints of consumers in a DynamoDB
// table with the layout of the Kinesis Client Library (KCL). It is a module of
// its own.
//
// # What it guarantees
//
// A write is on the disks of several data centres when it returns, and is
// conditional on the row's version, so two workers never both win a row. Reads
// are consistent. The client does not repeat writes here: one whose answer was
// lost is ErrUnavailable, and the row has to be read.
//
// # KCL's layout
//
// Of the rows of Options.Group and Options.Stream the leaseKey is the shard, as
// in KCL's table of an application with one stream; leaseOwner, leaseCounter,
// checkpoint and the other attributes have KCL's meaning, and attributes that
// are not ours stay. What KCL does not know, such as the epoch, is in one more
// attribute. So a group can continue where a KCL application has stopped, and the
// other way round; what KCL changed is what counts. They cannot share the
// shards at the same time: KCL deletes rows without looking at the version, and
// takes for dead whom it does not see renewing each lease.
package dynamodbcheckpoint

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// Options say how rows are kept. The zero value of a field means its default.
type Options struct {
	// Table is the name of the table: 3 to 255 of letters, digits, underscore,
	// minus and dot. KCL's is that of its application. Defaults to
	// "shardlog-checkpoints".
	Table string
	// Group and Stream are those whose rows are named as KCL names them.
	// Defaults to none: every row's name has the group, the stream and the
	// shard in it.
	Group, Stream string
}

// Store is a checkpoint.Store. Its methods are safe for concurrent use, also by
// other processes. List reads the whole table, as KCL does, so it is best to
// have a table for each group.
type Store struct {
	client *dynamodb.Client
	o      Options
}

var _ checkpoint.Store = (*Store)(nil)

var tableName = regexp.MustCompile(`^[A-Za-z0-9_.-]{3,255}$`)

// created is how long Open waits for a table that it has made.
const created = 2 * time.Minute

// Open returns a store in a table, and makes the table, paid by the request,
// when there is none. It blocks for DynamoDB. Opts may be nil. The error
// matches shardlog.ErrInvalid for a bad argument, and checkpoint.ErrUnavailable
// when DynamoDB fails.
func Open(ctx context.Context, client *dynamodb.Client, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Table == "" {
		o.Table = "shardlog-checkpoints"
	}
	var errs []error
	if client == nil {
		errs = append(errs, &shardlog.InvalidError{Field: "Client", Value: nil, Limit: "set"})
	}
	if !tableName.MatchString(o.Table) {
		errs = append(errs, &shardlog.InvalidError{Field: "Table", Value: o.Table, Limit: "3 to 255 of letters, digits, underscore, minus and dot"})
	}
	if (o.Group == "") != (o.Stream == "") {
		errs = append(errs, &shardlog.InvalidError{Field: "Stream", Value: o.Stream, Limit: "set together with Group"})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	s := &Store{client: client, o: o}
	if err := s.makeTable(ctx); err != nil {
		return nil, fmt.Errorf("checkpoint: table %s: %w", o.Table, unavailable(ctx, err))
	}
	return s, nil
}

func (s *Store) makeTable(ctx context.Context) error {
	describe := &dynamodb.DescribeTableInput{TableName: &s.o.Table}
	out, err := s.client.DescribeTable(ctx, describe)
	var missing *types.ResourceNotFoundException
	if err == nil && out.Table.TableStatus == types.TableStatusActive {
		return nil
	}
	if errors.As(err, &missing) {
		_, err = s.client.CreateTable(ctx, &dynamodb.CreateTableInput{
			TableName:            &s.o.Table,
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

// once keeps the client from repeating a write: its answer would be about the
// repetition.
func once(o *dynamodb.Options) { o.RetryMaxAttempts = 1 }

// unavailable marks errors of DynamoDB, after which a write may have been made
// or not, and throttling. Those of the context stay what they are.
func unavailable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.Join(shardlog.ContextError(ctx), err)
	}
	return fmt.Errorf("%w: %w", checkpoint.ErrUnavailable, err)
}

func fault(op string, k checkpoint.Key, err error) error {
	return &shardlog.Error{Op: "checkpoint " + op, Stream: k.Stream, Shard: k.Shard, Err: err}
}

// Create implements checkpoint.Store. The versions of a row begin anywhere
// between 2^32 and 2^62, so that one that was deleted and created again does not
// come to those that it had.
func (s *Store) Create(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	err := l.Validate()
	if err == nil {
		err = shardlog.ContextError(ctx)
	}
	if err != nil {
		return checkpoint.Lease{}, fault("create", l.Key, err)
	}
	l = l.Clone()
	l.Version = 1<<32 + rand.Uint64N(1<<62-1<<32)
	_, err = s.client.UpdateItem(ctx, s.updateItem(l, "attribute_not_exists("+leaseKey+")", nil), once)
	var refused *types.ConditionalCheckFailedException
	switch {
	case errors.As(err, &refused):
		return checkpoint.Lease{}, fault("create", l.Key, shardlog.ErrExists)
	case err != nil:
		return checkpoint.Lease{}, fault("create", l.Key, unavailable(ctx, err))
	}
	return l, nil
}

// isVersion is the condition of writes.
const isVersion = leaseCounter + " = :is"

// Update implements checkpoint.Store.
func (s *Store) Update(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	err := l.Validate()
	if err == nil {
		err = shardlog.ContextError(ctx)
	}
	if err != nil {
		return checkpoint.Lease{}, fault("update", l.Key, err)
	}
	l = l.Clone()
	is := number(l.Version)
	l.Version++
	if _, err = s.client.UpdateItem(ctx, s.updateItem(l, isVersion, is), once); err != nil {
		l.Version--
		return checkpoint.Lease{}, fault("update", l.Key, s.refused(ctx, l, err))
	}
	return l, nil
}

// Delete implements checkpoint.Store.
func (s *Store) Delete(ctx context.Context, l checkpoint.Lease) error {
	err := l.Key.Validate()
	if err == nil {
		err = shardlog.ContextError(ctx)
	}
	if err != nil {
		return fault("delete", l.Key, err)
	}
	_, err = s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &s.o.Table, Key: s.itemKey(l.Key),
		ConditionExpression: aws.String(isVersion), ExpressionAttributeValues: item{":is": number(l.Version)},
	}, once)
	if err != nil {
		return fault("delete", l.Key, s.refused(ctx, l, err))
	}
	return nil
}

// refused says why a write on a row of a version was not made.
func (s *Store) refused(ctx context.Context, l checkpoint.Lease, err error) error {
	var condition *types.ConditionalCheckFailedException
	if !errors.As(err, &condition) {
		return unavailable(ctx, err)
	}
	switch found, err := s.read(ctx, l.Key); {
	case err != nil:
		return err
	case found.Version == l.Version:
		// Deleted and created again since, or by KCL: this one is not it.
		return fmt.Errorf("%w: the row changed", shardlog.ErrConflict)
	default:
		return fmt.Errorf("%w: version %d given, the row has %d", shardlog.ErrConflict, l.Version, found.Version)
	}
}

// Get implements checkpoint.Store.
func (s *Store) Get(ctx context.Context, k checkpoint.Key) (checkpoint.Lease, error) {
	err := k.Validate()
	if err == nil {
		err = shardlog.ContextError(ctx)
	}
	var l checkpoint.Lease
	if err == nil {
		l, err = s.read(ctx, k)
	}
	if err != nil {
		return checkpoint.Lease{}, fault("get", k, err)
	}
	return l, nil
}

func (s *Store) read(ctx context.Context, k checkpoint.Key) (checkpoint.Lease, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.o.Table, Key: s.itemKey(k), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return checkpoint.Lease{}, unavailable(ctx, err)
	}
	if len(out.Item) == 0 {
		return checkpoint.Lease{}, shardlog.ErrNotFound
	}
	l, _, err := s.lease(out.Item)
	return l, err
}

// List implements checkpoint.Store. It is not a view of one moment: a row that
// changes while the table is read is seen as it was before or after.
func (s *Store) List(ctx context.Context, group, stream string) ([]checkpoint.Lease, error) {
	k := checkpoint.Key{Group: group, Stream: stream}
	if err := shardlog.ContextError(ctx); err != nil {
		return nil, fault("list", k, err)
	}
	var out []checkpoint.Lease
	pages := dynamodb.NewScanPaginator(s.client, &dynamodb.ScanInput{TableName: &s.o.Table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fault("list", k, unavailable(ctx, err))
		}
		for _, i := range page.Items {
			l, ours, err := s.lease(i)
			if !ours || l.Group != group || (stream != "" && l.Stream != stream) {
				continue
			}
			if err != nil {
				return nil, fault("list", l.Key, err)
			}
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b checkpoint.Lease) int { return a.Key.Compare(b.Key) })
	return out, nil
}

// updateItem writes all attributes of a row, and removes those that it does
// not have; those of others stay.
func (s *Store) updateItem(l checkpoint.Lease, condition string, is types.AttributeValue) *dynamodb.UpdateItemInput {
	attrs := attributes(l)
	var set, remove []string
	values := item{}
	if is != nil {
		values[":is"] = is
	}
	for _, name := range names {
		if v, ok := attrs[name]; ok {
			set = append(set, name+" = :"+name)
			values[":"+name] = v
		} else {
			remove = append(remove, name)
		}
	}
	expr := "SET " + strings.Join(set, ", ")
	if len(remove) > 0 {
		expr += " REMOVE " + strings.Join(remove, ", ")
	}
	return &dynamodb.UpdateItemInput{
		TableName: &s.o.Table, Key: s.itemKey(l.Key), ConditionExpression: &condition,
		UpdateExpression: &expr, ExpressionAttributeValues: values,
	}
}
