package dynamodbcheckpoint_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// memory is a DynamoDB of the requests that the package sends: of expressions
// it knows their forms, of errors those of conditions. Anything else is refused,
// so that a new request is noticed.
type memory struct {
	mu     sync.Mutex
	tables map[string]map[string]entry
	// fail, if set, may refuse a request.
	fail func(op string, r request) error
}

// entry is an item in the form that it has on the wire, {"name":{"S":"value"}}.
type entry = map[string]any

type request struct {
	TableName, ConditionExpression, UpdateExpression, FilterExpression string
	Key, Item, ExpressionAttributeValues                               entry
	ExclusiveStartKey                                                  entry
}

func newMemory() *memory { return &memory{tables: map[string]map[string]entry{}} }

func (m *memory) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	var req request
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail(op, req); err != nil {
			return nil, err
		}
	}
	status, answer := 200, any(entry{})
	switch result, err := m.answer(op, req); {
	case err != nil:
		status, answer = 400, entry{"__type": "com.amazonaws.dynamodb.v20120810#" + err.Error()}
	case result != nil:
		answer = result
	}
	data, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	a := answers{op: always(status, string(data))}
	return a.Do(r)
}

// pageSize is small, so that tables have several pages.
const pageSize = 3

func (m *memory) answer(op string, r request) (any, error) {
	t, ok := m.tables[r.TableName]
	if op == "CreateTable" {
		m.tables[r.TableName] = map[string]entry{}
		return nil, nil
	}
	if !ok {
		return nil, fmt.Errorf("ResourceNotFoundException")
	}
	key := r.Key
	switch op {
	case "DescribeTable":
		return json.RawMessage(active), nil
	case "Scan":
		return m.scan(t, r), nil
	case "PutItem":
		key = r.Item
	}
	id := keyOf(key)
	was, there := t[id]
	switch c := r.ConditionExpression; {
	case c == "":
	case c == "attribute_not_exists(leaseKey)" && !there:
	case c == "leaseCounter = :is" && there && reflect.DeepEqual(was["leaseCounter"], r.ExpressionAttributeValues[":is"]):
	default:
		return nil, fmt.Errorf("ConditionalCheckFailedException")
	}
	switch op {
	case "GetItem":
		if !there {
			return nil, nil
		}
		return entry{"Item": was}, nil
	case "PutItem":
		t[id] = r.Item
	case "DeleteItem":
		delete(t, id)
	case "UpdateItem":
		t[id] = updated(was, r)
	default:
		return nil, fmt.Errorf("UnknownOperationException")
	}
	return nil, nil
}

func keyOf(i entry) string { return i["leaseKey"].(map[string]any)["S"].(string) }

// updated applies "SET a = :a, b = :b REMOVE c, d".
func updated(was entry, r request) entry {
	now := maps.Clone(was)
	if now == nil {
		now = maps.Clone(r.Key)
	}
	set, remove, _ := strings.Cut(r.UpdateExpression, " REMOVE ")
	for _, name := range strings.Split(remove, ", ") {
		delete(now, name)
	}
	for _, assign := range strings.Split(strings.TrimPrefix(set, "SET "), ", ") {
		name, value, _ := strings.Cut(assign, " = ")
		now[name] = r.ExpressionAttributeValues[value]
	}
	return now
}

func (m *memory) scan(t map[string]entry, r request) any {
	const earlier = "attribute_exists(shardlogRow) AND attribute_exists(leaseCounter) AND contains(leaseKey, :slash)"
	ids := slices.Sorted(maps.Keys(t))
	if r.ExclusiveStartKey != nil {
		ids = slices.DeleteFunc(ids, func(id string) bool { return id <= keyOf(r.ExclusiveStartKey) })
	}
	page := entry{}
	if len(ids) > pageSize {
		ids = ids[:pageSize]
		page["LastEvaluatedKey"] = entry{"leaseKey": t[ids[pageSize-1]]["leaseKey"]}
	}
	items := []entry{}
	for _, id := range ids {
		i := t[id]
		if r.FilterExpression == earlier && (i["shardlogRow"] == nil || i["leaseCounter"] == nil || !strings.Contains(id, "/")) {
			continue
		}
		items = append(items, i)
	}
	page["Items"] = items
	return page
}
