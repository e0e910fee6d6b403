package patterns

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// nanos formats a time with three digits.
func nanos(ns float64) string {
	switch d := time.Duration(ns); {
	case ns == 0:
		return "0"
	case d < time.Microsecond:
		return fmt.Sprintf("%.0f ns", ns)
	case d < time.Millisecond:
		return digits(ns/1e3) + " µs"
	case d < time.Second:
		return digits(ns/1e6) + " ms"
	}
	return digits(ns/1e9) + " s"
}

// digits formats a number with three digits, or with all before the point if
// those are more.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// count formats a number, shortened with a unit from ten thousand on.
func count(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e9:
		return digits(v/1e9) + " G"
	case a >= 1e6:
		return digits(v/1e6) + " M"
	case a >= 1e4:
		return digits(v/1e3) + " k"
	case v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	}
	return digits(v)
}

// bytesText formats a size.
func bytesText(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1<<30:
		return digits(v/(1<<30)) + " GiB"
	case a >= 1<<20:
		return digits(v/(1<<20)) + " MiB"
	case a >= 1<<10:
		return digits(v/(1<<10)) + " KiB"
	}
	return digits(v) + " B"
}

// amount formats a figure in its unit.
func amount(v float64, unit string) string {
	switch unit {
	case "ns":
		return nanos(v)
	case "ns/record":
		return nanos(v) + "/record"
	case "B/record":
		return bytesText(v) + "/record"
	}
	if unit != "" && !strings.HasPrefix(unit, "/") {
		unit = " " + unit
	}
	return count(v) + unit
}
