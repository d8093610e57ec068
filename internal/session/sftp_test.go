package session

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhatAsksForSFTP(t *testing.T) {
	for text, want := range map[string]string{
		"/usr/lib/openssh/sftp-server":                         "shell",
		"/usr/libexec/openssh/sftp-server -f AUTHPRIV -l INFO": "shell",
		"/usr/lib/ssh/sftp-server\t-e":                         "shell",
		"/dev/jail/sftp-server -Q requests":                    "shell",
		"/usr/lib/jail/sftp-server":                            "shell",
		"sftp-server -u 0022":                                  "shell",
		"internal-sftp":                                        "direct",
		"internal-sftp ":                                       "direct",
		"internal-sftp -R -d /home/%u":                         "direct",
		"internal-sftp -lINFO -eR -P remove,rename":            "direct",
		"jail:sftp -d ~/up":                                    "direct",

		"":                                        "",
		" ":                                       "",
		" internal-sftp":                          "",
		"internal-sftp2":                          "",
		"/usr/bin/internal-sftp":                  "",
		"/usr/lib/openssh/sftp-server;id":         "",
		"/usr/lib/openssh/sftp-server ;id":        "",
		"/usr/lib/openssh/sftp-server && id":      "",
		"/usr/lib/openssh/sftp-server -d $(id)":   "",
		"/usr/lib/openssh/sftp-server -d `id`":    "",
		"/usr/lib/openssh/sftp-server -d 'a b'":   "",
		"/usr/lib/openssh/sftp-server -d a\nid":   "",
		"/usr/lib/openssh/sftp-server\nid":        "",
		"/usr/lib/openssh/sftp-server > /tmp/x":   "",
		"/usr/lib/openssh/sftp-server -d *":       "",
		"/usr/lib/openssh/sftp-server -d {a,b}":   "",
		"/usr/lib/openssh/sftp-server -d":         "",
		"/usr/lib/openssh/sftp-server file":       "",
		"/usr/lib/openssh/sftp-server -x":         "",
		"/usr/lib/openssh/sftp-server --help":     "",
		"/usr/lib/openssh/sftp-server -":          "",
		"/usr/lib/openssh/../openssh/sftp-server": "",
		"exec /usr/lib/openssh/sftp-server":       "",
		"scp -t .":                                "",
	} {
		got := ""
		if r, ok := parseSFTP([][]byte{[]byte("-c"), []byte(text)}); ok {
			got = "shell"
			if r.direct {
				got = "direct"
			}
			assert.Equal(t, text, string(r.program)+string(r.options))
		}
		assert.Equal(t, want, got, "%q", text)
	}
	for _, args := range [][]string{nil, {"-c"}, {"-l", "internal-sftp"}, {"-c", "internal-sftp", "x"}, {"-lc", "internal-sftp"}} {
		var b [][]byte
		for _, a := range args {
			b = append(b, []byte(a))
		}
		_, ok := parseSFTP(b)
		assert.False(t, ok, "%q", args)
	}
}

func TestSSHDsOwnServerAsAForcedCommand(t *testing.T) {
	for text, want := range map[string]bool{
		"internal-sftp": true, "internal-sftp -R": true, "internal-sftp\t": true,
		"internal-sftpx": false, "/internal-sftp": false, " internal-sftp": false, "internal": false, "": false,
	} {
		assert.Equal(t, want, isInternalSFTP(text), "%q", text)
	}
}
