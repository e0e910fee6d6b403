package kinesisapi

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/shardlog/shardlog/awsapi/iam"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

// startStreamEncryption carries out StartStreamEncryption: it marks the stream, and
// nothing is encrypted.
func startStreamEncryption(c *call) error {
	if c.In.Text("EncryptionType") != "KMS" {
		return invalid("EncryptionType must be KMS to start encryption.")
	}
	return setEncryption(c, true)
}

// stopStreamEncryption carries out StopStreamEncryption.
func stopStreamEncryption(c *call) error {
	if c.In.Text("EncryptionType") != "KMS" {
		return invalid("EncryptionType must be KMS to stop encryption.")
	}
	return setEncryption(c, false)
}

// changeSettings changes the settings of an ACTIVE stream, which is UPDATING
// afterwards. Change works on a copy: if it or the database fails, the stream
// has the settings that it had.
func changeSettings(c *call, change func(*streamState, *settings) error) error {
	s, err := c.lockActive()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	next := *s.settings.Load()
	if err := change(s, &next); err != nil {
		return err
	}
	if err := s.updateSettings(c.Ctx, func(set *settings) { *set = next }); err != nil {
		return err
	}
	s.begin(statusUpdating, c.svc.opts.UpdateTime, c.Clock())
	return nil
}

// allMetrics are those that "ALL" stands for, as AWS orders them.
var allMetrics = []string{"IncomingBytes", "OutgoingRecords", "IteratorAgeMilliseconds", "IncomingRecords",
	"ReadProvisionedThroughputExceeded", "WriteProvisionedThroughputExceeded", "OutgoingBytes"}

// changeMonitoring adds metrics to those of the stream or removes them, and
// answers with those before and after.
func changeMonitoring(c *call, enable bool) error {
	var before, after []string
	err := changeSettings(c, func(_ *streamState, set *settings) error {
		before = set.Metrics
		var given []string
		for _, m := range awswire.Get[[]any](c.In, "ShardLevelMetrics") {
			if given = append(given, m.(string)); m == "ALL" {
				given = allMetrics
				break
			}
		}
		after = slices.Clone(before)
		for _, m := range given {
			at := slices.Index(after, m)
			switch {
			case enable && at < 0:
				after = append(after, m)
			case !enable && at >= 0:
				after = slices.Delete(after, at, at+1)
			}
		}
		set.Metrics = after
		return nil
	})
	if err != nil {
		return err
	}
	e := &c.Out
	e.Open()
	e.TextField("StreamName", c.name)
	e.TextsField("CurrentShardLevelMetrics", before)
	e.TextsField("DesiredShardLevelMetrics", after)
	e.TextField("StreamARN", streamARN(c.Scope, c.name))
	e.Close()
	return nil
}

func enableEnhancedMonitoring(c *call) error { return changeMonitoring(c, true) }

func disableEnhancedMonitoring(c *call) error { return changeMonitoring(c, false) }

// switchesPerDay is how often a stream may change its mode in 24 hours (API
// reference, UpdateStreamMode). It holds with Options.ControlLimits.
const switchesPerDay = 2

// lastDay returns those moments that are less than 24 hours ago.
func lastDay(all []awswire.Moment, clock *awswire.Clock) []awswire.Moment {
	return slices.DeleteFunc(slices.Clone(all), func(m awswire.Moment) bool { return clock.Since(m) >= 24*time.Hour })
}

