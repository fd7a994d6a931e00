package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// BenchmarkStart is the time from the start of the process to the first 200
// of /readyz, with a ring that exists, and the resident memory a second later.
func BenchmarkStart(b *testing.B) {
	b.Run("plain", func(b *testing.B) { benchmarkStart(b) })
	b.Run("sealed and signed", func(b *testing.B) { benchmarkStart(b, "--recipient", makeIdentity(b)) })
}

func benchmarkStart(b *testing.B, policy ...string) {
	p := serve(b, policy)
	p.stop()
	var rss float64
	var started time.Duration
	for b.Loop() {
		begin := time.Now()
		p.start()
		started += time.Since(begin)
		time.Sleep(time.Second)
		rss = max(rss, residentMiB(b, p.cmd.Process.Pid))
		p.stop()
	}
	b.ReportMetric(float64(started.Milliseconds())/float64(b.N), "ms-to-ready")
	b.ReportMetric(rss, "rss-MiB")
	b.ReportMetric(0, "ns/op") // mostly the second of waiting
}

var vmRSS = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

func residentMiB(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	m := vmRSS.FindSubmatch(status)
	if m == nil {
		b.Fatalf("no VmRSS in %s", status)
	}
	kib, err := strconv.Atoi(string(m[1]))
	if err != nil {
		b.Fatal(err)
	}
	return float64(kib) / 1024
}
