package serve

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"jail/internal/fdsock"
)

func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1000, 9000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var jails []string
			for i := range n {
				jails = append(jails, fmt.Sprintf("u%d: %d", i, 100_000+i))
			}
			reg := registry(jails...)
			for b.Loop() {
				dir, err := os.MkdirTemp("/dev/shm", "serve")
				if err != nil {
					b.Fatal(err)
				}
				if err := fdsock.PrepareDir(dir); err != nil {
					b.Fatal(err)
				}
				var log strings.Builder
				s := newServer(Options{RuntimeDir: dir, Log: &log})
				if err := s.open(); err != nil {
					b.Fatal(err)
				}
				if errs := s.apply(reg); len(errs) > 0 {
					b.Fatal(errs[0])
				}
				b.StopTimer()
				_ = s.cleanup()
				for _, lg := range s.logins.list {
					s.closer.Close(0, lg.fd)
				}
				os.RemoveAll(dir)
				b.StartTimer()
			}
		})
	}
}