// updateStreamMode carries out UpdateStreamMode. To set the mode that the stream
// has is no switch and does not count.
func updateStreamMode(c *call) error {
	return changeSettings(c, func(_ *streamState, set *settings) error {
		mode := awswire.Get[awswire.Params](c.In, "StreamModeDetails").Text("StreamMode")
		warm, given := c.In["WarmThroughputMiBps"].(int64)
		if given && mode != modeOnDemand {
			return invalid("WarmThroughputMiBps can only be specified for streams in %s mode.", modeOnDemand)
		}
		if mode != set.mode() {
			recent := lastDay(set.Switches, c.Clock())
			if c.svc.opts.ControlLimits && len(recent) >= switchesPerDay {
				return awswire.Errorf(codeLimit, "Stream %s under account %s has switched its mode %d times in the last 24 hours, which is the limit.", c.name, c.Scope.Account, len(recent))
			}
			set.Switches = append(recent, c.Clock().Moment())
		}
		if set.Mode, set.Warm = mode, warm; mode == modeProvisioned {
			set.Mode, set.Strategy = "", "" // it has partition keys alone
		}
		return nil
	})
}

// updateStreamWarmThroughput carries out UpdateStreamWarmThroughput. The value is
// kept and shown; a stream here needs no warming.
func updateStreamWarmThroughput(c *call) error {
	var before, after int64
	err := changeSettings(c, func(_ *streamState, set *settings) error {
		if set.Mode != modeOnDemand {
			return invalid("Warm throughput can only be updated for streams in %s mode.", modeOnDemand)
		}
		before, after = set.Warm, c.In.Int("WarmThroughputMiBps")
		set.Warm = after
		return nil
	})
	if err != nil {
		return err
	}
	e := &c.Out
	e.Open()
	e.TextField("StreamARN", streamARN(c.Scope, c.name))
	e.TextField("StreamName", c.name)
	e.Key("WarmThroughput")
	e.Open()
	e.IntField("TargetMiBps", after)
	e.IntField("CurrentMiBps", before)
	e.Close()
	e.Close()
	return nil
}

// updateMaxRecordSize carries out UpdateMaxRecordSize. The limit is the stream's
// own, so it holds for records that do not come through the endpoint as well.
func updateMaxRecordSize(c *call) error {
	return changeSettings(c, func(s *streamState, _ *settings) error {
		return s.st.SetMaxRecordSize(c.Ctx, int(c.In.Int("MaxRecordSizeInKiB"))<<10)
	})
}

// maxPolicy is the largest resource policy, 20 KB (developer guide, sharing).
const maxPolicy = 20_480

// policyName returns the attribute that holds the policy of a stream, or of a
// consumer of one. It has the creation of a consumer in it, so that one that is
// registered again does not inherit a policy.
func policyName(con *consumer) string {
	if con == nil {
		return attrPolicy
	}
	return attrPolicy + con.suffix()
}

// putResourcePolicy stores a policy, which has to be one that a resource of
// Kinesis can have.
func putResourcePolicy(c *call) error {
	s, con, err := c.lockActiveResource()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	policy := c.In.Text("Policy")
	if _, err := iam.ParseResourcePolicy(policy, iam.Rules{Service: serviceName, Resource: c.In.Text("ResourceARN"), MaxBytes: maxPolicy}); err != nil {
		return invalid("Policy is not valid: %v.", err)
	}
	if len(policy) > stream.MaxAttributeBytes {
		policy = iam.Compact(policy) // which fits: white space counts for nothing
	}
	return s.st.SetAttributes(c.Ctx, map[string]string{policyName(con): policy})
}

// getResourcePolicy carries out GetResourcePolicy. Without a policy AWS answers
// with an empty document and not with an error.
func getResourcePolicy(c *call) error {
	s, con, err := c.lockResource()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	policy := s.st.Attribute(policyName(con))
	if policy == "" {
		policy = "{}"
	}
	c.Out.Open()
	c.Out.TextField("Policy", policy)
	c.Out.Close()
	return nil
}

// deleteResourcePolicy carries out DeleteResourcePolicy, also if there is none.
func deleteResourcePolicy(c *call) error {
	s, con, err := c.lockActiveResource()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	return s.st.SetAttributes(c.Ctx, map[string]string{policyName(con): ""})
}

// onDemandLimit is how many on-demand streams an account may have by default
// (developer guide, quotas). DescribeLimits shows it; it is not enforced.
const onDemandLimit = 50

