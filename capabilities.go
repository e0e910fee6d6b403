package shardlog

import "context"

// Capabilities say what a Sink or a Source does beyond its interface. Code
// that needs one asks for it when it is set up, and refuses with
// ErrUnsupported where it is missing, rather than doing less in silence.
type Capabilities struct {
	// RefusesMisrouted: a PutRequest with Ranges is checked against the shards
	// before anything is written, and refused with ErrWrongShard. The sink is
	// a RequestSink.
	RefusesMisrouted bool
	// Idempotent: numbered records of a PutRequest are stored once, however
	// often they are sent, and older producers are fenced. The sink is a
	// RequestSink.
	Idempotent bool
	// DedupID: a record whose DedupID was stored within the stream's window
	// is not stored again.
	DedupID bool
	// Pushes: a Read that waits returns as soon as there is a record, so
	// polling is of no use.
	Pushes bool
}

// Capable is implemented by sinks and sources that have Capabilities; others
// have none.
type Capable interface {
	Capabilities() Capabilities
}

// CapabilitiesOf returns what a sink or a source says of itself.
func CapabilitiesOf(sinkOrSource any) Capabilities {
	if c, ok := sinkOrSource.(Capable); ok {
		return c.Capabilities()
	}
	return Capabilities{}
}

// Named is implemented by sinks and sources that know the name of the stream
// that they are. A consumer takes it for the stream's name in checkpoint rows
// where its options give none.
type Named interface {
	// Name returns the stream's name. It does not block, and always returns
	// the same.
	Name() string
}

// DedicatedReader is implemented by a Source that has, for each reader that asks
// for it, a throughput apart from the limits that its readers share, such as the
// enhanced fan-out of Kinesis. A consumer uses it for its option FanOut.
type DedicatedReader interface {
	// ReadDedicated is Source.Read without the shared limits: they neither
	// delay or refuse it, nor count what it reads.
	ReadDedicated(ctx context.Context, req ReadRequest) (Page, error)
}

// RequestSink is a Sink that takes what exactly-once storage needs along with
// the records.
type RequestSink interface {
	Sink
	// OpenProducer takes over the identity id, 1 to 256 bytes of UTF-8, and
	// returns its new epoch, which is above all earlier ones, also after a
	// restart. Requests of earlier epochs are refused with ErrFenced from then
	// on. Numbers begin anew with each epoch.
	OpenProducer(ctx context.Context, id string) (epoch uint64, err error)
	// PutRequest is PutRecords with more to say. Neither req nor what it
	// refers to is kept after the call. The error matches ErrFenced if the
	// identity was opened again since, and ErrNotFound if it was never opened
	// or not used for so long that the sink forgot it: then nothing of it is
	// under way, and it may be opened again.
	PutRequest(ctx context.Context, req *PutRequest) ([]PutResult, error)
}

// PutRequest is a call of RequestSink.PutRequest.
type PutRequest struct {
	// Records are what to store.
	Records []Record
	// Ranges, unless nil, has for each record the lowest and the highest hash
	// key of the user records that it carries. A record with a range that is
	// not inside the shard on which it would land is refused with
	// ErrWrongShard; it is certain not to be stored.
	Ranges []HashRange
	// Producer and Epoch are an identity and what OpenProducer returned for
	// it; "" stands for none, and then Numbers must be nil.
	Producer string
	Epoch    uint64
	// Numbers has for each record a number that tells it from all others of
	// the epoch, in ascending order. A record whose number is stored already
	// is not stored again; its result has Duplicate set, and the first one's
	// place.
	Numbers []uint64
	// Done promises that no number below it will be sent again, so that the
	// sink can forget them. A request with such a number is ErrInvalid.
	Done uint64
}

// HashRange is a range of hash keys, inclusive.
type HashRange struct {
	First, Last HashKey
}
