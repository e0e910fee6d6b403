package consumer

// Resolved returns the options with their defaults filled in.
func (c *Consumer) Resolved() Options { return c.opts }
