package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// large is a registry of n jails, and the accounts for it. Each jail has lines more.
func large(n int, lines string) (Options, string) {
	var text, passwd, group strings.Builder
	text.WriteString("version = 1\n")
	for i := range n {
		fmt.Fprintf(&text, "[jail.u%d]\nrootfs = \"/srv/jails/u%d\"\nusers = [\"u%d\"]\nuid = 1000\n%s", i, i, i, lines)
		fmt.Fprintf(&passwd, "u%d:x:%d:%d::/:/bin/sh\n", i, 100_000+i, 100_000+i)
		fmt.Fprintf(&group, "u%d:x:%d:\n", i, 100_000+i)
	}
	opt := testOptions()
	opt.Passwd, opt.Group = []byte(passwd.String()), []byte(group.String())
	return opt, text.String()
}

func TestTenThousandJails(t *testing.T) {
	opt, text := large(10_000, "")
	reg, errs := load(t, opt, text)
	require.Empty(t, errs)
	require.Len(t, reg.Jails, 10_000)
	bases := map[uint32]bool{}
	for _, j := range reg.Jails {
		bases[j.Userns.Base] = true
	}
	assert.Len(t, bases, 10_000)
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		for name, lines := range map[string]string{
			"good":    "",
			"faulty":  "zoo = 1\nhostname = \"-\"\n",
			"limits":  "limits = { memory = \"1G\" }\nenv = { A = \"b\" }\nmounts = [ { source = \"/srv/x\", target = \"/x\" } ]\n",
			"ranges":  "userns = { base = 200000, size = 65536 }\n",
			"one dir": "",
		} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				opt, text := large(n, lines)
				if name == "one dir" {
					text = strings.ReplaceAll(text, "/srv/jails/u", "/srv/jails/one\" #")
				}
				for b.Loop() {
					load(b, opt, text)
				}
			})
		}
	}
}

// A jail's range is where it was in every build before: jails run while this program
// is replaced.
func TestRangesStayWhereTheyWere(t *testing.T) {
	for name, base := range map[string]uint64{"centos": 0x73830000, "debian": 0x72b40000, "web": 0x72280000} {
		assert.Equal(t, base, slot(0, preferredSlot(0, name)).base, name)
	}
}

// One jail of ten thousand logins.
func TestTenThousandLogins(t *testing.T) {
	opt, _ := large(10_000, "")
	var text strings.Builder
	text.WriteString("version = 1\n[jail.web]\nrootfs = \"/srv/web\"\nuid = 7\nusers = [\n")
	for i := range 10_000 {
		fmt.Fprintf(&text, "\"u%d\",\n", i)
	}
	text.WriteString("]\n")
	reg, errs := load(t, opt, text.String())
	require.Empty(t, errs)
	require.Len(t, reg.Jails, 1)
	assert.Len(t, reg.Jails[0].Logins, 10_000)
}
