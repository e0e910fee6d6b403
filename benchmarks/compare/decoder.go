package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"
)

// decoder is a handler of PutRecords and PutRecord whose decoder was written by
// hand for these two, and which only answers: it stores nothing, looks for no
// shard and checks no limit.
type decoder struct {
	// pool has the memory of earlier requests, which are decoded in place: what
	// net/http can reach at best. Without it each request has memory of its own,
	// and its records are copied into it, as a handler does that has to keep them.
	pool *sync.Pool
}

// scratch is what one request needs.
type scratch struct {
	body, out []byte
	entries   []entry
}

// entry is a decoded record.
type entry struct{ key, data, hash []byte }

var errBody = errors.New("not the JSON of a PutRecords")

// ServeHTTP implements http.Handler.
func (d *decoder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := &scratch{}
	if d.pool != nil {
		s = d.pool.Get().(*scratch)
		defer d.pool.Put(s)
	}
	if err := s.decode(r, d.pool == nil); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.answer(r.Header.Get("X-Amz-Target"))
	h := w.Header()
	h.Set("Content-Type", "application/x-amz-json-1.1")
	h.Set("Content-Length", strconv.Itoa(len(s.out)))
	_, _ = w.Write(s.out) // a client that has gone
}

func (s *scratch) decode(r *http.Request, own bool) error {
	p := parser{entries: s.entries[:0]}
	n := max(int(r.ContentLength), 0)
	s.body = slices.Grow(s.body[:0], n)[:n]
	if _, err := io.ReadFull(r.Body, s.body); err != nil {
		return err
	}
	if own {
		p.arena = make([]byte, 0, n) // decoded data is shorter
	}
	p.in = s.body
	err := p.object(&entry{})
	s.entries = p.entries
	return err
}

// answer encodes an answer as long as a real one.
func (s *scratch) answer(target string) {
	if target != targetPrefix+"PutRecords" {
		s.out = append(s.out[:0], `{"SequenceNumber":"49600000000000000000000000000000000000000000000000000000","ShardId":"shardId-000000000000"}`...)
		return
	}
	b := slices.Grow(s.out[:0], 64+len(s.entries)*112)
	b = append(b, `{"FailedRecordCount":0,"Records":[`...)
	for i := range s.entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"SequenceNumber":"49600000000000000000000000000000000000000000000000`...)
		b = strconv.AppendInt(b, int64(100_000+i), 10)
		b = append(b, `","ShardId":"shardId-000000000000"}`...)
	}
	s.out = append(b, "]}"...)
}

// parser reads the JSON of a request.
type parser struct {
	in      []byte
	at      int
	entries []entry
	// arena takes what is kept of the records, which are decoded in place
	// without it.
	arena []byte
}

// keep returns v, or a copy of it in the arena.
func (p *parser) keep(v []byte) []byte {
	if p.arena == nil {
		return v
	}
	n := len(p.arena)
	p.arena = append(p.arena, v...)
	return p.arena[n:len(p.arena):len(p.arena)]
}

// next skips white space and returns the byte after it, which it consumes.
func (p *parser) next() byte {
	for p.at < len(p.in) {
		c := p.in[p.at]
		p.at++
		if c > ' ' {
			return c
		}
	}
	return 0
}

// text reads the rest of a string. One with escapes, which the requests that are
// measured do not have, is refused.
func (p *parser) text() ([]byte, error) {
	n := bytes.IndexByte(p.in[p.at:], '"')
	if n < 0 {
		return nil, errBody
	}
	s := p.in[p.at : p.at+n]
	if bytes.IndexByte(s, '\\') >= 0 {
		return nil, errBody
	}
	p.at += n + 1
	return s, nil
}

// object reads the request, or one record of it into e.
func (p *parser) object(e *entry) error {
	if p.next() != '{' {
		return errBody
	}
	for {
		if p.next() != '"' {
			return errBody
		}
		name, err := p.text()
		if err != nil || p.next() != ':' {
			return errBody
		}
		if err := p.member(string(name), e); err != nil {
			return err
		}
		switch p.next() {
		case '}':
			return nil
		case ',':
		default:
			return errBody
		}
	}
}

func (p *parser) member(name string, e *entry) error {
	if name == "Records" {
		return p.records()
	}
	if p.next() != '"' {
		return errBody
	}
	v, err := p.text()
	if err != nil {
		return err
	}
	switch name {
	case "Data":
		n, err := base64.StdEncoding.Decode(v, v)
		e.data = p.keep(v[:n])
		return err
	case "PartitionKey":
		if !utf8.Valid(v) || len(v) == 0 {
			return errBody
		}
		e.key = p.keep(v)
	case "ExplicitHashKey":
		e.hash = p.keep(v)
	}
	return nil
}

func (p *parser) records() error {
	if p.next() != '[' {
		return errBody
	}
	for {
		p.entries = append(p.entries, entry{})
		if err := p.object(&p.entries[len(p.entries)-1]); err != nil {
			return err
		}
		switch p.next() {
		case ']':
			return nil
		case ',':
		default:
			return errBody
		}
	}
}
