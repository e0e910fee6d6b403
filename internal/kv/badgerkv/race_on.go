//go:build race

package badgerkv

// raceDetector: this program looks for data races.
const raceDetector = true
