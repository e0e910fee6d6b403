//go:build race

package logstore

// raceDetector: this program looks for data races.
const raceDetector = true
