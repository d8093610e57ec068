package enter

import (
	"syscall"

	"jail/internal/sys"
	"jail/internal/wire"
)

// maxAuthority is the size of the largest Xauthority file that is read, in bytes.
const maxAuthority = 64 << 10

// addDisplay puts the display that the client forwards into the request, if there
// is one and its cookie is found. sshd has let xauth(1) write that
// (session.c:do_rc_files), with this uid and environment, before it started us.
func (s *session) addDisplay(env []string) {
	display, _ := lookup(env, "DISPLAY")
	local, number, ok := parseDisplay(display)
	if !ok {
		return
	}
	file, ok := lookup(env, "XAUTHORITY")
	end := ""
	if !ok || file == "" {
		if file, _ = lookup(env, "HOME"); file == "" {
			return
		}
		end = "/.Xauthority"
	}
	path := append(append(append(s.packet[:0], file...), end...), 0)
	cookie := findCookie(readOwn(path, s.authority[:]), number, local)
	if cookie == nil {
		return
	}
	s.req.Display, s.req.Cookie = sys.Bytes(display), cookie
	s.req.Flags |= wire.FlagX11
}

// parseDisplay takes apart what sshd puts into DISPLAY: HOST:NUMBER.SCREEN, where
// HOST is localhost unless X11UseLocalhost is no
// (channels.c:x11_create_display_inet, session.c:session_setup_x11fwd). A display
// of the host's own, which has no HOST, is none for a jail.
func parseDisplay(display string) (local bool, number string, ok bool) {
	colon := len(display) - 1
	for colon >= 0 && display[colon] != ':' {
		colon--
	}
	if colon < 1 || len(display) > wire.MaxDisplay {
		return false, "", false
	}
	end := colon + 1
	for end < len(display) && display[end] >= '0' && display[end] <= '9' {
		end++
	}
	number = display[colon+1 : end]
	if number == "" || len(number) > 5 || end < len(display) && display[end] != '.' {
		return false, "", false
	}
	switch display[:colon] {
	case "unix":
		return false, "", false
	case "localhost", "127.0.0.1", "::1", "[::1]":
		local = true
	}
	return local, number, true
}

// Families of an Xauthority entry (Xauth.h).
const (
	familyLocal = 256
	familyWild  = 65535
)

// findCookie returns the newest MIT-MAGIC-COOKIE-1 for a display in an Xauthority
// file, nil without. Entries are family, address, number, name and data; all but
// the family have their length before them, and numbers are big endian
// (libXau, AuRead.c). xauth adds at the end.
func findCookie(text []byte, number string, local bool) []byte {
	var cookie []byte
	for len(text) >= 2 {
		family := int(text[0])<<8 | int(text[1])
		text = text[2:]
		var field [4][]byte
		for i := range field {
			if len(text) < 2 {
				return cookie
			}
			n := int(text[0])<<8 | int(text[1])
			if text = text[2:]; n > len(text) {
				return cookie
			}
			field[i], text = text[:n], text[n:]
		}
		isLocal := family == familyLocal || family == familyWild
		if string(field[1]) == number && string(field[2]) == "MIT-MAGIC-COOKIE-1" &&
			len(field[3]) > 0 && len(field[3]) <= wire.MaxCookie && (isLocal || !local) {
			cookie = field[3]
		}
	}
	return cookie
}

// readOwn reads a regular file of this uid's that nobody else can write to; nil
// if it is none, or too long. path is its name, with a NUL; text is memory to use.
func readOwn(path, text []byte) []byte {
	fd, e := sys.OpenNoWait(path, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_NOCTTY)
	if e != 0 {
		return nil
	}
	text = readRegular(fd, text, false)
	sys.Close(fd)
	return text
}
