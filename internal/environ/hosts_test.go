package environ

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestHosts(t *testing.T) {
	const local = "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\nff02::1\t\tip6-allnodes\n"
	for claim, tt := range map[string]struct {
		text string
		want HostsState
	}{
		"empty":                           {"", HostsPlain},
		"what a fresh system has":         {local, HostsPlain},
		"comments":                        {"# 1.2.3.4 web db\n127.0.0.1 localhost # web\n", HostsPlain},
		"Red Hat's":                       {"127.0.0.1   localhost localhost.localdomain localhost4\n", HostsPlain},
		"an address alone":                {"1.2.3.4\n  \n\t\n", HostsPlain},
		"the host":                        {local + "127.0.1.1 web\n", HostsNamed},
		"the host, as an alias, shouting": {"127.0.0.1 localhost WEB", HostsNamed},
		"the host, after others":          {"10.0.0.1 db\n10.0.0.2 web\n", HostsNamed},
		"another host":                    {local + "10.0.0.1 db\n", HostsKept},
		"a longer name":                   {"127.0.1.1 web2\n", HostsKept},
		"a name of which it is a part":    {"127.0.1.1 web.example.org\n", HostsKept},
		"the address is no name":          {"web localhost\n", HostsPlain},
		"bytes":                           {"\x00\xff \xfe\n", HostsKept},
	} {
		assert.Equal(t, tt.want, Hosts([]byte(tt.text), "web"), claim)
	}
	assert.Equal(t, HostsNamed, Hosts([]byte(local), "localhost"), "a host that is called so")
	assert.Equal(t, "127.0.1.1\tweb\n", string(AppendHosts(nil, nil, "web")))
	assert.Equal(t, "x\n127.0.1.1\tweb.example.org web\n", string(AppendHosts(nil, []byte("x"), "web.example.org")))
}

func FuzzHosts(f *testing.F) {
	f.Add([]byte("127.0.0.1 localhost\n10.0.0.1 db # web\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if Hosts(text, "web") != HostsNamed && Hosts(AppendHosts(nil, text, "web"), "web") != HostsNamed {
			t.Errorf("%q with its own line does not name the host", text)
		}
	})
}
