package kinesisapi

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

func startStreamEncryption(c *call) error {
	if c.in.str("EncryptionType") != "KMS" {
		return invalid("EncryptionType must be KMS to start encryption.")
	}
	return c.setting(func(_ *streamState, set *settings) error {
		set.Encryption, set.KeyID = "KMS", c.in.str("KeyId")
		return nil
	})
}

func stopStreamEncryption(c *call) error {
	if c.in.str("EncryptionType") != "KMS" {
		return invalid("EncryptionType must be KMS to stop encryption.")
	}
	return c.setting(func(_ *streamState, set *settings) error {
		set.Encryption, set.KeyID = "", ""
		return nil
	})
}

// setting changes the settings of an ACTIVE stream, which is UPDATING then.
func (c *call) setting(change func(*streamState, *settings) error) error {
	s, err := c.active()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	next := *s.settings.Load()
	if err := change(s, &next); err != nil {
		return err
	}
	if err := s.update(c.ctx, func(set *settings) { *set = next }); err != nil {
		return err
	}
	c.h.begin(s, statusUpdating, c.h.opts.UpdateTime)
	return nil
}

// allMetrics are those that "ALL" stands for, as AWS orders them.
var allMetrics = []string{"IncomingBytes", "OutgoingRecords", "IteratorAgeMilliseconds", "IncomingRecords",
	"ReadProvisionedThroughputExceeded", "WriteProvisionedThroughputExceeded", "OutgoingBytes"}

