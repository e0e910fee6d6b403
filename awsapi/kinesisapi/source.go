package kinesisapi

import "errors"

// tokenKind is what a body holds at one place.
type tokenKind uint8

const (
	tokenNull tokenKind = iota
	tokenBool
	tokenNumber
	tokenString // text
	tokenBytes  // a byte string of CBOR
	tokenTime   // a tagged time of CBOR, milliseconds
	tokenList   // the beginning of one
	tokenMap    // the beginning of one
)

// token is a value, or the beginning of one with members.
type token struct {
	kind tokenKind
	bool bool
	num  float64
	text []byte // decoded; it may be a part of the body
}

// source reads a body as tokens. After the beginning of a list or a map, more
// tells whether another member follows; in a map, key is called before value.
type source interface {
	value() (token, error)
	more() (bool, error)
	key() ([]byte, error)
	// end checks that nothing follows the value that was read.
	end() error
}

// maxDepth bounds how deep bodies may nest; the deepest input has four levels.
const maxDepth = 64

// errSyntax says that a body does not parse. What is wrong is not told, as by
// AWS.
var errSyntax = errors.New("the body does not parse")

// skip reads what is left of a value that began with t.
func skip(src source, t token, depth int) error {
	if t.kind != tokenList && t.kind != tokenMap {
		return nil
	}
	if depth >= maxDepth {
		return errSyntax
	}
	for {
		more, err := src.more()
		if err != nil || !more {
			return err
		}
		if t.kind == tokenMap {
			if _, err := src.key(); err != nil {
				return err
			}
		}
		v, err := src.value()
		if err == nil {
			err = skip(src, v, depth+1)
		}
		if err != nil {
			return err
		}
	}
}

// wellFormed checks a whole body, whose top has to be a map.
func wellFormed(src source) error {
	t, err := src.value()
	if err == nil && t.kind != tokenMap {
		err = errSyntax
	}
	if err == nil {
		err = skip(src, t, 0)
	}
	if err == nil {
		err = src.end()
	}
	return err
}
