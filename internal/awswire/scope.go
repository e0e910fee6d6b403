package awswire

import "strings"

// Scope is the account and the region that a request works in.
type Scope struct {
	Account, Region string
}

// ValidAccount reports whether text can be an account: 12 digits. Every request has
// one, and a region, so neither is matched by an expression.
func ValidAccount(text string) bool {
	for i := range len(text) {
		if text[i]-'0' > 9 {
			return false
		}
	}
	return len(text) == 12
}

// ValidRegion reports whether text can be a region: 1 to 32 of a-z 0-9 -.
func ValidRegion(text string) bool {
	for i := range len(text) {
		if c := text[i]; c-'a' >= 26 && c-'0' >= 10 && c != '-' {
			return false
		}
	}
	return len(text) >= 1 && len(text) <= 32
}

// Partition returns the part of AWS that the region belongs to.
func (s Scope) Partition() string {
	switch {
	case strings.HasPrefix(s.Region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(s.Region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// ARN returns the name of a resource of a service.
func (s Scope) ARN(service, resource string) string {
	return "arn:" + s.Partition() + ":" + service + ":" + s.Region + ":" + s.Account + ":" + resource
}

// of returns the scope of a credential, KEY/DATE/REGION/SERVICE/aws4_request;
// what the credential does not say is that of s. A key of 12 digits is an
// account by itself, so that tests choose one without configuring anything.
func (s Scope) of(credential string) Scope {
	parts := strings.Split(credential, "/")
	if ValidAccount(parts[0]) {
		s.Account = parts[0]
	}
	if len(parts) >= 3 && ValidRegion(parts[2]) {
		s.Region = parts[2]
	}
	return s
}
