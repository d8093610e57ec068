package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	sshDir   = "/etc/ssh/e2e"
	keyFile  = sshDir + "/id" // what every login is made with
	oracleNS = "oracle.ns"    // in scratch: leads to the mount namespace of the oracle's sshd
)

// furnish turns the mount namespace it runs in, a copy of the machine's, into
// the host of the tests.
func furnish(scratch string) error {
	// Private first, or all that follows would reach the machine.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, d := range []string{"etc", "usr", "lib", "tmp", "logs", "mux"} {
		if err := os.MkdirAll(filepath.Join(scratch, d), 0o755); err != nil {
			return err
		}
	}
	// What is read through a symbolic link or from the machine's own places
	// must be at hand before these are covered.
	if err := bind(filepath.Join(scratch, "kept"), filepath.Join(scratch, "kept.d")); err != nil {
		return err
	}
	if logs := os.Getenv("JAIL_TEST_LOGS"); logs != "" {
		if err := bind(logs, filepath.Join(scratch, "logs")); err != nil {
			return err
		}
	}
	// A machine may lack /var/lib/jail. Made on the machine, it would have to be removed there, and
	// with a directory go the mounts on it in all namespaces (since Linux 3.18): those of another run.
	if err := overlaid("/var/lib", filepath.Join(scratch, "lib")); err != nil {
		return err
	}
	for _, place := range []struct {
		path string
		mode os.FileMode
	}{
		{"/run", 0o755}, {"/srv", 0o755}, {"/tmp", 0o777 | os.ModeSticky}, {"/var/lib/jail", 0o755}, {"/var/log", 0o755},
	} {
		if err := empty(place.path, place.mode); err != nil {
			return err
		}
	}
	for _, d := range []string{"/run/sshd", "/run/lock", "/run/user", jailsDir, oracleRoot, emptyHome, "/srv/people"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	// As "make install" and tmpfiles.d leave it.
	if err := command("install", "-d", "-m", "1777", agentPlace); err != nil {
		return err
	}
	if err := terminals(); err != nil {
		return err
	}
	if err := installPrograms(scratch); err != nil {
		return err
	}
	if err := furnishEtc(scratch); err != nil {
		return err
	}
	if err := furnishHomes(); err != nil {
		return err
	}
	if err := bind(filepath.Join(scratch, "roots"), jailsDir); err != nil {
		return err
	}
	if err := populate(debianRoot, scratch, debianAccounts); err != nil {
		return err
	}
	if err := populate(busyboxRoot, scratch, []account{centos}); err != nil {
		return err
	}
	return furnishOracle(scratch)
}

func bind(source, target string) error {
	if err := os.MkdirAll(target, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind mount %s on %s: %w", source, target, err)
	}
	return nil
}

// empty covers a directory with an empty file system.
func empty(path string, mode os.FileMode) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", path, err)
	}
	return os.Chmod(path, mode)
}

