package producer

// list is a queue of entries. An entry is in at most one list, which it knows,
// so that it can be removed from anywhere.
type list struct {
	head, tail *entry
	n          int
	bytes      int
}

func (l *list) push(e *entry) {
	e.in, e.prev, e.next = l, l.tail, nil
	if l.tail != nil {
		l.tail.next = e
	} else {
		l.head = e
	}
	l.tail = e
	l.n++
	l.bytes += e.size
}

func (l *list) remove(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.head = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.tail = e.prev
	}
	e.in, e.prev, e.next = nil, nil, nil
	l.n--
	l.bytes -= e.size
}

// prependAll moves the entries of o before those of l.
func (l *list) prependAll(o *list) {
	for e := o.tail; e != nil; e = o.tail {
		o.remove(e)
		e.in, e.next = l, l.head
		if l.head != nil {
			l.head.prev = e
		} else {
			l.tail = e
		}
		l.head = e
		l.n++
		l.bytes += e.size
	}
}

// chain is a queue of entries that are in no list.
type chain struct {
	head, tail *entry
	n          int
}

func (c *chain) push(e *entry) {
	if c.tail != nil {
		c.tail.next = e
	} else {
		c.head = e
	}
	c.tail = e
	c.n++
}

// cut removes the first entries, at most a number, and returns the first of
// them; nil if the chain is empty.
func (c *chain) cut(most int) *entry {
	first := c.head
	if c.n <= most {
		*c = chain{}
		return first
	}
	last := first
	for range most - 1 {
		last = last.next
	}
	c.head, last.next = last.next, nil
	c.n -= most
	return first
}

// ageList holds entries in the order in which they were accepted.
type ageList struct{ oldest, youngest *entry }

func (l *ageList) push(e *entry) {
	e.older, e.younger = l.youngest, nil
	if l.youngest != nil {
		l.youngest.younger = e
	} else {
		l.oldest = e
	}
	l.youngest = e
}

func (l *ageList) remove(e *entry) {
	if e.older != nil {
		e.older.younger = e.younger
	} else {
		l.oldest = e.younger
	}
	if e.younger != nil {
		e.younger.older = e.older
	} else {
		l.youngest = e.older
	}
	e.older, e.younger = nil, nil
}
