package dynamodbcheckpoint

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

type item = map[string]types.AttributeValue

// Attributes, as KCL names them (DynamoDBLeaseSerializer in its source), and ours.
const (
	leaseKey        = "leaseKey"
	leaseOwner      = "leaseOwner"
	leaseCounter    = "leaseCounter"
	checkpointOwner = "checkpointOwner"
	checkpointSeq   = "checkpoint"
	checkpointSub   = "checkpointSubSequenceNumber"
	pendingSeq      = "pendingCheckpoint"
	pendingSub      = "pendingCheckpointSubSequenceNumber"
	pendingState    = "pendingCheckpointState"
	switches        = "ownerSwitchesSinceCheckpoint"
	parents         = "parentShardId"
	children        = "childShardIds"
	hashStart       = "startingHashKey"
	hashEnd         = "endingHashKey"
	// entityType says since KCL 3.5 what a row of the table is.
	entityType = "entityType"
	// row has what KCL's attributes cannot say, in checkpoint.Marshal's form.
	row = "shardlogRow"
)

// names are those that a write sets or removes.
var names = []string{
	leaseOwner, leaseCounter, checkpointOwner, checkpointSeq, checkpointSub, pendingSeq, pendingSub, pendingState,
	switches, parents, children, hashStart, hashEnd, entityType, row,
}

// entityLease is the entityType of a lease; one without is a lease too.
const entityLease = "LEASE"

// KCL's names of positions.
const (
	trimHorizon = "TRIM_HORIZON"
	latest      = "LATEST"
	atTimestamp = "AT_TIMESTAMP"
	shardEnd    = "SHARD_END"
)

var plain = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// part is a piece of a leaseKey; it has no slash, and is at most 341 bytes.
func part(s string) string {
	if plain.MatchString(s) {
		return s
	}
	return "%" + base64.RawURLEncoding.EncodeToString([]byte(s))
}

func unpart(s string) (string, bool) {
	coded, ok := strings.CutPrefix(s, "%")
	if !ok {
		return s, true
	}
	b, err := base64.RawURLEncoding.DecodeString(coded)
	return string(b), err == nil
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n uint64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatUint(n, 10)}
}

// attributes is a row as it is stored in any table.
func attributes(l checkpoint.Lease) item {
	a := item{leaseCounter: number(l.Version), switches: number(l.Switches)}
	// KCL cannot read a lease with another range than one of several keys.
	if l.HashStart.Compare(l.HashEnd) < 0 {
		a[hashStart], a[hashEnd] = text(l.HashStart.String()), text(l.HashEnd.String())
	}
	// During a hand-over leaseOwner is already the next one.
	switch {
	case l.Next != "":
		a[leaseOwner], a[checkpointOwner] = text(l.Next), text(l.Owner)
	case l.Owner != "":
		a[leaseOwner] = text(l.Owner)
	}
	a[checkpointSeq], a[checkpointSub] = position(l.Checkpoint)
	if l.Ended {
		a[checkpointSeq], a[checkpointSub] = text(shardEnd), number(0)
	}
	if l.Prepared != nil {
		a[pendingSeq], a[pendingSub] = position(*l.Prepared)
	}
	if len(l.PreparedState) > 0 {
		a[pendingState] = &types.AttributeValueMemberB{Value: l.PreparedState}
	}
	for name, ids := range map[string][]string{parents: l.Parents, children: l.Children} {
		if len(ids) > 0 {
			a[name] = set(ids)
		}
	}
	l.Version, l.PreparedState = 0, nil
	data, err := checkpoint.Marshal(l)
	if err != nil {
		panic(err) // it was validated
	}
	a[row] = text(string(data))
	return a
}

// set is a string set: DynamoDB gives it back in no order.
func set(ids []string) types.AttributeValue {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return &types.AttributeValueMemberSS{Value: slices.Compact(ids)}
}

// position says in KCL's words where p is. KCL's checkpoint is the last record
// that was done, with the number inside of it. KCL asks Kinesis for the record
// with that number, and leaves out what is up to it, so the number is one of the
// shard's and no other: before all that is inside of a record is -1.
func position(p shardlog.Position) (seq, sub types.AttributeValue) {
	switch p.Kind() {
	case shardlog.KindTrimHorizon:
		return text(trimHorizon), number(0)
	case shardlog.KindLatest:
		return text(latest), number(0)
	case shardlog.KindAtTime:
		return text(atTimestamp), number(0)
	case shardlog.KindAt:
		return text(p.Sequence().String()), &types.AttributeValueMemberN{Value: strconv.Itoa(nothingOf)}
	}
	if p.SubSequence() == shardlog.WholeRecord {
		return text(p.Sequence().String()), number(math.MaxInt64)
	}
	return text(p.Sequence().String()), number(uint64(p.SubSequence()))
}

// nothingOf is the number inside of a record of which nothing was done.
const nothingOf = -1

// earlierAt is how an earlier version wrote a KindAt: the number before, which
// is none of the shard's, so Kinesis refuses it.
func earlierAt(p shardlog.Position) (seq, sub types.AttributeValue) {
	if p.Kind() != shardlog.KindAt {
		return position(p)
	}
	n, _ := new(big.Int).SetString(p.Sequence().String(), 10)
	return text(n.Sub(n, big.NewInt(1)).String()), number(math.MaxInt64)
}

// errPosition is a checkpoint of KCL's that cannot be read.
var errPosition = errors.New("checkpoint of an unknown form")

