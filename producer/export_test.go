package producer

// Resolved returns the options after defaults.
func (p *Producer) Resolved() Options { return p.opts }
