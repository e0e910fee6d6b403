package producer

// numbers gives each stored record of an identity its number, and knows below
// which none will be sent again.
type numbers struct {
	next, done uint64
	settled    [numberWindow / 64]uint64 // bit n%numberWindow for numbers from done to next
}

// numberWindow is how far apart the numbers in use may be. A sink remembers
// about as many; the log takes up to 1,048,576.
const numberWindow = 1 << 16

// full tells whether there is no number to give.
func (n *numbers) full() bool { return n.next-n.done >= numberWindow }

// take returns the next number.
func (n *numbers) take() uint64 {
	n.next++
	return n.next - 1
}

// settle says that a number will not be sent again.
func (n *numbers) settle(number uint64) {
	n.settled[number%numberWindow/64] |= 1 << (number % 64)
	for n.done < n.next {
		word, bit := &n.settled[n.done%numberWindow/64], uint64(1)<<(n.done%64)
		if *word&bit == 0 {
			return
		}
		*word &^= bit
		n.done++
	}
}
