package logstore

import "time"

// step is a step back of the clock, in Unix milliseconds.
type step struct {
	shard       ID
	before, now int64
}

// maxSteps bounds those that wait to be logged.
const maxSteps = 64

// clockStepped has the committer log a step, with mu held: a logger may take long, or
// call the log.
func (l *Log) clockStepped(s step) {
	if l.opts.Logger != nil && len(l.steps) < maxSteps {
		l.steps = append(l.steps, s)
		l.wakeCommitter()
	}
}

func (l *Log) logSteps(steps []step) {
	for _, s := range steps {
		l.logWarn("the clock has stepped back: it was ahead before, or is behind now", "shard", s.shard.String(),
			"before", time.UnixMilli(s.before), "now", time.UnixMilli(s.now))
	}
}