func (c *call) monitoring(enable bool) error {
	var before, after []string
	err := c.setting(func(_ *streamState, set *settings) error {
		before = set.Metrics
		var given []string
		for _, m := range get[[]any](c.in, "ShardLevelMetrics") {
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
	e := &c.out
	e.open()
	e.strField("StreamName", c.name)
	e.strings("CurrentShardLevelMetrics", before)
	e.strings("DesiredShardLevelMetrics", after)
	e.strField("StreamARN", c.scope.arn(c.name))
	e.close()
	return nil
}

func enableEnhancedMonitoring(c *call) error { return c.monitoring(true) }

func disableEnhancedMonitoring(c *call) error { return c.monitoring(false) }

// switchesPerDay is how often a stream may change its mode in 24 hours (API
// reference, UpdateStreamMode). It holds with Options.ControlLimits.
const switchesPerDay = 2

// lastDay returns those of times, Unix milliseconds, that are less than 24
// hours ago.
func lastDay(times []int64, now time.Time) []int64 {
	return slices.DeleteFunc(slices.Clone(times), func(ms int64) bool { return now.Sub(time.UnixMilli(ms)) >= 24*time.Hour })
}

func updateStreamMode(c *call) error {
	return c.setting(func(_ *streamState, set *settings) error {
		mode := get[params](c.in, "StreamModeDetails").str("StreamMode")
		warm, given := c.in["WarmThroughputMiBps"].(int64)
		if given && mode != modeOnDemand {
			return invalid("WarmThroughputMiBps can only be specified for streams in %s mode.", modeOnDemand)
		}
		if mode != set.mode() {
			recent := lastDay(set.Switches, c.h.now())
			if c.h.opts.ControlLimits && len(recent) >= switchesPerDay {
				return fault(codeLimit, "Stream %s under account %s has switched its mode %d times in the last 24 hours, which is the limit.", c.name, c.scope.account, len(recent))
			}
			set.Switches = append(recent, c.h.now().UnixMilli())
		}
		if set.Mode, set.Warm = mode, warm; mode == modeProvisioned {
			set.Mode = ""
		}
		return nil
	})
}

func updateStreamWarmThroughput(c *call) error {
	var before, after int64
	err := c.setting(func(_ *streamState, set *settings) error {
		if set.Mode != modeOnDemand {
			return invalid("Warm throughput can only be updated for streams in %s mode.", modeOnDemand)
		}
		before, after = set.Warm, c.in.integer("WarmThroughputMiBps")
		set.Warm = after
		return nil
	})
	if err != nil {
		return err
	}
	e := &c.out
	e.open()
	e.strField("StreamARN", c.scope.arn(c.name))
	e.strField("StreamName", c.name)
	e.key("WarmThroughput")
	e.open()
	e.intField("TargetMiBps", after)
	e.intField("CurrentMiBps", before)
	e.close()
	e.close()
	return nil
}

func updateMaxRecordSize(c *call) error {
	return c.setting(func(s *streamState, _ *settings) error {
		return s.st.SetMaxRecordSize(c.ctx, int(c.in.integer("MaxRecordSizeInKiB"))<<10)
	})
}

// maxPolicy is the largest resource policy, 20 KB (developer guide, sharing).
const maxPolicy = 20_480

// policyName is the attribute that a policy is kept in.
func policyName(con *consumer) string {
	if con == nil {
		return attrPolicy
	}
	return attrPolicy + con.suffix()
}

func putResourcePolicy(c *call) error {
	s, con, err := c.resource()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	policy := c.in.str("Policy")
	switch doc := map[string]any{}; {
	case len(policy) > maxPolicy:
		return invalid("Policy is larger than %d bytes.", maxPolicy)
	case json.Unmarshal([]byte(policy), &doc) != nil || doc["Statement"] == nil:
		return invalid("Policy is not a valid policy document.")
	}
	return s.st.SetAttributes(c.ctx, map[string]string{policyName(con): policy})
}

func getResourcePolicy(c *call) error {
	s, con, err := c.resource()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	policy := s.st.Attribute(policyName(con))
	if policy == "" {
		policy = "{}"
	}
	c.out.open()
	c.out.strField("Policy", policy)
	c.out.close()
	return nil
}

func deleteResourcePolicy(c *call) error {
	s, con, err := c.resource()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	return s.st.SetAttributes(c.ctx, map[string]string{policyName(con): ""})
}

// onDemandLimit is how many on-demand streams an account may have by default
// (developer guide, quotas). It is told, not enforced.
const onDemandLimit = 50

func describeLimits(c *call) error {
	n, onDemand, err := c.openShards()
	if err != nil {
		return err
	}
	e := &c.out
	e.open()
	e.intField("ShardLimit", int64(c.h.opts.ShardLimit))
	e.intField("OpenShardCount", int64(n))
	e.intField("OnDemandStreamCount", int64(onDemand))
	e.intField("OnDemandStreamCountLimit", onDemandLimit)
	e.close()
	return nil
}

// account are the settings of an account in a region.
type account struct {
	Status  string `json:"status,omitempty"`  // DISABLED if empty
	Started int64  `json:"started,omitempty"` // Unix milliseconds
	Ended   int64  `json:"ended,omitempty"`
}

// commitment is how long a minimum throughput billing commitment lasts at
// least (API reference, UpdateAccountSettings: 24 hours).
const commitment = 24 * time.Hour

func (c *call) accountName() string {
	return "kinesis.account/" + c.scope.account + "/" + c.scope.region
}

func (c *call) account() (a account, err error) {
	text, err := c.h.db.Attribute(c.ctx, c.accountName())
	if err == nil && text != "" {
		err = json.Unmarshal([]byte(text), &a)
	}
	if a.Status == "" {
		a.Status = "DISABLED"
	}
	if strings.HasPrefix(a.Status, "ENABLED_") && c.h.now().UnixMilli() >= a.Ended {
		a.Status = "DISABLED"
	}
	return a, err
}

func (c *call) writeAccount(a account) {
	e := &c.out
	e.open()
	e.key("MinimumThroughputBillingCommitment")
	e.open()
	e.strField("Status", a.Status)
	if a.Started != 0 {
		started := time.UnixMilli(a.Started)
		e.timeField("StartedAt", started)
		if a.Ended != 0 {
			e.timeField("EndedAt", time.UnixMilli(a.Ended))
		}
		e.timeField("EarliestAllowedEndAt", started.Add(commitment))
	}
	e.close()
	e.close()
}

func describeAccountSettings(c *call) error {
	a, err := c.account()
	if err == nil {
		c.writeAccount(a)
	}
	return err
}

func updateAccountSettings(c *call) error {
	// Two updates at the same time would each work on what was there before,
	// and one would be lost.
	c.h.accounts.Lock()
	defer c.h.accounts.Unlock()
	a, err := c.account()
	if err != nil {
		return err
	}
	now := c.h.now()
	switch want := get[params](c.in, "MinimumThroughputBillingCommitment").str("Status"); {
	case want == "ENABLED" && a.Status != "ENABLED":
		a = account{Status: "ENABLED", Started: now.UnixMilli()}
	case want == "DISABLED" && a.Status == "ENABLED":
		earliest := time.UnixMilli(a.Started).Add(commitment)
		if a.Status, a.Ended = "DISABLED", now.UnixMilli(); now.Before(earliest) {
			a.Status, a.Ended = "ENABLED_UNTIL_EARLIEST_ALLOWED_END", earliest.UnixMilli()
		}
	}
	text, err := json.Marshal(&a)
	if err == nil {
		err = c.h.db.SetAttribute(c.ctx, c.accountName(), string(text))
	}
	if err == nil {
		c.writeAccount(a)
	}
	return err
}
