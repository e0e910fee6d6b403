package kinesisapi

import (
	"encoding/binary"
	"hash/crc32"
)

// Frames of application/vnd.amazon.eventstream: total length u32, length of
// the headers u32, CRC-32 of both, headers, payload, CRC-32 of everything
// before. A header is a name with a length byte, the type of its value (7,
// text) and the value with its length as u16.

const headerText = 7

// frame is one being written to the end of a buffer.
type frame struct{ from int }

func beginFrame(b []byte) ([]byte, frame) {
	return append(b, make([]byte, 12)...), frame{len(b)}
}

func appendHeader(b []byte, name, value string) []byte {
	b = append(append(b, byte(len(name))), name...)
	b = binary.BigEndian.AppendUint16(append(b, headerText), uint16(len(value)))
	return append(b, value...)
}

// payload ends the headers.
func (f frame) payload(b []byte) []byte {
	binary.BigEndian.PutUint32(b[f.from+4:], uint32(len(b)-f.from-12))
	return b
}

// end completes the frame.
func (f frame) end(b []byte) []byte {
	prelude := b[f.from:]
	binary.BigEndian.PutUint32(prelude, uint32(len(b)-f.from+4))
	binary.BigEndian.PutUint32(prelude[8:], crc32.ChecksumIEEE(prelude[:8]))
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[f.from:]))
}

// eventFrame begins an event; the payload is to be appended.
func eventFrame(b []byte, event, media string) ([]byte, frame) {
	b, f := beginFrame(b)
	b = appendHeader(b, ":message-type", "event")
	b = appendHeader(b, ":event-type", event)
	b = appendHeader(b, ":content-type", media)
	return f.payload(b), f
}

// exceptionFrame appends a whole exception.
func exceptionFrame(b []byte, e *apiError, cbor bool) []byte {
	media := typeJSON
	if cbor {
		media = typeCBOR
	}
	b, f := beginFrame(b)
	b = appendHeader(b, ":message-type", "exception")
	b = appendHeader(b, ":exception-type", e.code)
	b = appendHeader(b, ":content-type", media)
	out := encoder{buf: f.payload(b), cbor: cbor}
	out.open()
	out.strField("message", e.message)
	out.close()
	return f.end(out.buf)
}
