package kinesisapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func (e *endpoint) summary(name string) obj {
	e.t.Helper()
	return e.ok("DescribeStreamSummary", obj{"StreamName": name})["StreamDescriptionSummary"].(obj)
}

func TestEncryption(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	require.Equal(t, "NONE", e.summary("s")["EncryptionType"])
	in := obj{"StreamName": "s", "EncryptionType": "KMS", "KeyId": "alias/key"}
	e.ok("StartStreamEncryption", in)
	require.Equal(t, []any{"KMS", "alias/key"}, []any{e.summary("s")["EncryptionType"], e.summary("s")["KeyId"]})
	e.ok("StopStreamEncryption", in)
	require.NotContains(t, e.summary("s"), "KeyId")
	in["EncryptionType"] = "NONE"
	e.fails("StartStreamEncryption", in, codeInvalid, e.message("StartStreamEncryption", in))
	e.fails("StopStreamEncryption", in, codeInvalid, e.message("StopStreamEncryption", in))
}

func TestMonitoring(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	in := obj{"StreamName": "s", "ShardLevelMetrics": []string{"IncomingBytes", "OutgoingBytes"}}
	out := e.ok("EnableEnhancedMonitoring", in)
	require.Equal(t, obj{"StreamName": "s", "StreamARN": testARN + "s", "CurrentShardLevelMetrics": []any{}, "DesiredShardLevelMetrics": []any{"IncomingBytes", "OutgoingBytes"}}, out)
	in["ShardLevelMetrics"] = []string{"IncomingBytes"}
	out = e.ok("DisableEnhancedMonitoring", in)
	require.Equal(t, []any{"OutgoingBytes"}, out["DesiredShardLevelMetrics"])
	require.Equal(t, []any{obj{"ShardLevelMetrics": []any{"OutgoingBytes"}}}, e.summary("s")["EnhancedMonitoring"])
	in["ShardLevelMetrics"] = []string{"ALL"}
	require.Len(t, e.ok("EnableEnhancedMonitoring", in)["DesiredShardLevelMetrics"], 7)
	require.Empty(t, e.ok("DisableEnhancedMonitoring", in)["DesiredShardLevelMetrics"])
	in["ShardLevelMetrics"] = []string{"x"}
	e.fails("EnableEnhancedMonitoring", in, codeValidation, e.message("EnableEnhancedMonitoring", in))
}

func TestModes(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	mode := func(m string) obj {
		return obj{"StreamARN": testARN + "s", "StreamModeDetails": obj{"StreamMode": m}}
	}
	warm := obj{"StreamName": "s", "WarmThroughputMiBps": 100}
	e.fails("UpdateStreamWarmThroughput", warm, codeInvalid, e.message("UpdateStreamWarmThroughput", warm))
	e.ok("UpdateStreamMode", mode("ON_DEMAND"))
	e.fails("UpdateShardCount", obj{"StreamName": "s", "TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING"}, codeValidation,
		"Request is invalid. Stream s under account 123456789012 is in On-Demand mode.")
	out := e.ok("UpdateStreamWarmThroughput", warm)
	require.Equal(t, obj{"TargetMiBps": 100.0, "CurrentMiBps": 0.0}, out["WarmThroughput"])
	require.Equal(t, obj{"TargetMiBps": 100.0, "CurrentMiBps": 100.0}, e.summary("s")["WarmThroughput"])
	require.EqualValues(t, 1, e.ok("DescribeLimits", obj{})["OnDemandStreamCount"])
	e.ok("UpdateStreamMode", mode("PROVISIONED"))
	require.NotContains(t, e.summary("s"), "WarmThroughput")
	in := mode("PROVISIONED")
	in["WarmThroughputMiBps"] = 5
	e.fails("UpdateStreamMode", in, codeInvalid, e.message("UpdateStreamMode", in))
}

// testPolicy returns a policy that the resource of an ARN can have.
func testPolicy(arn string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kinesis:GetRecords","Resource":"` + arn + `"}]}`
}

func TestPolicies(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	con := e.register("s", "c")
	for _, arn := range []string{testARN + "s", con} {
		by := obj{"ResourceARN": arn}
		require.Equal(t, obj{"Policy": "{}"}, e.ok("GetResourcePolicy", by))
		policy := testPolicy(arn)
		e.ok("PutResourcePolicy", obj{"ResourceARN": arn, "Policy": policy})
		require.Equal(t, obj{"Policy": policy}, e.ok("GetResourcePolicy", by))
		// White space counts for nothing, also where it is more than can be stored.
		e.ok("PutResourcePolicy", obj{"ResourceARN": arn, "Policy": strings.Replace(policy, ":", " : "+strings.Repeat("\n", 100_000), 1)})
		require.Equal(t, obj{"Policy": policy}, e.ok("GetResourcePolicy", by))
		e.ok("DeleteResourcePolicy", by)
		e.ok("DeleteResourcePolicy", by)
		require.Equal(t, obj{"Policy": "{}"}, e.ok("GetResourcePolicy", by))
		for _, bad := range []string{"x", "[]", "{}", `{"Statement":[]}`, testPolicy(testARN + "other"), testPolicy("*"), testPolicy(arn) + "x", strings.Replace(testPolicy(arn), "Effect", "effect", 1),
			strings.Replace(testPolicy(arn), `"Effect":"Allow"`, `"Effect":"Allow","Effect":"Deny"`, 1), strings.Replace(testPolicy(arn), "kinesis:", "s3:", 1), `{"Statement":[],"x":"` + strings.Repeat("x", maxPolicy) + `"}`} {
			in := obj{"ResourceARN": arn, "Policy": bad}
			e.fails("PutResourcePolicy", in, codeInvalid, e.message("PutResourcePolicy", in))
		}
	}
	e.fails("GetResourcePolicy", obj{"ResourceARN": testARN + "t"}, codeNotFound, "Stream t under account 123456789012 not found.")
	e.fails("GetResourcePolicy", obj{"ResourceARN": testARN + "s/consumer/x:1"}, codeNotFound, "Consumer "+testARN+"s/consumer/x:1 not found.")
}