// parsePosition is the reverse of position, for a checkpoint that KCL wrote.
func parsePosition(i item, seqName, subName string) (shardlog.Position, error) {
	seq := str(i, seqName)
	switch seq {
	case trimHorizon, "", shardEnd:
		return shardlog.TrimHorizon(), nil
	case latest:
		return shardlog.Latest(), nil
	}
	n, err := shardlog.ParseSequenceNumber(seq)
	if err != nil {
		return shardlog.Position{}, fmt.Errorf("%w: %q", errPosition, seq)
	}
	sub, err := num(i, subName, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })
	switch {
	case err != nil:
		return shardlog.Position{}, err
	case sub < 0:
		return shardlog.At(n), nil
	case sub > math.MaxUint32:
		return shardlog.After(n), nil
	}
	return shardlog.AfterSub(n, uint32(sub)), nil
}

// lease reads an item. Ours is false for one that is no row; with an error the
// key is set. What KCL's attributes say counts where they are not what the row
// that is stored with them would have given: then KCL has changed them.
func (t table) lease(i item) (l checkpoint.Lease, ours bool, err error) {
	k, ok := t.parseKey(str(i, leaseKey))
	if _, counted := i[leaseCounter]; !ok || !counted || k.Validate() != nil {
		return l, false, nil
	}
	if _, typed := i[entityType]; typed && str(i, entityType) != entityLease {
		return l, false, nil
	}
	damaged := func(err error) (checkpoint.Lease, bool, error) {
		return checkpoint.Lease{Key: k}, true, fmt.Errorf("%w row: %v", shardlog.ErrCorrupt, err)
	}
	l.Key = k
	if data := str(i, row); data != "" {
		if l, err = checkpoint.Unmarshal([]byte(data)); err != nil {
			return checkpoint.Lease{Key: k}, true, err
		}
		if l.Key != k {
			return damaged(fmt.Errorf("of another key, %v", l.Key))
		}
	}
	if l.Version, err = count(i, leaseCounter); err != nil {
		return damaged(err)
	}
	if b, ok := i[pendingState].(*types.AttributeValueMemberB); ok {
		l.PreparedState = slices.Clone(b.Value)
	}
	err = l.Validate()
	if err == nil {
		err = adopt(&l, i)
	}
	if err == nil {
		err = l.Validate()
	}
	if err != nil {
		return damaged(err)
	}
	return l, true, nil
}

// adopt takes over what KCL has changed, attribute by attribute.
func adopt(l *checkpoint.Lease, i item) error {
	was := attributes(*l)
	changed := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return !equal(was[n], i[n]) })
	}
	if changed(leaseOwner, checkpointOwner) {
		l.Owner, l.Next = str(i, leaseOwner), ""
		if _, handOver := i[checkpointOwner]; handOver {
			l.Owner, l.Next = str(i, checkpointOwner), l.Owner
		}
		l.Epoch++ // a token that nobody has yet
	}
	// moved is changed, for a position.
	moved := func(seqName, subName string, p *shardlog.Position) bool {
		if !changed(seqName, subName) {
			return false
		}
		if p == nil {
			return true
		}
		seq, sub := earlierAt(*p)
		return !equal(seq, i[seqName]) || !equal(sub, i[subName])
	}
	if moved(checkpointSeq, checkpointSub, &l.Checkpoint) {
		at, err := parsePosition(i, checkpointSeq, checkpointSub)
		if err != nil {
			return err
		}
		if l.Ended = str(i, checkpointSeq) == shardEnd; !l.Ended {
			l.Checkpoint = at
		}
	}
	if moved(pendingSeq, pendingSub, l.Prepared) {
		l.Prepared = nil
		if str(i, pendingSeq) != "" {
			p, err := parsePosition(i, pendingSeq, pendingSub)
			if err != nil {
				return err
			}
			l.Prepared = &p
		}
	}
	if changed(parents) {
		l.Parents = strs(i, parents)
	}
	if changed(children) {
		l.Children = strs(i, children)
	}
	return adoptNumbers(l, i, changed)
}

func adoptNumbers(l *checkpoint.Lease, i item, changed func(...string) bool) (err error) {
	if changed(switches) {
		if l.Switches, err = count(i, switches); err != nil {
			return err
		}
	}
	for name, at := range map[string]*shardlog.HashKey{hashStart: &l.HashStart, hashEnd: &l.HashEnd} {
		if v := str(i, name); changed(name) && v != "" {
			if err := at.UnmarshalText([]byte(v)); err != nil {
				return err
			}
		}
	}
	return nil
}

func equal(a, b types.AttributeValue) bool {
	if s, ok := b.(*types.AttributeValueMemberSS); ok {
		b = set(s.Value)
	}
	return reflect.DeepEqual(a, b)
}

func str(i item, name string) string {
	if s, ok := i[name].(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}

func strs(i item, name string) []string {
	if s, ok := i[name].(*types.AttributeValueMemberSS); ok {
		return set(s.Value).(*types.AttributeValueMemberSS).Value
	}
	return nil
}

// count is 0 for a number that is not there.
func count(i item, name string) (uint64, error) {
	return num(i, name, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
}

func num[N any](i item, name string, parse func(string) (N, error)) (n N, err error) {
	switch v := i[name].(type) {
	case nil:
		return n, nil
	case *types.AttributeValueMemberN:
		return parse(v.Value)
	}
	return n, fmt.Errorf("%s is no number", name)
}
