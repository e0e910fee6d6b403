package badgerkv

// KeepTorn plants a defect in recovery, see keepTorn.
func KeepTorn(on bool) { keepTorn = on }
