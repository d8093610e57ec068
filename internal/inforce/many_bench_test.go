package inforce

import (
	"testing"
)

func BenchmarkCompile(b *testing.B) {
	reg := many(10_000)
	for b.Loop() {
		compile(regPath, reg)
	}
}

func BenchmarkRegistry(b *testing.B) {
	dir := b.TempDir()
	if err := Publish(dir, regPath, many(10_000)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		f, err := Open(dir, regPath)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.Registry(); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
