package launch

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"jail/internal/jail"
)

// TestIDMap: every id inside is one of the host's, none of which two have, and the last of the
// range, whose process has made the namespace, is nobody's but at its own place.
func TestIDMap(t *testing.T) {
	u := jail.Userns{Enabled: true, Base: 1 << 20, Size: 1 << 16}
	kept := u
	kept.Keep = true
	const base, size = 1 << 20, 1 << 16
	for claim, c := range map[string]struct {
		u    jail.Userns
		own  []uint32
		want []extent
	}{
		"the range":                     {u, nil, []extent{{0, base, size}}},
		"ids within it":                 {u, []uint32{1000, 100, 65_533}, []extent{{0, base, size}}},
		"one beyond it":                 {u, []uint32{70_000}, []extent{{0, base, 65_534}, {70_000, base + 65_534, 1}}},
		"the first beyond it":           {u, []uint32{65_536}, []extent{{0, base, 65_534}, {65_536, base + 65_534, 1}}},
		"three, and one at their place": {u, []uint32{90_000, 65_533, 70_000, 70_000}, []extent{{0, base, 65_532}, {65_533, base + 65_532, 1}, {70_000, base + 65_533, 1}, {90_000, base + 65_534, 1}}},
		"kept":                          {kept, []uint32{1000}, []extent{{0, base, 1000}, {1001, base + 1001, size - 1001}, {1000, 1000, 1}}},
		"kept, neighbours":              {kept, []uint32{1001, 1000}, []extent{{0, base, 1000}, {1002, base + 1002, size - 1002}, {1000, 1000, 1}, {1001, 1001, 1}}},
		"kept, beyond it":               {kept, []uint32{70_000, 5}, []extent{{0, base, 5}, {6, base + 6, size - 6}, {5, 5, 1}, {70_000, 70_000, 1}}},
		"kept, the last of it":          {kept, []uint32{size - 1}, []extent{{0, base, size - 1}, {size - 1, size - 1, 1}}},
	} {
		got := idMap(c.u, c.own)
		assert.Equal(t, c.want, got, claim)
		for i, a := range got {
			for _, b := range got[:i] {
				assert.False(t, a.inside < b.inside+b.n && b.inside < a.inside+a.n, "%s: inside", claim)
				assert.False(t, a.host < b.host+b.n && b.host < a.host+a.n, "%s: on the host", claim)
			}
		}
		for _, id := range c.own {
			_, ok := hostID(got, id)
			assert.True(t, ok, claim)
		}
		for _, e := range got {
			assert.False(t, e.host+e.n > owner(c.u) && e.host <= owner(c.u) && e.inside != e.host-base, claim)
		}
	}
}
