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
// A Protocol is a row of data, and three places depend on it:
//
//   - the operation: awsapi finds its name in X-Amz-Target. The query protocol
//     has it in the member Action of the form, rest-json in method and path;
//   - the input: Protocol.Reader gives the values of a body. A Reader over a
//     form or over headers and path is decoded and validated as any other. That
//     over a form gives text alone, until an operation has other members;
//   - the answer: an Encoder follows a walk over the answer, and its Format
//     says how it is written.
//
// Query is there, with its own codes of errors and with GET. Rest-json is not:
// it comes with methods other than POST, which Call.Preflight refuses. JSON
// clients of services that once spoke the query protocol read its codes from a
// header, for which Error would get a member.
package awswire
