package producer

import "time"

// RequestInfo describes a request.
type RequestInfo struct {
	// Records is how many records the sink is given; UserRecords, how many
	// were put for them. They differ when records are aggregated.
	Records, UserRecords int
	// Bytes is the size of the records.
	Bytes int
	// Resent is set when the request was sent before, with an unknown outcome.
	Resent bool
}

// RequestOutcome is the outcome of a call of the sink.
type RequestOutcome struct {
	// Duration is how long the call took.
	Duration time.Duration
	// Failed is how many of the records are not stored, or not known to be.
	Failed int
	// Err is the error of the call, or of the first record that failed.
	Err error
}
