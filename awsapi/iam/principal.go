package iam

import (
	"regexp"
	"strings"
)

// Principal is a caller, or several.
type Principal struct {
	// Type is "AWS", "Service" or "Federated". Everybody is "AWS" with ID "*".
	Type string
	// ID is an account or an ARN, a service's name, or a provider.
	ID string
}

// everybody is the principal that is all callers. Other principals have no
// wildcards.
const everybody = "*"

var (
	accountID   = regexp.MustCompile(`^[0-9]{12}$`)
	identityARN = regexp.MustCompile(`^arn:aws[a-z-]*:(iam::[0-9]{12}:(root|(user|role)/[!-~]+)|sts::[0-9]{12}:(assumed-role/[!-~]+/[!-~]+|federated-user/[!-~]+))$`)
	serviceName = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)
)

// readPrincipals reads "*", or an object with lists by type.
func readPrincipals(path string, v value) (list []Principal, err error) {
	if v.kind == kindText {
		if v.text != everybody {
			return nil, faulty(path, `must be "*" or an object such as {"AWS": "111122223333"}`)
		}
		return []Principal{{"AWS", everybody}}, nil
	}
	f := fields{what: "a principal"}
	if err := f.of(path, v, "AWS", "Service", "Federated"); err != nil {
		return nil, err
	}
	if len(v.members) == 0 {
		return nil, faulty(path, "must not be empty")
	}
	for i := range v.members {
		m := &v.members[i]
		ids, err := texts(path+"."+m.name, m.value)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if !principalFits(m.name, id) {
				return nil, faulty(path+"."+m.name, "%q is no principal", shorten(id))
			}
			list = append(list, Principal{m.name, id})
		}
	}
	return list, nil
}

// principalFits reports whether a principal can be one of a type.
func principalFits(kind, id string) bool {
	switch kind {
	case "AWS":
		return id == everybody || accountID.MatchString(id) || identityARN.MatchString(id) && !strings.ContainsAny(id, "*?")
	case "Service":
		return serviceName.MatchString(id)
	}
	return !strings.ContainsAny(id, "*?")
}
