// Package awswire is the protocol of the AWS APIs without any service: one
// request, from its bytes to its answer. It reads and writes JSON and CBOR,
// checks input against a service's shapes, verifies and makes signatures,
// bounds the memory that bodies take, and carries out injected faults.
//
// A service is a value: a Service with a table of Operations. What it adds to
// a request it keeps in Call.Session. Package awsapi serves several of them on
// one port, and owns the order in which a request is checked.
//
// # Other protocols
//
// A Protocol is a row of data, and three places depend on it. For the query
// protocol and for rest-json they are:
//
//   - the operation: awsapi finds its name in X-Amz-Target. The query protocol
//     has it in the member Action of the form, rest-json in method and path;
//   - the input: Protocol.Reader gives the values of a body. A Reader over a
//     form or over headers and path is decoded and validated as any other;
//   - the answer: an Encoder follows a walk over the answer, and its Format
//     says how it is written. XML is another Format.
//
// Both also come with methods other than POST, which Call.Preflight refuses
// today, and the query protocol has error codes of its own, for which Error
// would get a member: JSON clients of such services read it from a header.
package awswire
