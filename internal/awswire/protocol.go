package awswire

// Protocol is one way in which clients write requests and read answers. The
// package comment says what another protocol needs.
type Protocol struct {
	// Media is the content type of requests and, without Answer, of answers.
	Media string
	// Answer is the content type of answers, where it is another than Media.
	Answer string
	// Format is how answers are written.
	Format Format
	// reader returns the values of a body.
	reader func(body []byte) Reader
}

// The protocols. Those of a service are listed in its model.
var (
	JSON10 = &Protocol{Media: "application/x-amz-json-1.0", Format: FormatJSON, reader: newJSONReader}
	JSON11 = &Protocol{Media: "application/x-amz-json-1.1", Format: FormatJSON, reader: newJSONReader}
	// CBOR11 is what the SDKs for Java speak with Kinesis. No model names it; it
	// differs from rpc-v2-cbor, which has the operation in the path.
	CBOR11 = &Protocol{Media: "application/x-amz-cbor-1.1", Format: FormatCBOR, reader: newCBORReader}
)

func newJSONReader(body []byte) Reader { return &jsonReader{data: body} }

func newCBORReader(body []byte) Reader { return &CBORReader{data: body} }

// Reader returns a reader of a body, which the tokens may refer to.
func (p *Protocol) Reader(body []byte) Reader { return p.reader(body) }
