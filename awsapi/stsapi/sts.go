// Package stsapi is the part of AWS's Security Token Service that clients ask
// who they are: GetCallerIdentity. Others of its operations are refused as ones
// that there are not.
package stsapi

import (
	"time"

	"github.com/shardlog/shardlog/awsapi"
	"github.com/shardlog/shardlog/internal/awswire"
)

// Version of the service model.
const version = "2011-06-15"

// presignedLife is how long AWS's STS takes a request that was signed beforehand,
// whatever it says of its life. Its SDK for Go says nothing.
const presignedLife = 15 * time.Minute

// Service returns the service for awsapi.New. Its operations do not block and
// keep nothing.
func Service() *awsapi.Service {
	identity := &awswire.Operation{Name: "GetCallerIdentity", Input: awswire.Structure(), Run: getCallerIdentity}
	return &awsapi.Service{
		Name:          "sts",
		PresignedLife: presignedLife,
		Namespace:     "https://sts.amazonaws.com/doc/" + version + "/",
		Version:       version,
		Protocols:     []*awswire.Protocol{awswire.Query},
		Operations:    map[string]*awswire.Operation{identity.Name: identity},
		Throttled:     func(*awswire.Call) error { return awswire.Errorf("Throttling", "Rate exceeded") },
	}
}

// getCallerIdentity carries out GetCallerIdentity. A key is the owner of its
// account, which AWS calls root, and whose ID is that of the account.
func getCallerIdentity(c *awswire.Call) error {
	e := &c.Out
	e.Open()
	e.TextField("Arn", "arn:"+c.Caller.Partition()+":iam::"+c.Caller.Account+":root")
	e.TextField("UserId", c.Caller.Account)
	e.TextField("Account", c.Caller.Account)
	e.Close()
	return nil
}
