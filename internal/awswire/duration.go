package awswire

import (
	"fmt"
	"time"
)

// Duration is written as text, such as "100ms", in the JSON of admin requests.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 100ms", text)
	}
	*d = Duration(v)
	return nil
}
