package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/jail"
)

func both(first, last uint16) jail.Ports {
	return jail.Ports{First: first, Last: last, TCP: true, UDP: true}
}

func TestNetworkOfAJail(t *testing.T) {
	for lines, want := range map[string]jail.Network{
		``:                              {},
		`ports = "any"`:                 {},
		`loopback = "host"`:             {},
		`network = "host"`:              {},
		`unowned = "refuse"`:            {},
		`ports = []`:                    {OwnPorts: true},
		`ports = [25, "8000-8099"]`:     {OwnPorts: true, Ports: []jail.Ports{both(25, 25), both(8000, 8099)}},
		`ports = ["53/udp", "53/tcp"]`:  {OwnPorts: true, Ports: []jail.Ports{{First: 53, Last: 53, TCP: true}, {First: 53, Last: 53, UDP: true}}},
		`ports = [80, 80]`:              {OwnPorts: true, Ports: []jail.Ports{both(80, 80)}},
		`loopback = []`:                 {OwnLoopback: true},
		`loopback = [5432, "6379/tcp"]`: {OwnLoopback: true, Opened: []jail.Ports{both(5432, 5432), {First: 6379, Last: 6379, TCP: true}}},
		"ports = [1]\nloopback = []":    {OwnPorts: true, Ports: []jail.Ports{both(1, 1)}, OwnLoopback: true, PrivateUnowned: true},
		"ports = [65535]\nloopback = []\nunowned = \"refuse\"": {OwnPorts: true, Ports: []jail.Ports{both(65535, 65535)}, OwnLoopback: true},
		`network = "none"`:                    {OwnPorts: true, OwnLoopback: true, PrivateUnowned: true, None: true},
		"network = \"none\"\nloopback = [11]": {OwnPorts: true, OwnLoopback: true, PrivateUnowned: true, None: true, Opened: []jail.Ports{both(11, 11)}},
		"network = \"none\"\nports = []":      {OwnPorts: true, OwnLoopback: true, PrivateUnowned: true, None: true},
	} {
		opt := testOptions()
		opt.ReservedPorts = []byte("65535\n")
		reg, errs := load(t, opt, jailText(lines))
		require.Empty(t, errs, lines)
		got := reg.Jails[0].Network
		assert.Equal(t, want.Owned(), got.ID != 0, lines)
		got.ID = 0
		assert.Equal(t, want, got, lines)
	}
}

func TestNetworkFaults(t *testing.T) {
	for lines, want := range map[string]string{
		`ports = 25`:                               `:5: jail.web.ports: is a whole number, must be an array of ports`,
		`ports = "some"`:                           `:5: jail.web.ports: "some" is not known, write "any", or an array`,
		`ports = [0]`:                              `:5: jail.web.ports: "0" is no port`,
		`ports = [65536]`:                          `:5: jail.web.ports: "65536" is no port`,
		`ports = [-1]`:                             `is no port`,
		`ports = [1.5]`:                            `is a number with a fraction`,
		`ports = [true]`:                           `is true or false`,
		`ports = ["80/sctp"]`:                      `names a protocol besides "tcp" and "udp"`,
		`ports = ["80/"]`:                          `names a protocol besides`,
		`ports = ["99-9"]`:                         `ends before it begins`,
		`ports = ["9-"]`:                           `is no port`,
		`ports = ["-9"]`:                           `is no port`,
		`ports = [" 9"]`:                           `is no port`,
		`ports = ["+9"]`:                           `is no port`,
		`ports = ["010"]`:                          `is no port`,
		`ports = [""]`:                             `is no port`,
		"ports = [\n80,\n\"x\"\n]":                 `:7: jail.web.ports: "x" is no port`,
		`loopback = "any"`:                         `"any" is not known, write "host"`,
		`loopback = ["1-257"]`:                     `opens 257 ports of the host, open 256 at most`,
		`unowned = "drop"`:                         `"drop" is not known, write "private" or "refuse"`,
		`unowned = "private"`:                      `"private" needs a loopback of the jail's own`,
		`network = "off"`:                          `"off" is no network, write "host" or "none"`,
		"network = \"none\"\nports = [1]":          `:6: jail.web.ports: a jail with network = "none" (/etc/jail/jail.toml:5) binds no ports`,
		"network = \"none\"\nloopback = \"host\"":  `has a loopback of its own`,
		`ports = [32768]`:                          `32768 is in the range 32768-60999 from which the kernel gives ports to anybody`,
		`ports = ["32760-32770"]`:                  `sysctl -w net.ipv4.ip_local_reserved_ports=40000-40010,50000,32768-32770 (`,
		`ports = ["39999-40012/udp"]`:              `ip_local_reserved_ports=40000-40010,50000,39999,40011-40012 (`,
		"ports = [80]\n[host]\nreserved = [80]":    `:5: jail.web.ports: port 80 is reserved for the host at /etc/jail/jail.toml:7`,
		"ports = [80]\n[host]\nreserved = \"all\"": `:7: host.reserved: is a word, must be an array`,
		"[host]\nreserve = []":                     `:6: host.reserve: unknown key "reserve", did you mean "reserved"?`,
	} {
		opt := testOptions()
		opt.PortRange, opt.ReservedPorts = []byte("32768\t60999\n"), []byte("40000-40010,50000\n")
		_, errs := load(t, opt, jailText(lines))
		require.Len(t, errs, 1, "%s: %v", lines, errs)
		assert.Contains(t, errs[0].Error(), want, lines)
	}
	opt := testOptions()
	opt.PortRange, opt.ReservedPorts = []byte("32768\t60999\n"), []byte("40000-40010,50000\n")
	_, errs := load(t, opt, jailText(`ports = [32767, "40000-40010", 50000, 61000]`))
	assert.Empty(t, errs, "beside the range, or kept out of it")
	reg, errs := load(t, testOptions(), jailText("ports = [80]\nuserns = false\nuid = 1501"))
	require.Empty(t, errs)
	assert.NotZero(t, reg.Jails[0].Network.ID, "with the host's ids too")
}

