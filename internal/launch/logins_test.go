package launch_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/fdsock"
	"jail/internal/jail"
	"jail/internal/wire"
)

// A jail has as many logins as it likes. Whichever comes first, with the set-up or
// behind it, enters as itself.
func TestAnyNumberOfLogins(t *testing.T) {
	const firstHost, firstInside = 1_000_000, 2000
	for _, n := range []int{1, wire.SetupLogins, wire.SetupLogins + 1, 1000, 10_000} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			spec := newSpec(newRootfs(t), true)
			spec.Logins = nil
			for i := range n {
				spec.Logins = append(spec.Logins, jail.Login{Name: fmt.Sprint("u", i), HostUID: jail.HostUID(firstHost + i), UID: jail.UID(firstInside + i), JailName: "somebody", Home: "/tmp", Shell: "/bin/sh"})
			}
			j := mustStart(t, spec)
			for _, i := range []int{0, wire.SetupLogins - 1, wire.SetupLogins, n / 2, n - 1} {
				if i >= n {
					continue
				}
				j.path = fdsock.LoginPath(j.runtimeDir, jail.HostUID(firstHost+i))
				res := j.run("id -u")
				require.NoError(t, res.err)
				require.Nil(t, res.refused, "%+v", res.refused)
				assert.Equal(t, fmt.Sprintln(firstInside+i), res.out)
			}
		})
	}
}
