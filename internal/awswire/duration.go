package awswire

import (
	"time"

	"github.com/shardlog/shardlog"
)

// Duration is written as text, such as "100ms", in the JSON of admin requests.
// An empty text is 0.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = 0
		return nil
	}
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return &shardlog.InvalidError{Field: "duration", Value: string(text), Limit: "a number with a unit, such as 100ms"}
	}
	*d = Duration(v)
	return nil
}