func TestAccountSettings(t *testing.T) {
	e := newEndpoint(t, nil)
	set := func(status string) obj {
		return e.ok("UpdateAccountSettings", obj{"MinimumThroughputBillingCommitment": obj{"Status": status}})["MinimumThroughputBillingCommitment"].(obj)
	}
	get := func() obj {
		return e.ok("DescribeAccountSettings", obj{})["MinimumThroughputBillingCommitment"].(obj)
	}
	require.Equal(t, obj{"Status": "DISABLED"}, get())
	require.Equal(t, "ENABLED", set("ENABLED")["Status"])
	require.Contains(t, get(), "EarliestAllowedEndAt")
	require.Equal(t, "ENABLED_UNTIL_EARLIEST_ALLOWED_END", set("DISABLED")["Status"])
	e.h.SetClockOffset(25 * time.Hour)
	require.Equal(t, "DISABLED", get()["Status"])
	set("ENABLED")
	e.h.SetClockOffset(50 * time.Hour)
	require.Equal(t, "DISABLED", set("DISABLED")["Status"])
}

func TestTags(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	e.ok("AddTagsToStream", obj{"StreamName": "s", "Tags": obj{"b": "2", "a": "1", "c": ""}})
	e.ok("TagResource", obj{"ResourceARN": testARN + "s", "Tags": obj{"b": "22", "ü /=+-@": "x"}})
	out := e.ok("ListTagsForStream", obj{"StreamName": "s", "Limit": 2})
	require.Equal(t, obj{"Tags": []any{obj{"Key": "a", "Value": "1"}, obj{"Key": "b", "Value": "22"}}, "HasMoreTags": true}, out)
	out = e.ok("ListTagsForStream", obj{"StreamName": "s", "ExclusiveStartTagKey": "b"})
	require.Len(t, out["Tags"], 2)
	require.Equal(t, false, out["HasMoreTags"])
	e.ok("RemoveTagsFromStream", obj{"StreamName": "s", "TagKeys": []string{"a", "none"}})
	e.ok("UntagResource", obj{"ResourceARN": testARN + "s", "TagKeys": []string{"b"}})
	require.Len(t, e.ok("ListTagsForResource", obj{"ResourceARN": testARN + "s"})["Tags"], 2)
	e.fails("AddTagsToStream", obj{"StreamName": "s", "Tags": obj{"a;": "b"}}, codeInvalid, "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @.")
	e.fails("RemoveTagsFromStream", obj{"StreamName": "s", "TagKeys": []string{"%"}}, codeInvalid,
		"Failed to remove tags from stream s under account 123456789012 because some tags contained illegal characters. The allowed characters are Unicode letters, white-spaces, '_',',','/','=','+','-','@'.")
	many := obj{}
	for i := range 49 {
		many[fmt.Sprint(i)] = ""
	}
	e.fails("AddTagsToStream", obj{"StreamName": "s", "Tags": many}, codeInvalid,
		"Failed to add tags to stream s under account 123456789012 because a given stream cannot have more than 50 tags associated with it.")
	e.fails("ListTagsForResource", obj{"ResourceARN": testARN + "t"}, codeNotFound, "Stream t under account 123456789012 not found.")
}

// TestModel checks what the service model of 2013-12-02 lists, by name: 45, of which
// five are about channels.
func TestModel(t *testing.T) {
	require.Len(t, testOperations, 40)
	require.NotContains(t, testOperations, "CreateChannel")
	for name, op := range testOperations {
		require.Equal(t, name, op.Name)
		require.NotNil(t, op.Run, name)
		require.NotNil(t, op.Input, name)
	}
}

// A commitment that several requests begin at the same time begins once: all of
// them are answered with the same beginning.
func TestAccountUpdatesAtTheSameTime(t *testing.T) {
	body, err := json.Marshal(obj{"MinimumThroughputBillingCommitment": obj{"Status": "ENABLED"}})
	require.NoError(t, err)
	for range 20 {
		e := newEndpoint(t, nil)
		var wg sync.WaitGroup
		begin, answers := make(chan struct{}), make([]string, 8)
		for i := range answers {
			wg.Go(func() {
				<-begin
				e.h.SetClockOffset(time.Duration(i) * time.Minute) // so that beginnings differ
				answers[i] = e.do(newRequest("UpdateAccountSettings", typeJSON, body)).Body.String()
			})
		}
		close(begin)
		wg.Wait()
		for _, a := range answers {
			require.Equal(t, answers[0], a)
		}
	}
}
