package iam

import (
	"encoding/base64"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Condition compares a value of the request.
type Condition struct {
	// Operator is as written, such as "ForAnyValue:StringLikeIfExists".
	Operator string
	// Key is what is compared, such as "aws:SourceArn".
	Key string
	// Values are those of which one has to fit.
	Values []string
}

// operators are those of conditions, with what their values have to be.
var operators = map[string]func(string) bool{
	"StringEquals": anyText, "StringNotEquals": anyText, "StringEqualsIgnoreCase": anyText, "StringNotEqualsIgnoreCase": anyText, "StringLike": anyText, "StringNotLike": anyText,
	"NumericEquals": isNumber, "NumericNotEquals": isNumber, "NumericLessThan": isNumber, "NumericLessThanEquals": isNumber, "NumericGreaterThan": isNumber, "NumericGreaterThanEquals": isNumber,
	"DateEquals": isDate, "DateNotEquals": isDate, "DateLessThan": isDate, "DateLessThanEquals": isDate, "DateGreaterThan": isDate, "DateGreaterThanEquals": isDate,
	"Bool": isBool, "Null": isBool, "BinaryEquals": isBinary, "IpAddress": isNetwork, "NotIpAddress": isNetwork,
	"ArnEquals": isARN, "ArnNotEquals": isARN, "ArnLike": isARN, "ArnNotLike": isARN,
}

func anyText(string) bool { return true }

// isNumber takes decimal numbers, and not what else Go reads as one, such as NaN,
// which compares with nothing.
func isNumber(s string) bool {
	r := reader{text: s}
	if _, err := r.number(); err != nil || r.pos < len(s) {
		return false
	}
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

func isBool(s string) bool { return s == "true" || s == "false" }

func isBinary(s string) bool { _, err := base64.StdEncoding.DecodeString(s); return err == nil }

// isDate takes the forms of ISO 8601 that the guide has, and seconds since 1970.
func isDate(s string) bool {
	for _, layout := range []string{"2006-01", "2006-01-02", "2006-01-02T15:04Z07:00", time.RFC3339} {
		if _, err := time.Parse(layout, s); err == nil {
			return true
		}
	}
	_, err := strconv.ParseInt(s, 10, 64)
	return err == nil
}

func isNetwork(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	_, err := netip.ParsePrefix(s)
	return err == nil
}

func isARN(s string) bool {
	return s == "*" || strings.HasPrefix(s, "arn:") && strings.Count(s, ":") >= 5
}

// conditionKey is a name with the service that it is of. A tag's key follows
// with a slash.
var conditionKey = regexp.MustCompile(`^[A-Za-z0-9-]+:[A-Za-z0-9_.-]+(/.+)?$`)

// checkOf returns what the values of an operator have to be. Nil is for one that
// does not exist. Of what is not there IfExists says nothing that Null does not.
func checkOf(operator string) func(string) bool {
	for _, prefix := range []string{"ForAllValues:", "ForAnyValue:"} {
		if rest, ok := strings.CutPrefix(operator, prefix); ok {
			operator = rest
			break
		}
	}
	if base, ok := strings.CutSuffix(operator, "IfExists"); ok && base != "Null" {
		operator = base
	}
	return operators[operator]
}

// readConditions reads an object of operators, each with an object of keys.
func readConditions(path string, v value) (list []Condition, err error) {
	if v.kind != kindObject {
		return nil, faulty(path, "must be an object and is %s", v.kind)
	}
	for i := range v.members {
		op, keys := v.members[i].name, &v.members[i].value
		check := checkOf(op)
		if check == nil {
			return nil, faulty(path, "%q is no operator", shorten(op))
		}
		at := path + "." + op
		if keys.kind != kindObject || len(keys.members) == 0 {
			return nil, faulty(at, "must be an object that is not empty")
		}
		seen := map[string]bool{}
		for j := range keys.members {
			c := Condition{Operator: op, Key: keys.members[j].name}
			// Keys are not case sensitive, so two that differ in case are one.
			if folded := strings.ToLower(c.Key); !conditionKey.MatchString(c.Key) || seen[folded] {
				return nil, faulty(at, "%q is no key of a condition, or is there twice", shorten(c.Key))
			} else {
				seen[folded] = true
			}
			if c.Values, err = conditionValues(at+"."+shorten(c.Key), keys.members[j].value, check); err != nil {
				return nil, err
			}
			list = append(list, c)
		}
	}
	return list, nil
}

// conditionValues reads a value or a list of them: strings, numbers, booleans.
func conditionValues(path string, v value, check func(string) bool) ([]string, error) {
	all := v.list
	if v.kind != kindList {
		all = []value{v}
	}
	if len(all) == 0 {
		return nil, faulty(path, "must not be empty")
	}
	values := make([]string, len(all))
	for i := range all {
		switch all[i].kind {
		case kindText, kindNumber, kindBool:
			values[i] = all[i].text
		default:
			return nil, faulty(path, "must be a string, a number or a boolean, or a list of them")
		}
		// What a variable stands for is known with the request.
		if !strings.Contains(values[i], "${") && !check(values[i]) {
			return nil, faulty(path, "%q is no value for this operator", shorten(values[i]))
		}
	}
	return values, nil
}
