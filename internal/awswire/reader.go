package awswire

import "errors"

// TokenKind is the type of a Token.
type TokenKind uint8

// The kinds of tokens. Of lists and maps only the beginning is a token.
const (
	TokenNull TokenKind = iota
	TokenBool
	TokenNumber
	TokenString // text
	TokenBytes  // a byte string of CBOR
	TokenTime   // a tagged time of CBOR, milliseconds
	TokenList
	TokenMap
)

// Token is a value of a body, or the beginning of one that has members.
type Token struct {
	Kind TokenKind
	Bool bool
	Num  float64
	// Text is decoded. It may be a part of the body, and is valid as long.
	Text []byte
}

// Reader reads a body as tokens. After the beginning of a list or a map, More
// reports whether another member follows; in a map, Key is called before
// Value. Errors are ErrSyntax. It is not safe for concurrent use.
type Reader interface {
	Value() (Token, error)
	More() (bool, error)
	Key() ([]byte, error)
	// End checks that nothing follows the value that was read.
	End() error
}

// MaxDepth is how deep bodies may nest. The deepest input of Kinesis has four
// levels; the bound protects the stack from bodies that nest for its own sake.
const MaxDepth = 64

// ErrSyntax is the error of a body that does not parse. It does not say what is
// wrong, because AWS does not either.
var ErrSyntax = errors.New("the body does not parse")

// Skip reads the rest of a value that began with t and stands depth levels below
// the top.
func Skip(src Reader, t Token, depth int) error {
	if t.Kind != TokenList && t.Kind != TokenMap {
		return nil
	}
	if depth >= MaxDepth {
		return ErrSyntax
	}
	for {
		more, err := src.More()
		if err != nil || !more {
			return err
		}
		if t.Kind == TokenMap {
			if _, err := src.Key(); err != nil {
				return err
			}
		}
		v, err := src.Value()
		if err == nil {
			err = Skip(src, v, depth+1)
		}
		if err != nil {
			return err
		}
	}
}

// WellFormed checks a whole body, whose top has to be a map.
func WellFormed(src Reader) error {
	t, err := src.Value()
	if err == nil && t.Kind != TokenMap {
		err = ErrSyntax
	}
	if err == nil {
		err = Skip(src, t, 0)
	}
	if err == nil {
		err = src.End()
	}
	return err
}
