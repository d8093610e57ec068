// Package early is what runs before the Go runtime: a program that is linked with
// "-E jail/internal/early.start" (Makefile, build-enter) begins there, and its main is
// never called. The runtime's start would be most of what a short session costs, and
// where the kernel refuses it memory or a thread it ends with a trace and status 2.
//
// It exists on amd64 only. Without the linker's flag, and on other architectures,
// main runs as in any program and does the same, more slowly.
package early
