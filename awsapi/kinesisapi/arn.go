package kinesisapi

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog/internal/awswire"
)

// streamARN returns the ARN of a stream.
func streamARN(sc awswire.Scope, name string) string {
	return sc.ARN(serviceName, "stream/"+name)
}

// consumerARN returns the ARN of a consumer of a stream.
func consumerARN(sc awswire.Scope, stream string, con *consumer) string {
	return streamARN(sc, stream) + "/consumer/" + con.suffix()
}

// consumerSuffix is how the ARN of a consumer ends. With the stamp in it, one
// that is registered again has another ARN.
func consumerSuffix(name string, stamp int64) string {
	return fmt.Sprintf("%s:%d", name, stamp)
}

// resourceName is an ARN of a stream or of a consumer of one.
type resourceName struct {
	scope    awswire.Scope
	stream   string
	consumer string // a consumerSuffix; "" for a stream
}

// parseARN reads an ARN that has passed the model's pattern, which allows more
// than names. A name may be longer than one that a stream can have: such a
// stream is not found, and that is what the answer says.
func parseARN(arn string) (resourceName, bool) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[2] != serviceName || !awswire.ValidAccount(parts[4]) {
		return resourceName{}, false
	}
	name, ok := strings.CutPrefix(parts[5], "stream/")
	if !ok {
		return resourceName{}, false
	}
	name, consumer, isConsumer := strings.Cut(name, "/consumer/")
	if !nameChars(name) || isConsumer && consumer == "" {
		return resourceName{}, false
	}
	return resourceName{scope: awswire.Scope{Account: parts[4], Region: parts[3]}, stream: name, consumer: consumer}, true
}

// maxStoredName is how long the name of a stream may be in the database, as in
// the model.
const maxStoredName = 128

// qualifiedName is the name that a stream has in the database when its own is
// taken by another account or region. It is a function of the three, so that
// no index is needed to find it again.
func qualifiedName(sc awswire.Scope, name string) string {
	full := sc.Account + "." + sc.Region + "." + name
	if len(full) <= maxStoredName {
		return full
	}
	var sum [8]byte
	for i, v := 0, xxhash.Sum64String(full); i < 8; i++ {
		sum[i] = byte(v >> (8 * i))
	}
	return full[:maxStoredName-1-2*len(sum)] + "." + hex.EncodeToString(sum[:])
}

var qualified = regexp.MustCompile(`^\d{12}\.[a-z0-9-]{1,32}\.`)

// looksQualified reports whether a name could be a qualifiedName.
func looksQualified(name string) bool { return qualified.MatchString(name) }