// overlaid has what is written below a directory of the machine's go to memory, mounted at another.
func overlaid(path, memory string) error {
	if err := unix.Mount("tmpfs", memory, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	upper, workdir := filepath.Join(memory, "upper"), filepath.Join(memory, "work")
	for _, d := range []string{upper, workdir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("overlay", path, "overlay", 0, "lowerdir="+path+",upperdir="+upper+",workdir="+workdir); err != nil {
		return fmt.Errorf("overlay on %s: %w", path, err)
	}
	return nil
}

// terminals gives the namespace ptys of its own, so that one left open shows.
func terminals() error {
	if err := unix.Mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5"); err != nil {
		return fmt.Errorf("mount /dev/pts: %w", err)
	}
	if err := unix.Mount("/dev/pts/ptmx", "/dev/ptmx", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount /dev/ptmx: %w", err)
	}
	return nil
}

// installPrograms puts the programs where the accounts and sshd_config expect
// them: into an overlay on /usr.
func installPrograms(scratch string) error {
	if err := overlaid("/usr", filepath.Join(scratch, "usr")); err != nil {
		return err
	}
	install := programs()
	install["argv"] = argvPath
	for name, path := range install {
		if err := command("install", "-D", "-m", "0755", filepath.Join(scratch, "bin", name), path); err != nil {
			return err
		}
	}
	return nil
}

// accountFiles differ between the host with jails and the oracle. furnishEtc
// leaves the machine's own in scratch for furnishOracle to add to.
var accountFiles = []string{"passwd", "shadow", "group"}

// furnishEtc replaces /etc by a copy with the test's accounts and sshd set-up.
func furnishEtc(scratch string) error {
	etc := filepath.Join(scratch, "etc")
	if err := unix.Mount("tmpfs", etc, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	if err := command("cp", "-a", "/etc/.", etc); err != nil {
		return err
	}
	if err := bind(etc, "/etc"); err != nil {
		return err
	}
	for _, file := range accountFiles {
		if err := command("cp", "-a", filepath.Join("/etc", file), filepath.Join(scratch, file)); err != nil {
			return err
		}
	}
	passwd, shadow, group := hostLines()
	added := map[string]string{"passwd": passwd, "shadow": shadow, "group": group}
	for _, file := range []string{"subuid", "subgid"} {
		added[file] = fmt.Sprintf("%s:2000000:65536\n", alice.login)
	}
	for file, lines := range added {
		if err := appendFile(filepath.Join("/etc", file), lines); err != nil {
			return err
		}
	}
	// sshd and login show these before a login shell; they are the machine's
	// matter.
	if err := command("sed", "-i", "/pam_lastlog/d", "/etc/pam.d/login"); err != nil {
		return err
	}
	// So is this, which Debian has since 13: with it accounts whose group has their
	// name have umask 002.
	if err := command("sh", "-c", "sed -i /pam_umask/d /etc/pam.d/*"); err != nil {
		return err
	}
	// What sshd calls a client without an address. PAM and libaudit look the name up at
	// every login, and where a name server loses one question in twenty that is five
	// seconds each time.
	if err := appendFile("/etc/hosts", "\n127.0.0.1 UNKNOWN\n::1 UNKNOWN\n"); err != nil {
		return err
	}
	if err := os.WriteFile("/etc/motd", nil, 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll("/etc/update-motd.d"); err != nil {
		return err
	}
	// The jail's own directory, whatever is installed on the machine.
	if err := os.RemoveAll("/etc/jail"); err != nil {
		return err
	}
	if err := os.MkdirAll("/etc/jail", 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(sshDir, 0o755); err != nil {
		return err
	}
	return writeSSHFiles(scratch)
}

func furnishHomes() error {
	runtimeDir := fmt.Sprintf("/run/user/%d", alice.id)
	for _, d := range []string{alice.home, runtimeDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
		if err := os.Chown(d, alice.id, alice.id); err != nil {
			return err
		}
	}
	return nil
}

// bindAccounts is a script that shows the oracle its accounts.
func bindAccounts(scratch string) string {
	var script strings.Builder
	for _, file := range accountFiles {
		fmt.Fprintf(&script, "mountpoint -q /etc/%[2]s || mount --bind %[1]s/%[2]s /etc/%[2]s\n", scratch, file)
	}
	return script.String()
}

// furnishOracle makes the tree of the oracle and the mount namespace its sshd
// runs in: there /etc/passwd has the accounts under the names they have inside.
func furnishOracle(scratch string) error {
	memory := filepath.Join(scratch, "oracle")
	if err := empty(memory, 0o755); err != nil {
		return err
	}
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(memory, d), 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", filepath.Join(scratch, "kept.d/debian"), memory, memory)
	if err := unix.Mount("overlay", oracleRoot, "overlay", 0, options); err != nil {
		return fmt.Errorf("overlay on %s: %w", oracleRoot, err)
	}
	if err := populate(oracleRoot, scratch, debianAccounts); err != nil {
		return err
	}

	passwd, shadow, group := insideLines(debianAccounts)
	for file, lines := range map[string]string{"passwd": passwd, "shadow": shadow, "group": group} {
		if err := appendFile(filepath.Join(scratch, file), lines); err != nil {
			return err
		}
	}
	// A process keeps the namespace. To pin it with a mount would be neater, but
	// Linux 6.18 takes some new mount namespaces for older ones (mnt_ns_loop
	// compares ids that are handed out per processor) and refuses.
	script := bindAccounts(scratch) + strings.ReplaceAll(`
		mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts /dev/pts
		mount --bind /dev/pts/ptmx /dev/ptmx
		mount --rbind /dev ROOT/dev
		mount --bind /proc ROOT/proc
		mount -t tmpfs -o mode=1777 tmpfs ROOT/tmp
		echo furnished
		exec sleep infinity
	`, "ROOT", oracleRoot)
	keeper := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-ec", script)
	keeper.Stderr = os.Stderr
	stdout, err := keeper.StdoutPipe()
	if err != nil {
		return err
	}
	if err := keeper.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "furnished\n" {
		return fmt.Errorf("mount namespace of the oracle: %w", err)
	}
	return os.Symlink(fmt.Sprintf("/proc/%d/ns/mnt", keeper.Process.Pid), filepath.Join(scratch, oracleNS))
}
