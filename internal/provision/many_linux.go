package provision

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"jail/internal/jail"
	"jail/internal/rootpath"
)

// One account is made by useradd(8). For a list of them that is eight fsync(2) an account and a
// minute or more a thousand, while all of them are four files written once. So a list is written
// into the account files here, under the lock that every program takes that changes them
// (lckpwdf(3)): useradd, passwd, chpasswd, vipw, systemd-sysusers. It is the way for accounts that
// are there as well, a group's, of which the shell and the membership change.

const (
	accountLock     = "/etc/.pwd.lock"
	accountLockWait = 15 * time.Second // as lckpwdf(3)
	// maxAccounts bounds a file of the host's accounts.
	maxAccounts = 64 << 20
)

// lockAccounts takes that lock; unlock gives it back.
func lockAccounts() (unlock func(), err error) {
	fd, err := unix.Open(accountLock, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the account files, %s: %w", accountLock, err)
	}
	for end := time.Now().Add(accountLockWait); ; time.Sleep(50 * time.Millisecond) {
		err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		if err == nil {
			return func() { unix.Close(fd) }, nil
		}
		if err != unix.EAGAIN && err != unix.EACCES || time.Now().After(end) {
			unix.Close(fd)
			return nil, fmt.Errorf("lock the account files, %s: %w (somebody else changes them)", accountLock, err)
		}
	}
}

// hostAccounts are the host's account files while they are changed. gshadow, and shadow, may not be there.
type hostAccounts struct {
	dir   int // /etc
	files []accountFile
}

type accountFile struct {
	name    string
	text    []byte
	was     []byte
	there   bool
	st      unix.Stat_t
	selinux []byte
}

// The user's line comes last and goes last: who it is has to be known while there is anything else of him.
var hostFiles = []string{"group", "gshadow", "shadow", "passwd"}

func openAccounts() (*hostAccounts, error) {
	dir, err := rootpath.OpenDir("/etc", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	h := &hostAccounts{dir: dir}
	for _, name := range hostFiles {
		f, err := readAccounts(dir, name)
		if err != nil {
			h.close()
			return nil, fmt.Errorf("/etc/%s: %w", name, err)
		}
		h.files = append(h.files, f)
	}
	return h, nil
}

func (h *hostAccounts) close() { unix.Close(h.dir) }

func readAccounts(dir int, name string) (accountFile, error) {
	f := accountFile{name: name}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err == unix.ENOENT && name != "passwd" && name != "group" {
		return f, nil
	}
	if err != nil {
		return f, err // ELOOP as well: nobody knows whose a link is, or writes beside it
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &f.st); err != nil {
		return f, err
	}
	if f.st.Mode&unix.S_IFMT != unix.S_IFREG || f.st.Size > maxAccounts {
		return f, errors.New("is no ordinary file of accounts")
	}
	f.text = make([]byte, 0, f.st.Size)
	for buf := make([]byte, 64<<10); ; {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return f, err
		}
		if n == 0 {
			break
		}
		f.text = append(f.text, buf[:n]...)
	}
	// Without it, what a policy says of the new file would be what it says of any in /etc.
	label := make([]byte, 512)
	if n, err := unix.Fgetxattr(fd, "security.selinux", label); err == nil {
		f.selinux = label[:n]
	}
	f.was, f.there = slices.Clone(f.text), true
	return f, nil
}

// text is that of a file, to be read and changed.
func (h *hostAccounts) text(name string) *[]byte {
	for i := range h.files {
		if h.files[i].name == name {
			return &h.files[i].text
		}
	}
	return nil
}

func (f *accountFile) changed() bool { return f.there && string(f.text) != string(f.was) }

func (h *hostAccounts) changed() bool {
	return slices.ContainsFunc(h.files, func(f accountFile) bool { return f.changed() })
}

// write puts what has changed on the disk, each file whole.
func (h *hostAccounts) write() error {
	for i := range h.files {
		f := &h.files[i]
		if !f.changed() {
			continue
		}
		err := rootpath.PutAt(h.dir, f.name, f.text, f.st.Mode&0o777, int(f.st.Uid), int(f.st.Gid), rootpath.How{Label: f.selinux})
		if err != nil {
			return fmt.Errorf("write /etc/%s: %w", f.name, err)
		}
	}
	return nil
}