// describeLimits carries out DescribeLimits.
func describeLimits(c *call) error {
	n, onDemand, err := countOpenShards(c)
	if err != nil {
		return err
	}
	e := &c.Out
	e.Open()
	e.IntField("ShardLimit", int64(c.svc.opts.ShardLimit))
	e.IntField("OpenShardCount", int64(n))
	e.IntField("OnDemandStreamCount", int64(onDemand))
	e.IntField("OnDemandStreamCountLimit", onDemandLimit)
	e.IntField("ChannelCount", 0)
	e.IntField("ChannelCountLimit", 0) // there are no channels here
	e.Close()
	return nil
}

// account are the settings of an account in a region.
type account struct {
	Status  string         `json:"status,omitempty"` // DISABLED if empty
	Started awswire.Moment `json:"started,omitzero"`
	Ended   int64          `json:"ended,omitempty"` // Unix milliseconds
}

// commitment is how long a minimum throughput billing commitment lasts at
// least (API reference, UpdateAccountSettings: 24 hours).
const commitment = 24 * time.Hour

// accountAttribute returns the attribute of the database that holds the settings
// of the account of a request.
func accountAttribute(c *call) string {
	return "kinesis.account/" + c.Scope.Account + "/" + c.Scope.Region
}

// loadAccount returns the settings of the account of a request. A commitment
// that was to end later has ended if its time has come: nothing else ends it.
func loadAccount(c *call) (a account, err error) {
	text, err := c.svc.db.Attribute(c.Ctx, accountAttribute(c))
	if err == nil && text != "" {
		err = json.Unmarshal([]byte(text), &a)
	}
	if a.Status == "" {
		a.Status = "DISABLED"
	}
	if strings.HasPrefix(a.Status, "ENABLED_") && c.Clock().Since(a.Started) >= commitment {
		a.Status = "DISABLED"
	}
	return a, err
}

// writeAccount writes the answer of both operations on account settings.
func writeAccount(c *call, a account) {
	e := &c.Out
	e.Open()
	e.Key("MinimumThroughputBillingCommitment")
	e.Open()
	e.TextField("Status", a.Status)
	if !a.Started.IsZero() {
		started := a.Started.Time()
		e.TimeField("StartedAt", started)
		if a.Ended != 0 {
			e.TimeField("EndedAt", time.UnixMilli(a.Ended))
		}
		e.TimeField("EarliestAllowedEndAt", started.Add(commitment))
	}
	e.Close()
	e.Close()
}

// describeAccountSettings carries out DescribeAccountSettings.
func describeAccountSettings(c *call) error {
	a, err := loadAccount(c)
	if err == nil {
		writeAccount(c, a)
	}
	return err
}

// updateAccountSettings carries out UpdateAccountSettings. A commitment lasts at
// least a day: disabled earlier, it ends when the day is over.
func updateAccountSettings(c *call) error {
	// Two updates at the same time would each work on what was there before,
	// and one would be lost.
	if err := c.svc.accounts.Lock(c.Ctx); err != nil {
		return err
	}
	defer c.svc.accounts.Unlock()
	a, err := loadAccount(c)
	if err != nil {
		return err
	}
	switch want := awswire.Get[awswire.Params](c.In, "MinimumThroughputBillingCommitment").Text("Status"); {
	case want == "ENABLED" && a.Status != "ENABLED":
		a = account{Status: "ENABLED", Started: c.Clock().Moment()}
	case want == "DISABLED" && a.Status == "ENABLED":
		if a.Status, a.Ended = "DISABLED", c.Now().UnixMilli(); c.Clock().Since(a.Started) < commitment {
			a.Status, a.Ended = "ENABLED_UNTIL_EARLIEST_ALLOWED_END", a.Started.Time().Add(commitment).UnixMilli()
		}
	}
	text, err := json.Marshal(&a)
	if err == nil {
		err = c.svc.db.SetAttribute(c.Ctx, accountAttribute(c), string(text))
	}
	if err == nil {
		writeAccount(c, a)
	}
	return err
}
