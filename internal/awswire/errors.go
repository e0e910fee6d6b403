package awswire

import (
	"fmt"
	"net/http"
	"strings"
)

// Error is an error in the form that AWS gives it. Operations return one to
// answer with it.
type Error struct {
	Code    string
	Message string // the answer has no such member if it is empty
	Status  int    // 400 if it is 0
	// Capital writes the member as "Message", which is what AWS does for bodies
	// whose members have wrong types.
	Capital bool
}

// Error describes e in one line.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// StatusCode returns the HTTP status of the answer.
func (e *Error) StatusCode() int {
	if e.Status == 0 {
		return http.StatusBadRequest
	}
	return e.Status
}

// Errorf returns an error with status 400 and a formatted message.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Codes that are the same in all services. Those of a service stay with it.
const (
	CodeInternal      = "InternalFailure"
	CodeSerialization = "SerializationException"
	CodeUnknownOp     = "UnknownOperationException"
	CodeValidation    = "ValidationException"
	codeDenied        = "AccessDeniedException"
	codeUnrecognized  = "UnrecognizedClientException"
	codeMissingToken  = "MissingAuthenticationTokenException"
	codeSignature     = "InvalidSignatureException"
	codeIncomplete    = "IncompleteSignatureException"
)

// InternalError returns what a client learns about a failure of ours: nothing
// but that it was one.
func InternalError() *Error {
	return &Error{Code: CodeInternal, Message: "Internal Service Failure", Status: http.StatusInternalServerError}
}

// Unavailable returns the answer to requests that come after the endpoint was
// closed. Clients try again, elsewhere or later.
func Unavailable() *Error {
	return &Error{Code: "ServiceUnavailable", Message: "The service is shutting down.", Status: http.StatusServiceUnavailable}
}

// shorten cuts what an error repeats of a request, which may be megabytes.
func shorten(s string) string { return Shorten(s, 64<<10) }

// Shorten returns s, or its first most bytes without half a character at their
// end, and dots.
func Shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
