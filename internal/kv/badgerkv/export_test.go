package badgerkv

// KeepTorn plants a defect in recovery, see keepTorn.
func KeepTorn(on bool) { keepTorn = on }

// RaceDetector says that this is a build with the race detector.
const RaceDetector = raceDetector
