//go:build race

package stream

// raceDetector: this program looks for data races.
const raceDetector = true
