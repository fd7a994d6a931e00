//go:build !unix

package main

// forbidDumps does nothing: this system has no core dumps.
func forbidDumps() error { return nil }
