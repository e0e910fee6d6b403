package logstore

// Participant is state beside the records that must be stored in the same
// transaction as some of them: what a producer has stored, for example. Its
// updates are what the participant made of each call; see Trip. The committer calls
// both methods, without a lock held; they must be quick, must not fail and must
// not call the log.
type Participant interface {
	// Prepare adds what the updates change to the transaction that stores their
	// records. Nothing of it is certain yet: the transaction may fail.
	Prepare(updates []any, tx *Tx)
	// Finish tells the outcome of the updates, nil if they are stored, before
	// those who wait for the group go on. Tickets of a group that was given
	// up because the one before it failed were not staged.
	Finish(updates []any, err error)
}

// ride is a participant in a group, and its updates in the order in which they came.
type attachment struct {
	participant Participant
	updates     []any
}

// AppendOptions says what goes along with the records of AppendWith.
type AppendOptions struct {
	// Check, if set, is called with the log locked, before records join a
	// group. Its error refuses them.
	Check func() error
	// Joined, if set, is called with the log locked when the records from up to
	// and without to have joined a group: those that have no error in their
	// results. It calls attach for each participant that goes along.
	Joined func(from, to int, attach func(Participant, any))
	// InlineBytes is how many bytes of keys and small values the riders of one call
	// may add to a transaction.
	InlineBytes int
	// Atomic puts all records into one group, whatever their size, so that they
	// are stored together or not at all; the call fails as a whole.
	Atomic bool
	// Arrivals, unless nil, gets the arrival of each record, in Unix
	// milliseconds, before Join is called.
	Arrivals []int64
}
