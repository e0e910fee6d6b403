package kinesisapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/shardlog/shardlog"
)

// apiError is an error in the form that AWS gives it.
type apiError struct {
	code    string
	message string // none if empty
	status  int    // 400 if 0
	// capital writes the member as "Message", as AWS does for bodies whose
	// members have wrong types.
	capital bool
}

// Error describes e in one line.
func (e *apiError) Error() string { return e.code + ": " + e.message }

func (e *apiError) statusCode() int {
	if e.status == 0 {
		return http.StatusBadRequest
	}
	return e.status
}

func fault(code, format string, args ...any) *apiError {
	return &apiError{code: code, message: fmt.Sprintf(format, args...)}
}

// Codes of errors.
const (
	codeInvalid    = "InvalidArgumentException"
	codeNotFound   = "ResourceNotFoundException"
	codeInUse      = "ResourceInUseException"
	codeLimit      = "LimitExceededException"
	codeThroughput = "ProvisionedThroughputExceededException"
	codeValidation = "ValidationException"
	codeInternal   = "InternalFailure"
)

func invalid(format string, args ...any) *apiError { return fault(codeInvalid, format, args...) }

func (sc scope) noStream(name string) *apiError {
	return fault(codeNotFound, "Stream %s under account %s not found.", name, sc.account)
}

func (sc scope) noShard(shardID, stream string) *apiError {
	return fault(codeNotFound, "Could not find shard %s in stream %s under account %s.", shardID, stream, sc.account)
}

func (sc scope) missingShard(shardID, stream string) *apiError {
	return fault(codeNotFound, "Shard %s in stream %s under account %s does not exist", shardID, stream, sc.account)
}

// internalError is what a client learns about a failure of ours.
func internalError() *apiError {
	return &apiError{code: codeInternal, message: "Internal Service Failure", status: http.StatusInternalServerError}
}

// unavailable is the answer while the database is closed or the handler is.
func unavailable() *apiError {
	return &apiError{code: "ServiceUnavailable", message: "The service is shutting down.", status: http.StatusServiceUnavailable}
}

// answer turns any error of an operation into that of an answer. Those that
// are our failure are logged.
func (h *Handler) answer(err error, c *call) *apiError {
	var e *apiError
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, errSyntax):
		return &apiError{code: "SerializationException"}
	case errors.Is(err, shardlog.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unavailable()
	case errors.Is(err, shardlog.ErrThroughputExceeded):
		return fault(codeThroughput, "Rate exceeded for shard %s in stream %s under account %s.", shardOf(err), c.streamName(), c.scope.account)
	case errors.Is(err, shardlog.ErrNotFound):
		return c.scope.noStream(c.streamName())
	}
	if h.opts.Logger != nil {
		h.opts.Logger.Error("kinesisapi: "+c.op.name+" failed", "stream", c.streamName(), "error", err)
	}
	return internalError()
}

// shardOf returns the shard that an error names.
func shardOf(err error) string {
	var e *shardlog.Error
	for errors.As(err, &e) {
		if e.Shard != "" {
			return e.Shard
		}
		err = e.Err
	}
	return ""
}

// shorten cuts what an error repeats of a request.
func shorten(s string) string {
	const most = 64 << 10
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
