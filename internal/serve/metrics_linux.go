package serve

import (
	"time"

	"jail/config"
	"jail/internal/metrics"
)

// newPublisher returns who counts, and tells it beside the loop.
func (s *server) newPublisher() metrics.Publisher {
	return metrics.Publisher{Counters: metrics.New(s.opt.Version, time.Now()), Log: s.log}
}

// measured says what is in force, and where to write what is counted.
func (s *server) measured(reg *config.Registry) {
	logins := 0
	for i := range reg.Jails {
		logins += len(reg.Jails[i].Logins)
	}
	s.metrics.Counters.InForce(len(reg.Jails), logins, len(reg.Outages()))
	s.metrics.File(reg.Metrics)
}
