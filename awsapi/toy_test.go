package awsapi_test

import (
	"net/http"
	"strings"

	"github.com/shardlog/shardlog/awsapi"
	"github.com/shardlog/shardlog/internal/awswire"
)

// toy is a service over a map, with what a service needs and nothing else: it
// shows that a new one is a table of operations.
func toy() *awsapi.Service {
	words := map[string]string{}
	name := awswire.Text(1, 8, `[a-z]+`)
	limited := func(*awswire.Call, string) error { return awswire.Errorf("Throttled", "Too many words.") }
	define := &awswire.Operation{
		Name: "Define",
		Input: awswire.Structure(awswire.Required("Word", name), awswire.Optional("Means", awswire.Text(0, 100, "")),
			awswire.Optional("Kind", awswire.Enum("NOUN", "VERB")), awswire.Optional("Rank", awswire.Integer(1, 5)),
			awswire.Optional("Like", awswire.List(name, 0, 2)), awswire.Optional("Notes", awswire.Map(name,
				awswire.Structure(awswire.Required("Text", name)), 0, 2))),
		Rate: &awswire.Rate{PerSecond: 2, Key: func(c *awswire.Call) string { return c.In.Text("Word") }, Exceeded: limited},
		Run: func(c *awswire.Call) error {
			words[c.Scope.Account+c.In.Text("Word")] = c.In.Text("Means")
			return nil
		},
	}
	look := &awswire.Operation{
		Name:  "LookUp",
		Input: awswire.Structure(awswire.Required("Word", name)),
		Run: func(c *awswire.Call) error {
			means, ok := words[c.Scope.Account+c.In.Text("Word")]
			if !ok {
				return awswire.Errorf("WordNotFound", "No %s.", c.In.Text("Word"))
			}
			c.Out.Open()
			c.Out.TextField("Means", means)
			c.Out.Close()
			return nil
		},
	}
	return &awsapi.Service{
		Name: "words", TargetPrefix: "Words_2026.", Rates: true,
		Protocols:  []*awswire.Protocol{awswire.JSON10, awswire.JSON11, awswire.CBOR11},
		Operations: map[string]*awswire.Operation{"Define": define, "LookUp": look},
		Resource:   func(c *awswire.Call) string { return c.In.Text("Word") },
		Throttled:  func(c *awswire.Call) error { return limited(c, "") },
		Authorize: func(c *awswire.Call) error {
			if strings.HasPrefix(c.AccessKey, "GUEST") && c.Op == define {
				return &awswire.Error{Code: "AccessDeniedException", Status: http.StatusBadRequest}
			}
			return nil
		},
	}
}
