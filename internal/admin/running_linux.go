package admin

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"jail/config"
	"jail/internal/audit"
	"jail/internal/control"
	"jail/internal/count"
	"jail/internal/fdsock"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/launch"
	"jail/internal/sys"
)

// running looks at what runs: the runtime directory, serve, the sockets of logins, what is
// in force, and the first processes of jails. It starts nothing and stops nothing.
func running(opt Options, reg *config.Registry) (found []audit.Remark) {
	say := func(sev audit.Severity, id, jail, login, where, what, fix string) {
		found = append(found, audit.Remark{Severity: sev, ID: id, Jail: jail, Login: login, Where: where, What: what, Fix: fix})
	}
	if len(reg.Jails) == 0 {
		return nil
	}
	found = disabled(opt, reg)
	start := "jail-init serve"
	if st, err := os.Lstat("/run/systemd/system"); err == nil && st.IsDir() && !opt.Rootless {
		start = "systemctl start jail; journalctl -u jail -n 20"
	}
	serving, pid := Serving(opt), 0
	if serving {
		pid = servePID(opt)
	}
	var st unix.Stat_t
	if err := unix.Lstat(opt.RuntimeDir, &st); err != nil {
		say(audit.Error, "serve-down", "", "", opt.RuntimeDir, "is not there ("+err.Error()+"), since jail-init serve does not run: nobody can log in", start)
		return found
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		say(audit.Error, "runtime-dir", "", "", opt.RuntimeDir, fmt.Sprintf("is uid %d's and has mode %04o, so others may put sockets there", st.Uid, st.Mode&0o7777), "chown root "+opt.RuntimeDir+" && chmod 0711 "+opt.RuntimeDir)
	} else if st.Mode&0o011 != 0o011 && !opt.Rootless {
		say(audit.Error, "runtime-dir", "", "", opt.RuntimeDir, fmt.Sprintf("has mode %04o, so logins do not reach their sockets", st.Mode&0o7777), "chmod 0711 "+opt.RuntimeDir)
	}
	if old := exeIsGone(pid); old {
		say(audit.Warning, "serve-old", "", "", "jail-init serve", "is the program of before the last installation, and starts jails with it", "systemctl restart jail")
	}

	type whose struct{ jail, login string }
	owners := map[jail.HostUID]whose{}
	var uids []jail.HostUID
	for i := range reg.Jails {
		for k := range reg.Jails[i].Logins {
			lg := &reg.Jails[i].Logins[k]
			owners[lg.HostUID] = whose{reg.Jails[i].Name, lg.Name}
			uids = append(uids, lg.HostUID)
		}
	}
	deaf, err := fdsock.Deaf(opt.RuntimeDir, uids)
	if serving && len(deaf) > 0 {
		// A listener is renamed into place when a jail ends.
		time.Sleep(200 * time.Millisecond)
		deaf, err = fdsock.Deaf(opt.RuntimeDir, deaf)
	}
	switch {
	case err != nil:
		say(audit.Note, "sockets-unknown", "", "", opt.RuntimeDir, "whether somebody listens on the sockets of logins is not known: "+err.Error(), "modprobe unix_diag")
	case len(deaf) > 0 && !serving:
		say(audit.Error, "serve-down", "", "", "jail-init serve", fmt.Sprintf("does not run, so %d of %s refused (\"no jail answers\")", len(deaf), count.Of(len(uids), "login is", "logins are")), start)
	}
	if n := orphans(opt, reg); n > 0 && !serving && err == nil && len(deaf) == 0 {
		say(audit.Warning, "serve-down", "", "", "jail-init serve", "does not run: "+count.Of(n, "jail goes on", "jails go on")+
			" without it, records nothing, and its logins are refused when it has ended", start)
	}
	was := taken(opt)
	let := map[string]bool{} // logins in force
	if was != nil {
		for i := range was.Jails {
			for _, l := range was.Jails[i].Logins {
				let[l.Name] = true
			}
		}
	}
	if serving && err == nil {
		for _, uid := range deaf {
			o := owners[uid]
			if was != nil && !let[o.login] {
				continue // registry-stale says it
			}
			say(audit.Error, "login-socket", o.jail, o.login, opt.RuntimeDir, "nobody listens on the socket of the login, which jail-init serve should", "jail reload")
		}
	}
	if was != nil && stale(was, reg) {
		const what = "says something else than what is in force, which jail-init serve has read before"
		n := 0
		for _, o := range owners {
			if !let[o.login] {
				n++
			}
		}
		if n > 0 {
			say(audit.Error, "registry-stale", "", "", opt.ConfigPath, what+": "+count.Of(n, "login is", "logins are")+" not let in yet", "jail reload")
		} else {
			say(audit.Warning, "registry-stale", "", "", opt.ConfigPath, what, "jail reload")
		}
	}
	return append(found, firsts(opt, reg)...)
}

