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
// The rows of the shards of Options.Group and Options.Stream are leases of KCL:
// the leaseKey is the shard, as in the table of an application with one stream;
// leaseOwner, leaseCounter, checkpoint and the other attributes have KCL's
// meaning, and attributes that are not ours stay. What KCL does not know, such
// as the epoch, is in one more attribute. So a group can continue where a KCL
// application has stopped, and the other way round; what KCL changed is what
// counts. A shard of a group that starts at a time, and has read nothing of it,
// is AT_TIMESTAMP: KCL takes the time from its own initial position, so set that
// to the same. They cannot share the shards at the same time: KCL deletes rows
// without looking at the version, and takes for dead whom it does not see
// renewing each lease.
//
// KCL takes every row with a leaseKey for a lease, so all other rows, those of
// the group's workers among them, are in a second table, Options.WorkersTable.
// The rows that KCL 3.5 keeps in the first table with another entityType than
// LEASE (its leader, workers' metrics, streams, migrations) are left alone. KCL
// adds the index LeaseOwnerToLeaseKeyIndex to the first table itself.
//
// Before there was a second table, its rows were in the first. Open moves those
// of its group's stream; those of other groups and streams are moved when a
// Store of this layout is first asked for them. Stop all workers of the earlier
// version before: it does not find the workers of this one, so both would take
// the shards from each other. Nothing would be lost then, but records come more
// than once.
//
// # Permissions
//
// For both tables: dynamodb:DescribeTable, GetItem, UpdateItem, DeleteItem, Scan
// and, to move rows, PutItem; CreateTable where they are not there.
package dynamodbcheckpoint

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"

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
	// Group and Stream are those whose shards are leases of KCL in Table, which
	// cannot have those of another group or stream: they are shardlog.ErrCorrupt.
	// Defaults to none: every row is in Table, and its name has the group, the
	// stream and the shard in it.
	Group, Stream string
	// WorkersTable is the name of the table of all rows that are no leases of
	// KCL, those of the group's workers among them. It can only be set with
	// Group and Stream, and is another one than Table. Defaults to Table and
	// "-workers".
	WorkersTable string
}

// Store is a checkpoint.Store. Its methods are safe for concurrent use, also by
// other processes. List reads a whole table, as KCL does, so it is best to have
// a table for each group.
type Store struct {
	client *dynamodb.Client
	// leases has the rows of the shards of KCL's layout, others all the rest.
	// Without that layout both are the same.
	leases, others table
	earlier        *earlier
}

var _ checkpoint.Store = (*Store)(nil)

var tableName = regexp.MustCompile(`^[A-Za-z0-9_.-]{3,255}$`)

// Open returns a store in a table, with KCL's layout in two, and makes those,
// paid by the request, that are not there. It moves rows of an earlier version,
// see the package. It blocks for DynamoDB. Opts may be nil. The error matches
// shardlog.ErrInvalid for a bad argument, which a table with another key than
// leaseKey is too, and checkpoint.ErrUnavailable when DynamoDB fails.
func Open(ctx context.Context, client *dynamodb.Client, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Table == "" {
		o.Table = "shardlog-checkpoints"
	}
	kcl := o.Group != "" || o.Stream != ""
	if o.WorkersTable == "" && kcl {
		o.WorkersTable = o.Table + "-workers"
	}
	if err := o.validate(client, kcl); err != nil {
		return nil, err
	}
	s := &Store{client: client, leases: table{name: o.Table}, others: table{name: o.Table}}
	if kcl {
		s.leases.group, s.leases.stream, s.others.name = o.Group, o.Stream, o.WorkersTable
		if err := s.makeTable(ctx, s.others.name); err != nil {
			return nil, err
		}
	}
	if err := s.makeTable(ctx, s.leases.name); err != nil {
		return nil, err
	}
	if kcl {
		if err := s.takeOver(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (o *Options) validate(client *dynamodb.Client, kcl bool) error {
	const name = "3 to 255 of letters, digits, underscore, minus and dot"
	var errs []error
	if client == nil {
		errs = append(errs, &shardlog.InvalidError{Field: "Client", Value: nil, Limit: "set"})
	}
	if !tableName.MatchString(o.Table) {
		errs = append(errs, &shardlog.InvalidError{Field: "Table", Value: o.Table, Limit: name})
	}
	if (o.Group == "") != (o.Stream == "") {
		errs = append(errs, &shardlog.InvalidError{Field: "Stream", Value: o.Stream, Limit: "set together with Group"})
	}
	switch {
	case !kcl && o.WorkersTable != "":
		errs = append(errs, &shardlog.InvalidError{Field: "WorkersTable", Value: o.WorkersTable, Limit: "set only with Group and Stream"})
	case kcl && (o.WorkersTable == o.Table || !tableName.MatchString(o.WorkersTable)):
		errs = append(errs, &shardlog.InvalidError{Field: "WorkersTable", Value: o.WorkersTable, Limit: name + ", and not Table"})
	}
	return errors.Join(errs...)
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
		err = s.ready(ctx, l.Key)
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
		err = s.ready(ctx, l.Key)
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
		err = s.ready(ctx, l.Key)
	}
	if err != nil {
		return fault("delete", l.Key, err)
	}
	t := s.of(l.Key)
	_, err = s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &t.name, Key: t.itemKey(l.Key),
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
		err = s.ready(ctx, k)
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
	t := s.of(k)
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &t.name, Key: t.itemKey(k), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return checkpoint.Lease{}, unavailable(ctx, err)
	}
	l, ours, err := t.lease(out.Item)
	if !ours { // none, or one that KCL keeps for itself
		return checkpoint.Lease{}, shardlog.ErrNotFound
	}
	return l, err
}

// List implements checkpoint.Store. It is not a view of one moment: a row that
// changes while the table is read is seen as it was before or after.
func (s *Store) List(ctx context.Context, group, stream string) ([]checkpoint.Lease, error) {
	k := checkpoint.Key{Group: group, Stream: stream}
	if err := s.ready(ctx, k); err != nil {
		return nil, fault("list", k, err)
	}
	var out []checkpoint.Lease
	for _, t := range s.tables(group, stream) {
		pages := dynamodb.NewScanPaginator(s.client, &dynamodb.ScanInput{TableName: &t.name, ConsistentRead: aws.Bool(true)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, fault("list", k, unavailable(ctx, err))
			}
			for _, i := range page.Items {
				l, ours, err := t.lease(i)
				if !ours || l.Group != group || (stream != "" && l.Stream != stream) {
					continue
				}
				if err != nil {
					return nil, fault("list", l.Key, err)
				}
				out = append(out, l)
			}
		}
	}
	slices.SortFunc(out, func(a, b checkpoint.Lease) int { return a.Key.Compare(b.Key) })
	return out, nil
}

// updateItem writes all attributes of a row, and removes those that it does
// not have; those of others stay.
func (s *Store) updateItem(l checkpoint.Lease, condition string, is types.AttributeValue) *dynamodb.UpdateItemInput {
	t := s.of(l.Key)
	attrs := t.attributes(l)
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
		TableName: &t.name, Key: t.itemKey(l.Key), ConditionExpression: &condition,
		UpdateExpression: &expr, ExpressionAttributeValues: values,
	}
}
