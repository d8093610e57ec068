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
// rule may be unknown. PID 1 itself has no use for any of it.
func (j *Jail) SetZone(zone, rule string, sum uint64) {
	if zone == "" && rule == "" {
		return
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
