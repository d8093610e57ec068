package audit

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"jail/internal/jail"
	"jail/internal/source"
)

// Bounds of the search for what looks like a secret in what cages show.
const (
	maxSearched = 20_000 // files and directories
	maxDeep     = 8      // directories above one another
	maxNamed    = 8      // in the finding
)

// secretNames are patterns of names that files with passwords and keys in them have.
var secretNames = []string{
	"*.key", "*.p12", "*.pfx", "*.jks", "*.kdbx", "*.keytab", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "privkey*",
	".env", ".env.*", ".netrc", ".pgpass", ".my.cnf", ".htpasswd", "wp-config.php", "*password*", "*passwd*", "*secret*", "*credential*",
}

// programText are what programs are written in: their names tell what they are about.
var programText = []string{".py", ".pyc", ".pyi", ".go", ".js", ".ts", ".mjs", ".h", ".hpp", ".c", ".cc", ".rb", ".pl", ".pm", ".php5", ".rs", ".java",
	".html", ".md", ".rst", ".txt", ".svg", ".png", ".mo", ".po", ".so", ".a", ".gz", ".1", ".3", ".5", ".8", ".sh"}

// checkShown looks for files in what cages show of the host that everybody may read and
// whose names are those of secrets: package maintainers do not put such into /usr, but
// administrators do into /usr/local.
func (a *auditor) checkShown() {
	var dirs []string
	for i := range a.jails {
		if src := source.Of(&a.jails[i]); src.HostFiles() != "" {
			dirs = append(append(dirs, "/usr/local"), a.jails[i].Source.Show...)
		}
	}
	slices.Sort(dirs)
	var found []string
	left := maxSearched
	for _, dir := range slices.Compact(dirs) {
		found = a.secretsIn(found, dir, maxDeep, &left)
	}
	if len(found) == 0 {
		return
	}
	names := strings.Join(found[:min(len(found), maxNamed)], ", ")
	if n := len(found) - maxNamed; n > 0 {
		names += " and " + strconv.Itoa(n) + " more"
	}
	a.add(nil, Warning, "cage-secret", found[0], "is seen in cages of the host and readable by everybody, and has the name of a secret (all: "+names+")",
		"chmod o-r "+found[0])
}

// openText are files of /etc that cages show, since programs want them, and in which administrators leave
// passwords: those of package indexes, proxies, databases.
var openText = []string{
	"/etc/environment", "/etc/profile", "/etc/bash.bashrc", "/etc/profile.d/*", "/etc/npmrc", "/etc/pip.conf", "/etc/gitconfig", "/etc/wgetrc",
	"/etc/lftp.conf", "/etc/odbc.ini", "/etc/maven/settings.xml", "/etc/mercurial/hgrc", "/etc/php/*/cli/php.ini", "/etc/php/*/cli/conf.d/*",
	"/etc/mysql/my.cnf", "/etc/mysql/conf.d/mysql*.cnf", "/etc/skel/.*",
}

// credential matches what looks like a password: in a URL, as a value of that name, as an element of XML.
var credential = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s:@"'$]*:[^/\s@"'${]+@` +
		`|(?i:(password|passwd|passphrase|secret|token|api_?key|_auth|\bpwd)["']?\s*=\s*["']?[^\s"'$<%;]{3})` +
		`|<(?i:password|passphrase)>[^<${]`)
})

// checkOpenText looks for passwords in what cages show of /etc.
func (a *auditor) checkOpenText() {
	if !slices.ContainsFunc(a.jails, func(j jail.Spec) bool { return source.Of(&j).HostFiles() != "" }) {
		return
	}
	var found []string
	for _, pattern := range openText {
		for _, p := range a.files.glob(pattern) {
			if st, err := a.files.lstat(p); err != nil || !st.isRegular() || st.mode&0o004 == 0 {
				continue
			}
			text, err := a.files.read(p)
			if err != nil {
				continue
			}
			n := 0
			for line := range strings.Lines(string(text)) {
				n++
				line = strings.TrimSpace(line)
				if line != "" && !strings.HasPrefix(line, "<!--") && line[0] != '#' && line[0] != ';' && credential().MatchString(line) {
					found = append(found, p+":"+strconv.Itoa(n))
					break
				}
			}
		}
	}
	if len(found) == 0 {
		return
	}
	file, _, _ := strings.Cut(found[0], ":")
	a.add(nil, Warning, "cage-secret", found[0], "is seen in cages of the host and readable by everybody, and has what looks like a password in it (all: "+list(found)+")",
		"chmod o-r "+file+", or keep the password where its user alone can read it")
}

func (a *auditor) secretsIn(found []string, p string, deep int, left *int) []string {
	if *left--; *left < 0 {
		return found
	}
	st, err := a.files.lstat(p)
	switch {
	case err != nil:
	case st.isRegular() && st.mode&0o004 != 0 && secretName(path.Base(p)):
		return append(found, p)
	case st.isDir() && st.mode&0o001 != 0 && deep > 0:
		for _, e := range a.files.glob(escapeGlob(p) + "/*") {
			found = a.secretsIn(found, e, deep-1, left)
		}
	}
	return found
}

func secretName(name string) bool {
	if slices.Contains(programText, path.Ext(name)) {
		return false
	}
	return slices.ContainsFunc(secretNames, func(pattern string) bool {
		match, _ := path.Match(pattern, strings.ToLower(name))
		return match
	})
}

// escapeGlob makes a pattern of a path that matches nothing else.
func escapeGlob(p string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(p)
}
