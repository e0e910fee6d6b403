package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// decoder is a handler of PutRecords and PutRecord whose decoder was written by
// hand for these two, and which only answers: it stores nothing, looks for no
// shard and checks no limit. It is what a handler in net/http can reach.
type decoder struct{ scratch sync.Pool }

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
	s, _ := d.scratch.Get().(*scratch)
	if s == nil {
		s = &scratch{}
	}
	defer d.scratch.Put(s)
	if n := int(r.ContentLength); n >= 0 && n <= cap(s.body) {
		s.body = s.body[:n]
	} else {
		s.body = make([]byte, max(n, 0))
	}
	if _, err := io.ReadFull(r.Body, s.body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p := parser{in: s.body, entries: s.entries[:0]}
	err := p.object(&entry{})
	if s.entries = p.entries; err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.answer(r.Header.Get("X-Amz-Target"))
	h := w.Header()
	h.Set("Content-Type", "application/x-amz-json-1.1")
	h.Set("Content-Length", strconv.Itoa(len(s.out)))
	_, _ = w.Write(s.out) // a client that has gone
}

// answer encodes an answer as long as a real one.
func (s *scratch) answer(target string) {
	if target != targetPrefix+"PutRecords" {
		s.out = append(s.out[:0], `{"SequenceNumber":"49600000000000000000000000000000000000000000000000000000","ShardId":"shardId-000000000000"}`...)
		return
	}
	b := append(s.out[:0], `{"FailedRecordCount":0,"Records":[`...)
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

// parser reads the JSON of a request. Data is decoded in place.
type parser struct {
	in      []byte
	at      int
	entries []entry
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
		e.data = v[:max(n, 0)]
		return err
	case "PartitionKey":
		e.key = v
	case "ExplicitHashKey":
		e.hash = v
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
