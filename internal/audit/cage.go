package audit

import (
	"path"
	"slices"
	"strconv"
	"strings"

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
