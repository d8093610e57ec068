package sftpserver

import (
	"strconv"
	"strings"
)

// usage is what a wrong command line is answered with.
const usage = `usage: sftp-server [-ehR] [-d start_directory] [-f log_facility] [-l log_level]
	[-P denied_requests] [-p allowed_requests] [-u umask]
       sftp-server -Q protocol_feature
`

// level is how much is logged; each includes those before it (sshd_config(5),
// LogLevel).
type level int

const (
	levelQuiet level = iota
	levelFatal
	levelError
	levelInfo
	levelVerbose
	levelDebug
)

// options are the command line's, sftp-server(8).
type options struct {
	startDir string // -d, not expanded
	facility int    // -f, as syslog(3) has it
	level    level
	stderr   bool     // -e: log to standard error
	readOnly bool     // -R
	umask    int      // -u; -1 keeps it
	allowed  []string // -p; nil allows all
	denied   []string // -P
	query    string   // -Q
	hasQuery bool
	usage    bool   // -h, or what is not understood
	invalid  string // what the log cannot be set to
	fatal    string // what is wrong and ends the program
}

// maxList is how many elements of -p and -P count (match.c, MAX_PROP).
const maxList = 40

// parse reads the command line without its first element, as getopt(3) does: the
// first word that is no option ends it. Behind -c, which is how the server is
// started when it is somebody's login shell, nothing counts.
func parse(args []string) options {
	o := options{facility: facilityAuth, level: levelError, umask: -1}
	for len(args) > 0 {
		word := args[0]
		if len(word) < 2 || word[0] != '-' || word == "--" {
			break
		}
		args = args[1:]
		for flags := word[1:]; flags != ""; {
			c := flags[0]
			flags = flags[1:]
			if strings.IndexByte("dflPpuQ", c) < 0 {
				switch c {
				case 'c':
					return o
				case 'e':
					o.stderr = true
				case 'R':
					o.readOnly = true
				default:
					o.usage = true
					return o
				}
				continue
			}
			value := flags
			flags = ""
			if value == "" {
				if len(args) == 0 {
					o.usage = true
					return o
				}
				value, args = args[0], args[1:]
			}
			o.set(c, value)
			if o.fatal != "" || o.hasQuery {
				return o
			}
		}
	}
	return o
}

func (o *options) set(c byte, value string) {
	switch c {
	case 'd':
		o.startDir = value
	case 'f':
		n, ok := facilities[strings.ToUpper(value)]
		if !ok {
			o.invalid = "Invalid log facility \"" + value + "\""
			return
		}
		o.facility = n
	case 'l':
		n, ok := levels[strings.ToUpper(value)]
		if !ok {
			o.invalid = "Invalid log level \"" + value + "\""
			return
		}
		o.level = n
	case 'p':
		if o.allowed != nil {
			o.fatal = "Permitted requests already set"
		}
		o.allowed = list(value)
	case 'P':
		if o.denied != nil {
			o.fatal = "Refused requests already set"
		}
		o.denied = list(value)
	case 'u':
		n, err := strconv.ParseUint(value, 8, 32)
		if err != nil || n > 0o777 {
			o.fatal = "Invalid umask \"" + value + "\""
		}
		o.umask = int(n)
	case 'Q':
		o.query, o.hasQuery = value, true
	}
}

// list splits at commas; an empty element ends the list (match.c, match_list).
func list(s string) []string {
	out := []string{}
	for len(out) < maxList {
		item, rest, more := strings.Cut(s, ",")
		if item == "" {
			break
		}
		out = append(out, item)
		if !more {
			break
		}
		s = rest
	}
	return out
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// permits reports whether a request of kind k may be served, and if not, why not
// (sftp-server.c, request_permitted).
func (o *options) permits(k *kind) (why string, ok bool) {
	switch {
	case o.readOnly && k.writes:
		return "Refusing " + k.name + " request in read-only mode", false
	case contains(o.denied, k.name):
		return "Refusing denylisted " + k.name + " request", false
	case o.allowed != nil && !contains(o.allowed, k.name):
		return "Refusing non-allowlisted " + k.name + " request", false
	}
	return "", true
}

// Facilities of syslog(3).
const facilityAuth = 4 << 3

var facilities = map[string]int{
	"DAEMON": 3 << 3, "USER": 1 << 3, "AUTH": facilityAuth, "AUTHPRIV": 10 << 3,
	"LOCAL0": 16 << 3, "LOCAL1": 17 << 3, "LOCAL2": 18 << 3, "LOCAL3": 19 << 3,
	"LOCAL4": 20 << 3, "LOCAL5": 21 << 3, "LOCAL6": 22 << 3, "LOCAL7": 23 << 3,
}

var levels = map[string]level{
	"QUIET": levelQuiet, "FATAL": levelFatal, "ERROR": levelError, "INFO": levelInfo, "VERBOSE": levelVerbose,
	"DEBUG": levelDebug, "DEBUG1": levelDebug, "DEBUG2": levelDebug, "DEBUG3": levelDebug,
}