// orphans counts the jails of the registry that run and have been started by a serve: not by run, which stays
// with its jail.
func orphans(opt Options, reg *config.Registry) (n int) {
	for _, name := range Running(opt) {
		spec := reg.Jail(name)
		if spec == nil || slices.ContainsFunc(spec.Logins, func(l jail.Login) bool { return inforce.Kept(opt.RuntimeDir, l.Name) }) {
			continue
		}
		if Runs(opt, name) {
			n++
		}
	}
	return n
}

// servePID is the pid of serve, 0 if it is not known.
func servePID(opt Options) int {
	fd, err := fdsock.DialPlain(fdsock.ServePath(opt.RuntimeDir))
	if err != nil {
		return 0
	}
	defer sys.Close(fd)
	if c, err := sys.PeerCred(fd); err == nil {
		return int(c.Pid)
	}
	return 0
}

// exeIsGone reports whether the program of a process has been replaced on the disk.
func exeIsGone(pid int) bool {
	if pid <= 0 {
		return false
	}
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	return err == nil && strings.HasSuffix(exe, " (deleted)")
}

// taken is the registry in force, nil if there is none.
func taken(opt Options) *config.Registry {
	f, err := inforce.Open(opt.RuntimeDir, opt.ConfigPath)
	if err != nil {
		return nil
	}
	defer f.Close()
	was, err := f.Registry()
	if err != nil {
		return nil
	}
	return was
}

// stale reports whether what is in force, was, differs from the registry.
func stale(was, reg *config.Registry) bool {
	for i := range reg.Jails {
		spec := was.Jail(reg.Jails[i].Name)
		if spec == nil || normal(*spec) != normal(reg.Jails[i]) {
			return true
		}
	}
	return false
}

// disabled says who is, so that nobody looks elsewhere for the reason.
func disabled(opt Options, reg *config.Registry) (found []audit.Remark) {
	d, err := inforce.ReadDisabled(opt.ConfigPath)
	if err != nil {
		return nil
	}
	for i := range reg.Jails {
		spec := &reg.Jails[i]
		if m, ok := d.Jails[spec.Name]; ok {
			found = append(found, audit.Remark{Severity: audit.Note, ID: "disabled", Jail: spec.Name, Where: "jail " + audit.JailName,
				What: "is disabled, and its users are told: " + m, Fix: "jail enable " + audit.JailName})
		}
		for k := range spec.Logins {
			name := spec.Logins[k].Name
			if m, ok := d.Logins[name]; ok {
				found = append(found, audit.Remark{Severity: audit.Note, ID: "disabled", Jail: spec.Name, Login: name, Where: "jail " + audit.JailName,
					What: "the login is disabled, and told: " + m, Fix: "jail enable " + audit.LoginName})
			}
		}
	}
	return found
}

// firsts asks the first process of each jail that runs.
func firsts(opt Options, reg *config.Registry) (found []audit.Remark) {
	build, err := launch.InstalledBuild()
	var mu sync.Mutex
	var asking sync.WaitGroup
	room := make(chan struct{}, 64)
	for _, name := range Running(opt) {
		if reg.Jail(name) == nil {
			continue
		}
		room <- struct{}{}
		asking.Go(func() {
			defer func() { <-room }()
			r := audit.Remark{Jail: name, Where: "jail " + audit.JailName}
			c, silent := control.Open(opt.RuntimeDir, name, false)
			switch {
			case silent == control.ErrNotRunning:
				return
			case silent != nil:
				r.Severity, r.ID = audit.Warning, "pid1-silent"
				r.What = "runs, and its first process does not answer (" + silent.Error() + "): it hangs, or has been taken over"
				r.Fix = "jail stop " + audit.JailName + ", which ends its sessions"
			default:
				defer c.Close()
				if err != nil || c.Status.Build == build {
					return
				}
				r.Severity, r.ID = audit.Note, "pid1-old"
				r.What = "has a first process of another build than the one that is installed, until the jail ends"
				r.Fix = "jail restart " + audit.JailName
			}
			mu.Lock()
			defer mu.Unlock()
			found = append(found, r)
		})
	}
	asking.Wait()
	return found
}
