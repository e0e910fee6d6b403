package dynamodbcheckpoint_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/dynamodbcheckpoint"
)

// after is a way to a DynamoDB that calls f when an operation was answered for
// the first time, before the caller has the answer.
type after struct {
	m  *memory
	op string
	f  func()
}

func (a *after) Do(r *http.Request) (*http.Response, error) {
	res, err := a.m.Do(r)
	if f := a.f; f != nil && strings.HasSuffix(r.Header.Get("X-Amz-Target"), "."+a.op) {
		a.f = nil
		f()
	}
	return res, err
}

// oldRows makes rows of workers as an earlier version left them in KCL's table.
func oldRows(t *testing.T, m *memory, n int) (rows []checkpoint.Lease) {
	plain := open(t, newClient("http://127.0.0.1", m), dynamodbcheckpoint.Options{Table: "app"})
	for i := range n {
		l, err := plain.Create(t.Context(), checkpoint.Lease{
			Key: checkpoint.Key{Group: "g", Stream: "s/workers", Shard: fmt.Sprintf("worker/%02d", i)}, Beat: 1,
		})
		require.NoError(t, err)
		rows = append(rows, l)
	}
	return rows
}

// A process has read a page of old rows. Before it moves them another one does,
// and its worker changes one and removes one: neither comes back.
func TestMovingAPageThatIsOld(t *testing.T) {
	m := newMemory()
	old := oldRows(t, m, 3)
	o := dynamodbcheckpoint.Options{Table: "app", Group: "g", Stream: "s"}
	var changed checkpoint.Lease
	way := &after{m: m, op: "Scan", f: func() {
		first := open(t, newClient("http://127.0.0.1", m), o)
		require.NoError(t, first.Delete(t.Context(), old[0]))
		var err error
		old[1].Beat = 9
		changed, err = first.Update(t.Context(), old[1])
		require.NoError(t, err)
	}}
	s := open(t, newClient("http://127.0.0.1", way), o)
	rows, err := s.List(t.Context(), "g", "")
	require.NoError(t, err)
	require.Equal(t, []checkpoint.Lease{changed, old[2]}, rows)
	require.Empty(t, keys(t, newClient("http://127.0.0.1", m), "app"))
}

// A row that an earlier version writes while it is moved is moved as it is then.
func TestMovingARowThatIsWritten(t *testing.T) {
	m := newMemory()
	old := oldRows(t, m, 1)
	var written checkpoint.Lease
	way := &after{m: m, op: "Scan", f: func() {
		plain := open(t, newClient("http://127.0.0.1", m), dynamodbcheckpoint.Options{Table: "app"})
		var err error
		written, err = plain.Update(t.Context(), old[0])
		require.NoError(t, err)
	}}
	s := open(t, newClient("http://127.0.0.1", way), dynamodbcheckpoint.Options{Table: "app", Group: "g", Stream: "s"})
	got, err := s.Get(t.Context(), old[0].Key)
	require.NoError(t, err)
	require.Equal(t, written, got)
	require.Empty(t, keys(t, newClient("http://127.0.0.1", m), "app"))
}

// Several processes start with the new version and move the same rows, while
// DynamoDB throttles some requests: each row is there once, with its version.
func TestManyMoveTheSameRows(t *testing.T) {
	m := newMemory()
	old := oldRows(t, m, 20)
	requests := 0
	m.fail = func(string, request) error { // the client repeats what fails so
		if requests++; requests%17 == 0 {
			return errors.New("connection reset")
		}
		return nil
	}
	o := dynamodbcheckpoint.Options{Table: "app", Group: "g", Stream: "s"}
	var all sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		all.Go(func() {
			for range 5 { // a move that failed is repeated
				if _, errs[i] = dynamodbcheckpoint.Open(t.Context(), newClient("http://127.0.0.1", m), &o); errs[i] == nil {
					return
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))
	m.fail = nil
	c := newClient("http://127.0.0.1", m)
	rows, err := open(t, c, o).List(t.Context(), "g", "")
	require.NoError(t, err)
	require.Equal(t, old, rows)
	require.Empty(t, keys(t, c, "app"))
}
