package dynamodbcheckpoint

import (
	"math"
	"math/big"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

var seq = shardlog.NewSequenceNumber(1_700_000_000, 3, 77, 1_700_000_100)

func kclStore() *Store { return &Store{leases: kclTable(), others: table{name: "app-workers"}} }

func kclTable() table { return table{name: "app", group: "app", stream: "orders"} }

// whole is an item with its key, as DynamoDB gives it back.
func whole(t table, l checkpoint.Lease) item {
	i := t.attributes(l)
	i[leaseKey] = text(t.keyName(l.Key))
	return i
}

func full() checkpoint.Lease {
	p := shardlog.AfterSub(seq, 4)
	return checkpoint.Lease{
		Key: checkpoint.Key{Group: "app", Stream: "orders", Shard: "shardId-000000000003"}, Version: 1 << 60, Epoch: math.MaxUint64,
		Owner: "w1", Next: "w2", Beat: 9, Checkpoint: shardlog.After(seq), Prepared: &p, PreparedState: []byte{0, 1, 255},
		Parents: []string{"b", "a"}, Children: []string{"y", "x"}, HashStart: shardlog.NewHashKey(1, 2), HashEnd: shardlog.MaxHashKey, Switches: 3,
	}
}

func TestRowsSurviveTheLayout(t *testing.T) {
	s := kclStore()
	rows := map[string]func(*checkpoint.Lease){
		"full":           func(*checkpoint.Lease) {},
		"empty":          func(l *checkpoint.Lease) { *l = checkpoint.Lease{Key: l.Key} },
		"no next":        func(l *checkpoint.Lease) { l.Next = "" },
		"no owner":       func(l *checkpoint.Lease) { l.Owner = "" },
		"at":             func(l *checkpoint.Lease) { l.Checkpoint = shardlog.At(seq) },
		"latest":         func(l *checkpoint.Lease) { l.Checkpoint = shardlog.Latest() },
		"ended":          func(l *checkpoint.Lease) { l.Ended = true },
		"sub":            func(l *checkpoint.Lease) { l.Checkpoint = shardlog.AfterSub(seq, math.MaxUint32) },
		"links twice":    func(l *checkpoint.Lease) { l.Parents = []string{"a", "a"} },
		"of others":      func(l *checkpoint.Lease) { l.Group = "other/%" },
		"awkward shard":  func(l *checkpoint.Lease) { l.Shard = "a/b\x00" },
		"state, no plan": func(l *checkpoint.Lease) { l.Prepared = nil },
	}
	for name, change := range rows {
		t.Run(name, func(t *testing.T) {
			l := full()
			change(&l)
			at := s.of(l.Key)
			got, ours, err := at.lease(whole(at, l))
			require.NoError(t, err)
			require.True(t, ours)
			require.Equal(t, l, got)
		})
	}
}

// Only shards of the group's stream are leases of KCL.
func TestTheTableOfARow(t *testing.T) {
	s, l := kclStore(), full()
	require.Equal(t, s.leases, s.of(l.Key))
	require.Equal(t, text("LEASE"), s.leases.attributes(l)[entityType])
	for _, k := range []checkpoint.Key{
		{Group: "app", Stream: "orders/workers", Shard: "worker/w1"},
		{Group: "app", Stream: "orders/workers", Shard: "group"},
		{Group: "app", Stream: "other", Shard: l.Shard},
		{Group: "other", Stream: "orders", Shard: l.Shard},
	} {
		require.Equal(t, s.others, s.of(k), "%v", k)
		l.Key = k
		require.NotContains(t, s.others.attributes(l), entityType)
		_, ours, err := s.leases.lease(whole(s.others, l))
		require.NoError(t, err)
		require.False(t, ours, "%v is no row of KCL's table", k)
	}
	require.Equal(t, []table{s.leases, s.others}, s.tables("app", ""))
	require.Equal(t, []table{s.leases}, s.tables("app", "orders"))
	require.Equal(t, []table{s.others}, s.tables("app", "orders/workers"))
	require.Equal(t, []table{s.others}, s.tables("other", ""))
	plain := &Store{leases: table{name: "t"}, others: table{name: "t"}}
	require.Equal(t, []table{{name: "t"}}, plain.tables("app", ""))
}

// KCL cannot read a lease whose range has less than two keys.
func TestRangesThatKCLCannotRead(t *testing.T) {
	for _, at := range []shardlog.HashKey{{}, shardlog.NewHashKey(1, 2)} {
		l := full()
		l.HashStart, l.HashEnd = at, at
		i := whole(kclTable(), l)
		require.NotContains(t, i, hashStart)
		require.NotContains(t, i, hashEnd)
		got, _, err := kclTable().lease(i)
		require.NoError(t, err)
		require.Equal(t, l, got)
	}
}

// KCL 3.5 keeps more than leases in the table, see EntityType in its source.
func TestEntitiesOfKCL(t *testing.T) {
	for _, e := range []string{"WORKER_METRIC_STATS", "LEADER", "STREAM", "CLIENT_VERSION_MIGRATION", "TABLE_MIGRATION", "ONE_OF_A_LATER_VERSION", ""} {
		for _, at := range []table{kclTable(), {name: "t"}} {
			i := whole(at, full())
			i[entityType] = text(e)
			_, ours, err := at.lease(i)
			require.NoError(t, err, e)
			require.False(t, ours, e)
		}
	}
	i := whole(kclTable(), full())
	for _, e := range []types.AttributeValue{nil, text("LEASE")} {
		delete(i, entityType)
		if e != nil {
			i[entityType] = e
		}
		l, ours, err := kclTable().lease(i)
		require.NoError(t, err)
		require.True(t, ours)
		require.Equal(t, full(), l)
	}
}

// What KCL 3 writes for a shard that it works on (the attributes and their
// types are those of its serializer).
func TestRowsOfKCL(t *testing.T) {
	s := kclTable()
	i := item{
		leaseKey: text("shardId-000000000003"), leaseOwner: text("worker"), leaseCounter: number(41),
		checkpointSeq: text(seq.String()), checkpointSub: number(2), switches: number(1),
		parents:   &types.AttributeValueMemberSS{Value: []string{"shardId-000000000001"}},
		hashStart: text("0"), hashEnd: text("340282366920938463463374607431768211455"), "throughputKBps": number(3),
	}
	l, ours, err := s.lease(i)
	require.NoError(t, err)
	require.True(t, ours)
	require.Equal(t, checkpoint.Lease{
		Key: checkpoint.Key{Group: "app", Stream: "orders", Shard: "shardId-000000000003"}, Version: 41, Epoch: 1, Owner: "worker",
		Checkpoint: shardlog.AfterSub(seq, 2), Parents: []string{"shardId-000000000001"}, HashStart: shardlog.NewHashKey(0, 0), HashEnd: shardlog.MaxHashKey, Switches: 1,
	}, l)

	// Kinesis has given out numbers of other forms than the present one.
	for _, n := range []string{"49568167373333333333333333333333333333333333333333333333", "21269319989652663814458848515492872193"} {
		i[checkpointSeq] = text(n)
		l, _, err = s.lease(i)
		require.NoError(t, err)
		assert.Equal(t, n, l.Checkpoint.Sequence().String())
	}

	i[checkpointSeq], i[checkpointSub] = text("SHARD_END"), number(0)
	i[leaseOwner], i[checkpointOwner] = text("next"), text("worker")
	i[pendingSeq], i[pendingSub], i[pendingState] = text("LATEST"), number(0), &types.AttributeValueMemberB{Value: []byte("s")}
	l, _, err = s.lease(i)
	require.NoError(t, err)
	assert.True(t, l.Ended)
	assert.Equal(t, "worker", l.Owner)
	assert.Equal(t, "next", l.Next)
	assert.Equal(t, shardlog.Latest(), *l.Prepared)
	assert.Equal(t, "s", string(l.PreparedState))
}

// KCL changes attributes of rows that this store wrote: they are what counts,
// and what KCL does not know stays.
func TestWhatKCLChangedCounts(t *testing.T) {
	s, l := kclTable(), full()
	i := whole(s, l)
	later := shardlog.NewSequenceNumber(1_700_000_000, 3, 99, 1_700_000_200)
	i[leaseOwner], i[leaseCounter] = text("kcl"), number(l.Version+1)
	delete(i, checkpointOwner)
	i[checkpointSeq], i[checkpointSub] = text(later.String()), number(0)
	delete(i, pendingSeq)
	delete(i, pendingSub)
	delete(i, pendingState)
	i[children] = &types.AttributeValueMemberSS{Value: []string{"z"}}
	i[switches] = number(0)
	i[hashStart] = text("5")
	got, _, err := s.lease(i)
	require.NoError(t, err)
	want := l
	want.Version++
	want.Owner, want.Next, want.Epoch = "kcl", "", l.Epoch+1
	want.Checkpoint, want.Prepared, want.PreparedState = shardlog.AfterSub(later, 0), nil, nil
	want.Children, want.Switches, want.HashStart = []string{"z"}, 0, shardlog.NewHashKey(0, 5)
	require.Equal(t, want, got)
}

func TestWhatKCLSees(t *testing.T) {
	l := full()
	a := attributes(l)
	require.Equal(t, text("w2"), a[leaseOwner], "the next owner, while it is handed over")
	require.Equal(t, text("w1"), a[checkpointOwner])
	require.Equal(t, text(seq.String()), a[checkpointSeq])
	require.Equal(t, number(math.MaxInt64), a[checkpointSub], "nothing of the record is left")
	require.Equal(t, "shardId-000000000003", kclTable().keyName(l.Key))
	l.Checkpoint = shardlog.At(seq)
	require.Equal(t, text(seq.String()), attributes(l)[checkpointSeq], "a number that the shard knows")
	require.Equal(t, &types.AttributeValueMemberN{Value: "-1"}, attributes(l)[checkpointSub], "the record itself is still to come")
	for name, p := range map[string]shardlog.Position{"TRIM_HORIZON": shardlog.TrimHorizon(), "LATEST": shardlog.Latest()} {
		l.Checkpoint = p
		require.Equal(t, text(name), attributes(l)[checkpointSeq])
	}
}

// An earlier version wrote the number before the record that is still to come.
func TestPositionsOfAnEarlierVersion(t *testing.T) {
	s, l := kclTable(), full()
	l.Checkpoint = shardlog.At(seq)
	p := shardlog.At(seq)
	l.Prepared = &p
	i := whole(s, l)
	n, _ := new(big.Int).SetString(seq.String(), 10)
	before := text(n.Sub(n, big.NewInt(1)).String())
	i[checkpointSeq], i[checkpointSub] = before, number(math.MaxInt64)
	i[pendingSeq], i[pendingSub] = before, number(math.MaxInt64)
	got, _, err := s.lease(i)
	require.NoError(t, err)
	require.Equal(t, l, got)
	for _, sub := range []string{"x", "-9223372036854775809"} {
		i[checkpointSub] = &types.AttributeValueMemberN{Value: sub}
		_, _, err = s.lease(i)
		require.ErrorIs(t, err, shardlog.ErrCorrupt)
	}
	delete(i, row)
	i[checkpointSeq], i[checkpointSub] = text(seq.String()), &types.AttributeValueMemberN{Value: "-1"}
	got, _, err = s.lease(i)
	require.NoError(t, err)
	require.Equal(t, shardlog.At(seq), got.Checkpoint)
}

func TestItemsThatAreNoRows(t *testing.T) {
	s := kclTable()
	for name, i := range map[string]item{
		"no key":            {leaseCounter: number(1)},
		"no counter":        {leaseKey: text("x")},
		"three parts":       {leaseKey: text("a/b/c"), leaseCounter: number(1)},
		"two parts":         {leaseKey: text("a/b"), leaseCounter: number(1)},
		"bad coding":        {leaseKey: text("%!"), leaseCounter: number(1)},
		"key of other type": {leaseKey: number(3), leaseCounter: number(1)},
	} {
		_, ours, err := s.lease(i)
		require.NoError(t, err, name)
		require.False(t, ours, name)
	}
	for name, i := range map[string]item{
		"counter":   {leaseKey: text("x"), leaseCounter: text("1")},
		"position":  {leaseKey: text("x"), leaseCounter: number(1), checkpointSeq: text("soon")},
		"hash key":  {leaseKey: text("x"), leaseCounter: number(1), hashStart: text("-1")},
		"row":       {leaseKey: text("x"), leaseCounter: number(1), row: text("{")},
		"other key": {leaseKey: text("x"), leaseCounter: number(1), row: attributes(full())[row]},
	} {
		_, ours, err := s.lease(i)
		require.True(t, ours, name)
		require.ErrorIs(t, err, shardlog.ErrCorrupt, name)
	}
}

func FuzzItems(f *testing.F) {
	f.Add("shardId-000000000003", seq.String(), uint64(3), "w", "5", "")
	f.Add("%YQ/b/c", "SHARD_END", uint64(0), "", "", `{"v":1}`)
	s := kclTable()
	f.Fuzz(func(t *testing.T, key, at string, sub uint64, owner, hash, data string) {
		i := item{leaseKey: text(key), leaseCounter: number(1), checkpointSeq: text(at), checkpointSub: number(sub), leaseOwner: text(owner), hashStart: text(hash), row: text(data)}
		l, ours, err := s.lease(i)
		if !ours || err != nil {
			return
		}
		again, ours, err := s.lease(whole(s, l))
		require.NoError(t, err)
		require.True(t, ours)
		require.Equal(t, l, again)
	})
}

// Items that other programs have put there: none is taken for a row of ours that
// Get would not find, and none ends the process.
func TestForeignItems(t *testing.T) {
	leases, others := kclTable(), table{name: "app-workers"}
	for _, key := range []string{
		"", "%", "%YR", "%YQ", "%YWFh\n", "%c2hhcmRJZC0x", // "a", and names that need no form of their own
		"%/%/%", "a/b/%YQ", "a//b", "/", "//", "a/b/c/d",
	} {
		for _, t2 := range []table{leases, others} {
			_, ours, err := t2.lease(item{leaseKey: text(key), leaseCounter: number(1)})
			require.NoError(t, err)
			require.False(t, ours, "%q", key)
		}
	}
	null := &types.AttributeValueMemberNULL{Value: true}
	for _, name := range names {
		i := whole(leases, full())
		i[name] = null
		got, ours, err := leases.lease(i)
		if name == entityType {
			require.False(t, ours)
			continue
		}
		require.True(t, ours, name)
		require.Equal(t, full().Key, got.Key, name)
		if err != nil {
			require.ErrorIs(t, err, shardlog.ErrCorrupt, name)
		}
	}
}
