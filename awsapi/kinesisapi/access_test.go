package kinesisapi

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/awswire"
)

// Two accounts with keys that are verified.
const (
	owner    = "111111111111"
	stranger = "222222222222"
)

// newVerified returns an endpoint on which the owner has the stream "s" with a
// shard, a record and the consumer "c", whose ARN is returned.
func newVerified(t *testing.T) (e *endpoint, consumerARN string) {
	t.Helper()
	e = newEndpoint(t, &Options{Credentials: map[string]string{owner: "of the owner", stranger: "of the stranger"}})
	e.signed(owner, "eu-west-1", 200, "CreateStream", obj{"StreamName": "s", "ShardCount": 1})
	e.signed(owner, "eu-west-1", 200, "PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "Data": []byte("secret")})
	out := e.signed(owner, "eu-west-1", 200, "RegisterStreamConsumer", obj{"StreamARN": arnOf(owner, "s"), "ConsumerName": "c"})
	return e, out["Consumer"].(obj)["ConsumerARN"].(string)
}

func arnOf(account, stream string) string {
	return "arn:aws:kinesis:eu-west-1:" + account + ":stream/" + stream
}

// signed makes a call with a key of an account, and checks the status.
func (e *endpoint) signed(account, region string, status int, op string, in any) obj {
	e.t.Helper()
	body, err := json.Marshal(in)
	require.NoError(e.t, err)
	return e.signedBody(account, region, status, op, awswire.JSON11, body)
}

func (e *endpoint) signedBody(account, region string, status int, op string, p *awswire.Protocol, body []byte) obj {
	e.t.Helper()
	r := newRequest(op, p.Media, body)
	secret := e.h.svc.opts.Credentials[account]
	awswire.Sign(r, body, awswire.Credentials{AccessKey: account, Secret: secret}, region, "kinesis", time.Now())
	w := e.do(r)
	require.Equal(e.t, status, w.Code, "%s: %s", op, w.Body)
	out := obj{}
	if w.Body.Len() > 0 && p == awswire.JSON11 {
		require.NoError(e.t, json.Unmarshal(w.Body.Bytes(), &out))
	} else {
		out["cbor"] = w.Body.String()
	}
	return out
}

// samples has a valid value for each member of each input.
func samples(account, consumer string) obj {
	return obj{
		"StreamName": "s", "StreamARN": arnOf(account, "s"), "ResourceARN": arnOf(account, "s"), "ConsumerARN": consumer,
		"StreamId": "abcdefghij0123456789-abc", "ShardId": "shardId-000000000000", "ShardIteratorType": "LATEST", "ShardIterator": "x", "NextToken": "x",
		"Data": []byte("x"), "PartitionKey": "k", "ExplicitHashKey": "0", "SequenceNumberForOrdering": "1", "Records": []obj{{"Data": "", "PartitionKey": "k"}},
		"StartingSequenceNumber": "1", "Timestamp": 1, "Limit": 1, "StartingPosition": obj{"Type": "LATEST"}, "ShardCount": 1,
		"StreamModeDetails": obj{"StreamMode": "PROVISIONED"}, "Tags": obj{"k": "v"}, "TagKeys": []string{"k"}, "WarmThroughputMiBps": 1, "MaxRecordSizeInKiB": 1024,
		"EnforceConsumerDeletion": true, "ExclusiveStartShardId": "shardId-000000000000", "ExclusiveStartStreamName": "s", "MaxResults": 1,
		"StreamCreationTimestamp": 1, "ShardFilter": obj{"Type": "AT_LATEST"}, "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": "1",
		"ShardToMerge": "shardId-000000000000", "AdjacentShardToMerge": "shardId-000000000001", "TargetShardCount": 1, "ScalingType": "UNIFORM_SCALING",
		"RetentionPeriodHours": 48, "ExclusiveStartTagKey": "k", "ConsumerName": "c", "EncryptionType": "KMS", "KeyId": "alias/x", "ShardLevelMetrics": []string{"ALL"},
		"DryRun": false, "RecordDistributionStrategy": "USER_PARTITION_KEY", "Policy": "{}", "MinimumThroughputBillingCommitment": obj{"Status": "ENABLED"},
	}
}

// TestARNsOfOtherAccounts goes through the operations of the model and their
// members, so that it covers new ones as well.
func TestARNsOfOtherAccounts(t *testing.T) {
	e, consumer := newVerified(t)
	shapes := map[*awswire.Shape]bool{shapeStreamARN: true, shapeResourceARN: true, shapeConsumerARN: true}
	named := 0
	for name, op := range operations() {
		all := samples(stranger, strings.Replace(consumer, owner, stranger, 1))
		in := obj{}
		for member := range op.Input.Members() {
			require.Contains(t, all, member, "%s has a member of which the test has no value", name)
			in[member] = all[member]
		}
		for member, shape := range op.Input.Members() {
			require.Equal(t, shapes[shape], namesResource(member), "%s.%s", name, member)
			if !shapes[shape] {
				continue
			}
			named++
			foreign := maps.Clone(in)
			foreign[member] = samples(owner, consumer)[member]
			out := e.signed(stranger, "eu-west-1", 400, name, foreign)
			require.Equal(t, obj{"__type": "AccessDeniedException", "message": "User: arn:aws:iam::222222222222:root is not authorized to perform: kinesis:" + name +
				" on resource: " + foreign[member].(string) + " because no resource-based policy allows the kinesis:" + name + " action"}, out, "%s.%s", name, member)
			// What is not there is answered alike.
			foreign[member] = strings.Replace(foreign[member].(string), "stream/s", "stream/none", 1)
			out = e.signed(stranger, "eu-west-1", 400, name, foreign)
			require.Equal(t, "AccessDeniedException", out["__type"], "%s.%s", name, member)
			// Signed for another region, the owner has no such stream.
			for member := range foreign {
				foreign[member] = samples(owner, consumer)[member]
			}
			out = e.signed(owner, "us-east-1", 400, name, foreign)
			require.Equal(t, obj{"__type": "ResourceNotFoundException", "message": "Stream s under account 111111111111 not found."}, out, "%s.%s", name, member)
		}
	}
	require.Greater(t, named, 30)
	out := e.signed(owner, "eu-west-1", 200, "DescribeStreamSummary", obj{"StreamARN": arnOf(owner, "s")})["StreamDescriptionSummary"].(obj)
	require.EqualValues(t, 24, out["RetentionPeriodHours"])
	require.Equal(t, "NONE", out["EncryptionType"])
}

// The short way to read a body must not be a way around.
func TestPutsOfOtherAccounts(t *testing.T) {
	e, _ := newVerified(t)
	for _, op := range []string{"PutRecord", "PutRecords"} {
		in := obj{"StreamARN": arnOf(owner, "s"), "PartitionKey": "k", "Data": ""}
		if op == "PutRecords" {
			in = obj{"StreamARN": arnOf(owner, "s"), "Records": []obj{{"PartitionKey": "k", "Data": ""}}}
		}
		require.Equal(t, "AccessDeniedException", e.signed(stranger, "eu-west-1", 400, op, in)["__type"])
		b := awswire.Encoder{Format: awswire.FormatCBOR}
		b.Open()
		b.TextField("StreamARN", arnOf(owner, "s"))
		if op == "PutRecords" {
			b.Key("Records")
			b.List()
			b.Open()
		}
		b.Key("Data")
		b.Blob(nil)
		b.TextField("PartitionKey", "k")
		if op == "PutRecords" {
			b.Close()
			b.EndList()
		}
		b.Close()
		require.Contains(t, e.signedBody(stranger, "eu-west-1", 400, op, awswire.CBOR11, b.Buf)["cbor"], "AccessDeniedException")
		e.signed(owner, "eu-west-1", 200, op, in)
		e.signedBody(owner, "eu-west-1", 200, op, awswire.CBOR11, b.Buf)
	}
}

// An iterator or a token for the next page opens nothing for somebody else.
func TestTokensOfOtherAccounts(t *testing.T) {
	e, consumer := newVerified(t)
	at := obj{"StreamName": "s", "ShardId": "0", "ShardIteratorType": "TRIM_HORIZON"}
	it := e.signed(owner, "eu-west-1", 200, "GetShardIterator", at)["ShardIterator"]
	require.Len(t, e.signed(owner, "eu-west-1", 200, "GetRecords", obj{"ShardIterator": it})["Records"], 1)
	out := e.signed(stranger, "eu-west-1", 400, "GetRecords", obj{"ShardIterator": it})
	require.Equal(t, "AccessDeniedException", out["__type"])
	require.Contains(t, out["message"], "kinesis:GetRecords on resource: "+arnOf(owner, "s"))
	out = e.signed(stranger, "eu-west-1", 400, "GetRecords", obj{"ShardIterator": it, "StreamARN": arnOf(stranger, "s")})
	require.Equal(t, "AccessDeniedException", out["__type"])
	out = e.signed(owner, "us-east-1", 400, "GetRecords", obj{"ShardIterator": it})
	require.Equal(t, "Invalid ShardIterator.", out["message"])

	e.signed(owner, "eu-west-1", 200, "CreateStream", obj{"StreamName": "t", "ShardCount": 2})
	e.signed(owner, "eu-west-1", 200, "RegisterStreamConsumer", obj{"StreamARN": arnOf(owner, "s"), "ConsumerName": "d"})
	e.signed(stranger, "eu-west-1", 200, "CreateStream", obj{"StreamName": "s", "ShardCount": 1})
	for op, in := range map[string]obj{"ListShards": {"StreamName": "t", "MaxResults": 1}, "ListStreams": {"Limit": 1}, "ListStreamConsumers": {"StreamARN": arnOf(owner, "s"), "MaxResults": 1}} {
		next := e.signed(owner, "eu-west-1", 200, op, in)["NextToken"]
		require.NotNil(t, next, op)
		in = obj{"NextToken": next}
		if op == "ListStreamConsumers" {
			in["StreamARN"] = arnOf(stranger, "s")
		}
		require.Equal(t, "NextToken is invalid.", e.signed(stranger, "eu-west-1", 400, op, in)["message"], op)
		if op == "ListStreamConsumers" {
			in["StreamARN"] = arnOf(owner, "s")
		}
		e.signed(owner, "eu-west-1", 200, op, in)
	}

	out = e.signed(stranger, "eu-west-1", 400, "SubscribeToShard", obj{"ConsumerARN": consumer, "ShardId": "0", "StartingPosition": obj{"Type": "TRIM_HORIZON"}})
	require.Equal(t, "AccessDeniedException", out["__type"])
}

// Without credentials ARNs name streams of any account, as documented.
func TestARNsWithoutCredentials(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	status, body := e.as(stranger, "DescribeStreamSummary", obj{"StreamARN": testARN + "s"})
	require.Equal(t, 200, status, body)
	status, body = e.as(stranger, "GetRecords", obj{"ShardIterator": e.iterator("s", "0", "TRIM_HORIZON")})
	require.Equal(t, 200, status, body)
}

// Only enter may make a request one of another account.
func TestScopeIsChangedInOnePlace(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if name == "access.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NotContains(t, string(text), "c.Scope =", name)
		require.NotContains(t, string(text), "c.Scope, c.name =", name)
	}
}
