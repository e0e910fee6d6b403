package producer

// numbers assigns each stored record of an identity its number, and knows below
// which none will be sent again.
type numbers struct {
	next      uint64
	doneBelow uint64
	retired   [numberWindow / 64]uint64 // bit n%numberWindow for numbers from doneBelow to next
}

// numberWindow is how far apart the numbers in use may be. A sink remembers
// about as many; the log of package stream takes up to 1,048,576.
const numberWindow = 1 << 16

// exhausted reports whether there is no number to assign until one is retired.
func (n *numbers) exhausted() bool { return n.next-n.doneBelow >= numberWindow }

// assign returns the next number.
func (n *numbers) assign() uint64 {
	n.next++
	return n.next - 1
}

// retire records that a number will not be sent again.
func (n *numbers) retire(number uint64) {
	n.retired[number%numberWindow/64] |= 1 << (number % 64)
	for n.doneBelow < n.next {
		word, bit := &n.retired[n.doneBelow%numberWindow/64], uint64(1)<<(n.doneBelow%64)
		if *word&bit == 0 {
			return
		}
		*word &^= bit
		n.doneBelow++
	}
}
