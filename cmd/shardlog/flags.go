package main

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"time"
)

// ranged is the value of a flag that has a range. It is checked where the flag
// is given, so that a value out of range is never taken for a flag that was not
// given, and so that the message names the flag and the range.
type ranged[T int | int64 | float64 | time.Duration] struct {
	value  *T
	parse  func(string) (T, error)
	lo, hi T
	form   string
}

// String implements flag.Value.
func (r *ranged[T]) String() string {
	if r.value == nil {
		return fmt.Sprint(T(0))
	}
	return fmt.Sprint(*r.value)
}

// Set implements flag.Value.
func (r *ranged[T]) Set(s string) error {
	v, err := r.parse(s)
	if err != nil || !(v >= r.lo && v <= r.hi) { // so that NaN is refused
		return fmt.Errorf("must be %s from %v to %v", r.form, r.lo, r.hi)
	}
	*r.value = v
	return nil
}

const whole = "a whole number"

// intFlag adds a flag for a whole number from lo to hi.
func intFlag(f *flagSet, v *int, name string, def, lo, hi int, usage string) {
	*v = def
	f.Var(&ranged[int]{v, func(s string) (int, error) {
		n, err := strconv.ParseInt(s, 0, strconv.IntSize)
		return int(n), err
	}, lo, hi, whole}, name, usage)
}

// int64Flag adds a flag for a whole number of 64 bits from lo to hi.
func int64Flag(f *flagSet, v *int64, name string, def, lo, hi int64, usage string) {
	*v = def
	f.Var(&ranged[int64]{v, func(s string) (int64, error) { return strconv.ParseInt(s, 0, 64) }, lo, hi, whole}, name, usage)
}

// floatFlag adds a flag for a number from lo to hi.
func floatFlag(f *flagSet, v *float64, name string, def, lo, hi float64, usage string) {
	*v = def
	f.Var(&ranged[float64]{v, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }, lo, hi, "a number"}, name, usage)
}

// durationFlag adds a flag for a duration from lo to hi.
func durationFlag(f *flagSet, v *time.Duration, name string, def, lo, hi time.Duration, usage string) {
	*v = def
	f.Var(&ranged[time.Duration]{v, time.ParseDuration, lo, hi, "a duration such as 500ms,"}, name, usage)
}

var errEmpty = errors.New("must not be empty")

// text is the value of a flag that must not be empty where it is given: an
// empty one is as a rule a variable of a script that is not set.
type text struct {
	value *string
	check func(string) error
}

// String implements flag.Value.
func (t *text) String() string {
	if t.value == nil {
		return ""
	}
	return *t.value
}

// Set implements flag.Value.
func (t *text) Set(s string) error {
	if s == "" {
		return errEmpty
	}
	if t.check != nil {
		if err := t.check(s); err != nil {
			return err
		}
	}
	*t.value = s
	return nil
}

// textFlag adds a flag for a text that is not empty and passes check, which may
// be nil. The default is not checked.
func textFlag(f *flagSet, v *string, name, def, usage string, check func(string) error) {
	*v = def
	f.Var(&text{v, check}, name, usage)
}

// given reports whether a flag was on the command line.
func given(f *flagSet, name string) (found bool) {
	f.Visit(func(g *flag.Flag) { found = found || g.Name == name })
	return found
}
