package shardlog

import "context"

// Capabilities say what a Sink or a Source can do in addition to its interface.
// The zero value of each field means that it cannot, or that it does not know.
// Code that needs a capability asks for it when it is set up, and refuses with
// ErrUnsupported where it is missing; it does not quietly do less. Capabilities
// are comparable.
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
	// polling would gain nothing.
	Pushes bool

	// KeyRanges: a record is on the shard whose listed range of hash keys has
	// its ExplicitHashKey or, without one, the MD5 of its partition key. A
	// producer needs it for aggregates, for rates of each shard, and for
	// records without a partition key. Without it, a consumer does not check
	// which shard an aggregated user record belongs to.
	KeyRanges bool
	// OrderedRequest: several records of a key in one PutRecords are stored in
	// order, also if one of them fails: then the later ones of its key fail, too.
	// Without it, a producer that keeps the order of a key sends one record of
	// the key at a time.
	OrderedRequest bool
	// Lineage: shards end, and name their parents and children. Without it a
	// shard never ends.
	Lineage bool
	// Headers: a record's Headers are stored with it. Without it they can only
	// be stored inside an aggregate.
	Headers bool
	// TimeSeek says which time AtTime looks for.
	TimeSeek TimeSeek
	// Groups says who decides which member of a consumer group reads which shard.
	Groups GroupOwner
	// MaxRecord is the largest record that the sink can be set up to take, in
	// bytes as Record.Size counts them; 0 if it is not known.
	MaxRecord int
	// MaxRequestBytes and MaxRequestRecords are the largest call of PutRecords,
	// in bytes as Record.Size counts them and in records; 0 if they are not
	// known, or there is no limit. A producer's defaults are not above them.
	MaxRequestBytes, MaxRequestRecords int
}

// TimeSeek says which time of a record a source compares with that of AtTime.
type TimeSeek uint8

// The times.
const (
	TimeSeekNone     TimeSeek = iota // none: the source cannot read from a time
	TimeSeekArrival                  // that of the log's clock; see Record.Arrival
	TimeSeekProducer                 // that of the writer's clock, which may be set back
)

// GroupOwner says who assigns the shards of a source to the members of a
// consumer group.
type GroupOwner uint8

// The owners.
const (
	GroupsLibrary GroupOwner = iota // the members themselves, by leases in a checkpoint store
	GroupsBroker                    // the system behind the source
)

// Capable is implemented by sinks and sources that have Capabilities; others
// have none.
type Capable interface {
	Capabilities() Capabilities
}

// CapabilitiesOf returns the Capabilities of a sink or a source, or none if it
// is not Capable.
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

// Identified is implemented by sinks and sources that know a stream from one
// that is created under its name after it was deleted. A consumer stores the
// ID with its progress, and does not continue in another stream.
type Identified interface {
	// StreamID returns a text of up to 255 bytes of valid UTF-8 that belongs to
	// one stream for ever: an ID that is never given out twice, or the full name
	// together with the time of creation. "" means that it is not known, now or
	// at all. It may block, and is asked every few seconds; a source that finds
	// its stream by name answers for the one that has the name by then.
	StreamID(ctx context.Context) (string, error)
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
	// on. Each epoch has numbers of its own.
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
	// Numbers has for each record a number that no other record of the epoch
	// has, in ascending order. A record whose number is stored already
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
