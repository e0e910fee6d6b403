package logstore

// Participant is state that is stored in the same transaction as the records
// that change it: what a producer has stored, for example. An append attaches
// updates to its group (see AppendOptions.Joined); what they are is between the
// caller and the participant.
//
// The committer calls both methods, once for each group and without a lock
// held. They must be quick, must not fail and must not call the log.
type Participant interface {
	// Prepare adds what the updates change to the transaction that stores their
	// records. It must be ready for the transaction to fail.
	Prepare(updates []any, tx *Tx)
	// Finish reports the commit's outcome, nil if the updates are stored, before
	// any waiting writer returns. A group that was given up because the one
	// before it failed is finished without having been prepared.
	Finish(updates []any, err error)
}

// attachment is a participant of a group, and its updates in the order in which
// they came.
type attachment struct {
	participant Participant
	updates     []any
}

// AppendOptions says what accompanies the records of AppendWith, and how they
// are stored.
type AppendOptions struct {
	// Check, if set, is called with Log.mu held, before records join a group.
	// Its error refuses them.
	Check func() error
	// Joined, if set, is called with Log.mu held when the records with indexes
	// from <= i < to have joined a group, except those that have an error in
	// their results. It calls attach for each participant.
	Joined func(from, to int, attach func(p Participant, update any))
	// InlineBytes bounds the keys and small values, in bytes, that the
	// participants add to a transaction for this call.
	InlineBytes int
	// Atomic puts all records into one group, whatever their size, so that they
	// are stored together or not at all. The call then fails as a whole.
	Atomic bool
	// Arrivals, unless nil, receives the arrival of each record, in Unix
	// milliseconds, before Joined is called.
	Arrivals []int64
}