// One port is one jail's, and who has it twice is told both places.
func TestPortsOfTwoJails(t *testing.T) {
	two := func(a, b string) string {
		return "version = 1\n[jail.a]\nrootfs = \"/srv/a\"\nusers = [\"alice\"]\nports = " + a + "\n[jail.b]\nrootfs = \"/srv/b\"\nusers = [\"bob\"]\nports = " + b + "\n"
	}
	for _, c := range []struct{ a, b, port string }{
		{`[80]`, `[80]`, "80"},
		{`["80-90"]`, `["85/udp"]`, "85"},
		{`["80/tcp"]`, `["70-80/tcp"]`, "80"},
	} {
		reg, errs := load(t, testOptions(), two(c.a, c.b))
		require.Len(t, errs, 1, "%v", errs)
		assert.Contains(t, errs[0].Error(), `:9: jail.b.ports: port `+c.port+` is jail "a"'s already (/etc/jail/jail.toml:5)`)
		assert.Empty(t, reg.Jails, "nobody can say who is right")
	}
	reg, errs := load(t, testOptions(), two(`["80/tcp"]`, `["80/udp", 81]`))
	require.Empty(t, errs)
	assert.NotEqual(t, reg.Jail("a").Network.ID, reg.Jail("b").Network.ID)

	for _, table := range []string{"defaults", "template.t"} {
		for value, fault := range map[string]bool{`[]`: false, `"any"`: false, `[80]`: true} {
			_, errs := load(t, testOptions(), "version = 1\n["+table+"]\nports = "+value+"\n")
			assert.Equal(t, fault, len(errs) > 0, "%s: %s: %v", table, value, errs)
			for _, e := range errs {
				assert.Contains(t, e.Error(), table+`.ports: would be the ports of several jails`)
			}
		}
	}
	_, errs = load(t, testOptions(), "version = 1\n", "version = 1\n[host]\nreserved = [1]\n"+strings.SplitN(jailText(""), "\n", 2)[1])
	require.Len(t, errs, 1)
	assert.Contains(t, errs[0].Error(), "belongs in the main file")

	opt := testOptions()
	opt.Rootless = true
	_, errs = load(t, opt, jailText("ports = []"))
	require.Len(t, errs, 1)
	assert.Contains(t, errs[0].Error(), "needs jails that root runs")
}

// A jail has the same number whoever else there is, also while it is out of service: what
// runs goes by it.
func TestNumbersStay(t *testing.T) {
	text := func(names ...string) string {
		s := "version = 1\n"
		for i, n := range names {
			s += fmt.Sprintf("[jail.%s]\nrootfs = \"/srv/%s\"\nusers = [%q]\nloopback = []\n", n, n, []string{"alice", "bob", "carol"}[i])
		}
		return s
	}
	var other string // prefers what web has
	reg, errs := load(t, testOptions(), text("web"))
	require.Empty(t, errs)
	id := reg.Jails[0].Network.ID
	for i := 0; other == ""; i++ {
		if r, _ := load(t, testOptions(), text(fmt.Sprint("a", i))); r.Jails[0].Network.ID == id {
			other = fmt.Sprint("a", i)
		}
	}
	both, errs := load(t, testOptions(), text(other, "web"))
	require.Empty(t, errs)
	assert.Equal(t, id, both.Jail(other).Network.ID, "the first by name")
	assert.NotEqual(t, id, both.Jail("web").Network.ID)

	opt := testOptions()
	opt.Before = reg
	both, errs = load(t, opt, text(other, "web"))
	require.Empty(t, errs)
	assert.Equal(t, id, both.Jail("web").Network.ID, "what it had it keeps")
	assert.NotEqual(t, id, both.Jail(other).Network.ID)

	opt.Before = reg
	faulty, _ := load(t, opt, strings.Replace(text(other, "web"), "rootfs = \"/srv/web\"", "rootfs = 1", 1))
	require.Nil(t, faulty.Jail("web"))
	assert.NotEqual(t, id, faulty.Jail(other).Network.ID, "also out of service")
	opt.Before, _ = load(t, opt, strings.Replace(text("web"), "rootfs = \"/srv/web\"", "rootfs = 1", 1))
	both, errs = load(t, opt, text(other, "web"))
	require.Empty(t, errs)
	assert.Equal(t, id, both.Jail("web").Network.ID)
}

func TestExplainedNetwork(t *testing.T) {
	opt := testOptions()
	opt.Explain = "web"
	reg, errs := load(t, opt, jailText("ports = [25, \"53/udp\"]\nloopback = [5432]"))
	require.Empty(t, errs)
	all := fmt.Sprint(reg.Explained.Settings)
	for _, want := range []string{"{ports 25, 53/udp /etc/jail/jail.toml:5 jail.web.ports}", "{loopback its own; of the host's: 5432 /etc/jail/jail.toml:6 jail.web.loopback}",
		"{unowned private: ", "{network host default}", "127.0.0.1 is 127.", "::1 is fd6a:6169:6c00::"} {
		assert.Contains(t, all, want)
	}
}
