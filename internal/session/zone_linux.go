package session

import (
	"syscall"

	"jail/internal/environ"
	"jail/internal/sys"
)

// SetZone decides once, at the start of the jail, which TZ its sessions get: none
// if the rootfs's own /etc/localtime says the same as the host's, the zone's name
// where the rootfs knows it, and the rule otherwise, which works without a file
// (tzset(3)). zone and sum tell the zone and its file, see environ.Sum; both and
// rule may be unknown. It decides as well by which rule the jail's own clocks go, for the
// one line that has a time in it; without a rule that is UTC.
func (j *Jail) SetZone(zone, rule string, sum uint64) {
	j.rule = rule
	if zone == "" && rule == "" {
		j.rule = j.zoneRule("/etc/localtime")
		return
	}
	if rule == "" {
		j.rule = j.zoneRule("/usr/share/zoneinfo/" + zone)
	}
	utc := zone == "UTC" || zone == "Etc/UTC" || zone == "Etc/UCT" || zone == "UCT" || rule == "UTC0"
	var err error
	j.text, err = readUpTo(j.Root, "/etc/localtime", j.text, environ.MaxZoneFile)
	switch {
	case err == syscall.ENOENT && utc: // without one it is UTC (tzset(3))
		return
	case err == nil && (environ.Sum(j.text) == sum || zone != "" && j.zoneLink() == zone):
		return
	}
	switch {
	case environ.ZoneName(zone) && j.isFile("/usr/share/zoneinfo/"+zone):
		j.tz = zone
	case rule != "":
		j.tz = rule
	default:
		j.Notes = append(j.Notes, "neither the host nor the rootfs knows the time zone "+zone+"; install tzdata in one of them, or set timezone = \"rootfs\"")
	}
}

// zoneRule returns the rule of a zone file of the rootfs, "" if it has none.
func (j *Jail) zoneRule(path string) string {
	var err error
	if j.text, err = readUpTo(j.Root, path, j.text, environ.MaxZoneFile); err != nil {
		return ""
	}
	return environ.ZoneRule(j.text)
}

// zoneLink returns the zone that the link at /etc/localtime names, "" if none.
func (j *Jail) zoneLink() string {
	fd, err := sys.Openat2(j.Root, "/etc/localtime", sys.OPath|syscall.O_NOFOLLOW, sys.ResolveInRoot|sys.ResolveNoMagiclinks)
	if err != nil {
		return ""
	}
	defer sys.Close(fd)
	var buf [256]byte
	n, err := sys.Readlinkat(fd, buf[:])
	if err != nil || n == len(buf) {
		return ""
	}
	return environ.ZoneOfLink(string(buf[:n]))
}
