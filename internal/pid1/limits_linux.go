package pid1

import (
	"strconv"

	"jail/internal/wire"
)

// minute is in milliseconds.
const minute = 60_000

// tooMany says why a request is one too many by the registry, "" if it is not, and counts
// it then. The administrator's are never.
func (l *loop) tooMany(c *conn) string {
	if c.login < 0 {
		return ""
	}
	s := &l.setup.Sessions
	if s.Max > 0 && l.sessions-l.serving >= int(s.Max) {
		return "the jail has as many sessions as it may have (max_sessions = " + strconv.FormatUint(uint64(s.Max), 10) + "); there is room when one has ended"
	}
	if s.PerMinute > 0 {
		// As many at once as in a minute, and one more each time its share of a minute
		// has gone by.
		who, each := &l.listeners[c.login], minute/int64(s.PerMinute)
		if wait := who.begun - l.now - minute + each; wait > 0 {
			return "too many new sessions in a minute (session_rate = " + strconv.FormatUint(uint64(s.PerMinute), 10) +
				"), the next one in " + strconv.FormatInt((wait+999)/1000, 10) + " s"
		}
		who.begun = max(who.begun, l.now) + each
	}
	return ""
}

// limit takes what sessions may have from now on.
func (l *loop) limit(s wire.SessionLimits) {
	l.setup.Sessions = s
	l.jail.Limit(&l.setup.Sessions)
}
