package awswire

import (
	"encoding/binary"
	"hash/crc32"
)

// Frames of application/vnd.amazon.eventstream: total length u32, length of
// the headers u32, CRC-32 of both, headers, payload, CRC-32 of everything
// before. A header is a name with a length byte, the type of its value (7,
// text) and the value with its length as u16.

// EventStream is the media type of answers that are event streams.
const EventStream = "application/vnd.amazon.eventstream"

const headerText = 7

// Frame is one that is being written at the end of a buffer: its beginning is
// there, its payload is to be appended, and End completes it.
type Frame struct{ from int }

func beginFrame(b []byte) ([]byte, Frame) {
	return append(b, make([]byte, 12)...), Frame{len(b)}
}

func appendHeader(b []byte, name, value string) []byte {
	b = append(append(b, byte(len(name))), name...)
	b = binary.BigEndian.AppendUint16(append(b, headerText), uint16(len(value)))
	return append(b, value...)
}

// endHeaders writes the length of the headers.
func (f Frame) endHeaders(b []byte) []byte {
	binary.BigEndian.PutUint32(b[f.from+4:], uint32(len(b)-f.from-12))
	return b
}

// End completes a frame whose payload ends the buffer.
func (f Frame) End(b []byte) []byte {
	prelude := b[f.from:]
	binary.BigEndian.PutUint32(prelude, uint32(len(b)-f.from+4))
	binary.BigEndian.PutUint32(prelude[8:], crc32.ChecksumIEEE(prelude[:8]))
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[f.from:]))
}

// BeginEvent appends the beginning of an event to b.
func BeginEvent(b []byte, event string, p *Protocol) ([]byte, Frame) {
	b, f := beginFrame(b)
	b = appendHeader(b, ":message-type", "event")
	b = appendHeader(b, ":event-type", event)
	b = appendHeader(b, ":content-type", p.Media)
	return f.endHeaders(b), f
}

// AppendException appends a whole frame that ends a stream with an error.
func AppendException(b []byte, e *Error, p *Protocol) []byte {
	b, f := beginFrame(b)
	b = appendHeader(b, ":message-type", "exception")
	b = appendHeader(b, ":exception-type", e.Code)
	b = appendHeader(b, ":content-type", p.Media)
	out := Encoder{Buf: f.endHeaders(b), Format: p.Format}
	out.Open()
	out.TextField("message", e.Message)
	out.Close()
	return f.End(out.Buf)
}
