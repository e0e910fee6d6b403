//go:build !linux

package badgerkv

// pager is for Linux only.
type pager struct{}

func newPager(*Store) *pager { return nil }

func (*pager) close() {}

func (*pager) wrote(int64) {}
