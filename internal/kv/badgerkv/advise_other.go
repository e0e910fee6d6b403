//go:build !linux

package badgerkv

// adviseMappings is for Linux only: elsewhere the mapped files count as the
// process's memory until the system needs it.
func adviseMappings(string) {}
