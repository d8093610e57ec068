package inside

import (
	"fmt"
	"os"
	"testing"

	"jail/internal/jail"
)

// BenchmarkThousand looks into a thousand jails.
func BenchmarkThousand(b *testing.B) {
	os.Setenv("JAIL_TEST_LOOK", "1")
	defer os.Unsetenv("JAIL_TEST_LOOK")
	root := rootfs(b)
	var jails []jail.Spec
	for i := range 1000 {
		s := spec(root)
		s.Name = fmt.Sprint("j", i)
		jails = append(jails, s)
	}
	for b.Loop() {
		if found, err := Look([]string{os.Args[0]}, jails); err != nil || len(found) > 0 {
			b.Fatal(err, found)
		}
	}
}