// changeAccounts has change change the files, all of them under the lock.
func changeAccounts(change func(h *hostAccounts) error) error {
	unlock, err := lockAccounts()
	if err != nil {
		return err
	}
	defer unlock()
	h, err := openAccounts()
	if err != nil {
		return err
	}
	defer h.close()
	if err := change(h); err != nil {
		return err
	}
	return h.write()
}

// addAccounts makes the accounts of logins as addAccount does, and gives those that are there
// the shell and the group.
func addAccounts(logins []Login) error {
	return changeAccounts(func(h *hostAccounts) error { return h.add(logins) })
}

func (h *hostAccounts) add(logins []Login) error {
	passwd, group := h.text("passwd"), h.text("group")
	users, groups := names(*passwd), names(*group)
	uids, gids := ids(*passwd), ids(*group)
	taken := make(map[uint32]bool, len(uids))
	for _, id := range uids {
		taken[id] = true
	}
	next := newFree(1000, 60000, gids, uids)
	var own, members []string
	lines := map[string][]string{}
	shells := map[string]string{}
	for i := range logins {
		l := &logins[i]
		switch {
		case l.Account:
			if users[l.Login] || groups[l.Login] || taken[l.HostUID] {
				return fmt.Errorf("account %s, uid %d: somebody has made an account or a group like it meanwhile", l.Login, l.HostUID)
			}
			gid := l.HostUID
			if slices.Contains(gids, gid) {
				var err error
				if gid, err = next.take(); err != nil {
					return err
				}
			}
			gids = append(gids, gid)
			taken[l.HostUID] = true
			lines["passwd"] = append(lines["passwd"], fmt.Sprintf("%s:x:%d:%d:jail %s:%s:%s\n", l.Login, l.HostUID, gid, l.Jail, jail.EmptyHome, l.Shell))
			lines["shadow"] = append(lines["shadow"], fmt.Sprintf("%s:*:%d:0:99999:7:::\n", l.Login, time.Now().Unix()/86400))
			lines["gshadow"] = append(lines["gshadow"], l.Login+":!::\n")
			own = append(own, fmt.Sprintf("%s:x:%d:\n", l.Login, gid))
			members = append(members, l.Login)
		case l.Adopted:
			if l.Reshell {
				shells[l.Login] = l.Shell
			}
			if l.Joined {
				members = append(members, l.Login)
			}
		}
	}
	lines["group"] = own
	for file, add := range lines {
		text := h.text(file)
		*text = insert(*text, add...)
	}
	*passwd = reshell(*passwd, func(f []string) string {
		if s, ok := shells[f[0]]; ok {
			return s
		}
		return f[6]
	})
	*group = join(*group, Group, members)
	gshadow := h.text("gshadow")
	*gshadow = join(*gshadow, Group, members)
	return nil
}

// dropAccounts takes back what addAccounts has done of it, for accounts that are as it has made them.
func dropAccounts(logins []Login) error {
	var uids []uint32
	for i := range logins {
		if logins[i].Account {
			uids = append(uids, logins[i].HostUID)
		}
	}
	var errs []error
	if len(uids) > 0 && !endProcesses(uids...) {
		errs = append(errs, errors.New("processes of the accounts do not end"))
	}
	// Where there is nothing to take back, nobody is waited for: a run that did not get the lock ends so.
	h, err := openAccounts()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	err = h.drop(logins)
	h.close()
	if h.changed() {
		locked := changeAccounts(func(h *hostAccounts) error {
			err = h.drop(logins) // of what is not as it was made; the others go
			return nil
		})
		errs = append(errs, locked)
	}
	return errors.Join(append(errs, err)...)
}

