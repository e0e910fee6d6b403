package awswire

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Lists of values as others have recorded them from AWS, for Kinesis and DynamoDB.
func TestEnumsAreInTheOrderOfAWS(t *testing.T) {
	for _, list := range []string{
		"AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON",
		"AFTER_SEQUENCE_NUMBER, LATEST, AT_SEQUENCE_NUMBER, TRIM_HORIZON",
		"PROVISIONED, PAY_PER_REQUEST",
		"INDEXES, TOTAL, NONE",
		"ALL_NEW, UPDATED_OLD, ALL_OLD, NONE, UPDATED_NEW",
		"B, N, S",
		"IN, NULL, BETWEEN, LT, NOT_CONTAINS, EQ, GT, NOT_NULL, NE, LE, BEGINS_WITH, GE, CONTAINS",
	} {
		values := strings.Split(list, ", ")
		if !strings.Contains(list, "LT, NOT_CONTAINS") { // two of those have one place in the table
			slices.Sort(values)
		}
		err := Validate(Structure(Required("Kind", Enum(values...))), Params{"Kind": "x"})
		require.EqualError(t, err, "ValidationException: 1 validation error detected: Value 'x' at 'kind' failed to satisfy constraint: Member must satisfy enum value set: ["+list+"]")
	}
}
