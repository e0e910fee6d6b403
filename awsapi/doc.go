// Package awsapi serves AWS APIs: several services on one port, each chosen by
// the operation that a request names or by the service that it is signed for.
// The services are in the packages below, such as awsapi/kinesisapi; they all
// share the endpoint's accounts, signatures, clock, faults, bounds of memory
// and admin paths.
//
//	kinesis, err := kinesisapi.Service(db, nil)
//	...
//	e, err := awsapi.New(nil, kinesis)
//	...
//	err = e.Server().ListenAndServe()
package awsapi