func (h *hostAccounts) drop(logins []Login) error {
	passwd, group := h.text("passwd"), h.text("group")
	have := make(map[string][]string)
	for line := range strings.Lines(string(*passwd)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), ":"); len(f) == 7 {
			have[f[0]] = f
		}
	}
	var errs []error
	var gone, left []string
	gids := map[string]string{}
	back := map[string]*Login{}
	for i := range logins {
		l := &logins[i]
		f := have[l.Login]
		switch {
		case l.Account && f == nil: // its line goes last, so nothing is left of it
		case l.Account && (f[2] != fmt.Sprint(l.HostUID) || f[6] != l.Shell):
			errs = append(errs, fmt.Errorf("account %s is not as it was made (uid %s, shell %s): it stays", l.Login, f[2], f[6]))
		case l.Account:
			gone = append(gone, l.Login)
			gids[l.Login] = f[3]
		case l.Adopted:
			if l.Reshell && f != nil && f[2] == fmt.Sprint(l.HostUID) {
				back[l.Login] = l
			}
			if l.Joined {
				left = append(left, l.Login)
			}
		}
	}
	// Lines without an account, where a run was killed before it came to write that.
	for i := range logins {
		if l := &logins[i]; l.Account && have[l.Login] == nil {
			gone = append(gone, l.Login)
			gids[l.Login] = ""
		}
	}
	*group = remove(*group, gone, func(n string, f []string) bool {
		return len(f) == 4 && f[3] == "" && (gids[n] == "" && f[2] == hostUID(logins, n) || f[2] == gids[n])
	})
	gshadow, shadow := h.text("gshadow"), h.text("shadow")
	groups := names(*group)
	*gshadow = remove(*gshadow, gone, func(n string, _ []string) bool { return !groups[n] })
	*group, *gshadow = leave(*group, gone), leave(*gshadow, gone)
	*group, *gshadow = part(*group, Group, left), part(*gshadow, Group, left)
	*shadow = remove(*shadow, gone, nil)
	*passwd = remove(*passwd, gone, nil)
	*passwd = reshell(*passwd, func(f []string) string {
		if l := back[f[0]]; l != nil && f[6] == l.Shell {
			return l.OldShell
		}
		return f[6]
	})
	return errors.Join(errs...)
}

func hostUID(logins []Login, name string) string {
	for i := range logins {
		if logins[i].Login == name {
			return strconv.FormatUint(uint64(logins[i].HostUID), 10)
		}
	}
	return ""
}

// names are the first fields of account text.
func names(text []byte) map[string]bool {
	all := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		name, _, ok := strings.Cut(line, ":")
		if ok {
			all[name] = true
		}
	}
	return all
}

// reshell changes the shells of passwd(5) text to what is said of each line.
func reshell(text []byte, shell func(fields []string) string) []byte {
	var next []byte
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) == 7 {
			if s := shell(f); s != f[6] {
				f[6] = s
				line = strings.Join(f, ":") + "\n"
			}
		}
		next = append(next, line...)
	}
	return next
}

// join adds members to one group of group(5) or gshadow(5) text, part takes them out of it.
func join(text []byte, group string, members []string) []byte {
	return inGroup(text, group, func(have []string) []string {
		there := make(map[string]bool, len(have))
		for _, m := range have {
			there[m] = true
		}
		for _, m := range members {
			if !there[m] {
				have = append(have, m)
			}
		}
		return have
	})
}

func part(text []byte, group string, members []string) []byte {
	gone := make(map[string]bool, len(members))
	for _, m := range members {
		gone[m] = true
	}
	return inGroup(text, group, func(have []string) []string {
		return slices.DeleteFunc(have, func(m string) bool { return gone[m] })
	})
}

func inGroup(text []byte, group string, change func([]string) []string) []byte {
	var next []byte
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), ":"); len(f) == 4 && f[0] == group {
			var have []string
			if f[3] != "" {
				have = strings.Split(f[3], ",")
			}
			f[3] = strings.Join(change(have), ",")
			line = strings.Join(f, ":") + "\n"
		}
		next = append(next, line...)
	}
	return next
}

// atOnce is how many homes are furnished at a time: each is a process of its owner's own, which
// takes its time for its start and waits for the disk.
const atOnce = 4

// each does something for 0 to n-1, some of them at a time, and returns the first error; what has
// begun is waited for.
func each(n int, do func(i int) error) error {
	var mu sync.Mutex
	var first error
	next := 0
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if first != nil || next == n {
			return 0, false
		}
		next++
		return next - 1, true
	}
	var all sync.WaitGroup
	for range min(atOnce, n) {
		all.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				if err := do(i); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return first
}
