//go:build unix

package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkIssuers is what a process costs that serves many issuers, each with
// two keys in a file: the time from its start until all are served, and the
// resident memory then; the time from a new file in issuersDir to its first
// document; the processor time that it takes while nobody asks; and how many
// key sets of random issuers it serves, and how fast, compared with a process
// that has one issuer and is measured in turns with it.
func BenchmarkIssuers(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				measureIssuers(b, n)
			}
			b.ReportMetric(0, "ns/op") // mostly waiting
		})
	}
}

const issuersConfig = "issuersDir: issuers.d\nissuersDirAllow: {roots: [keys]}\n"

func writeIssuer(p *process, i int) {
	keys := filepath.Join("keys", fmt.Sprint(i)+".pem")
	p.write(keys, testKey(p.t, "rsa-public.pem")+testKey(p.t, "rsa-3072-public.pem"))
	p.write(filepath.Join("issuers.d", fmt.Sprint(i)+".yaml"), fmt.Sprintf("issuer: https://oidc.test/clusters/%d\nfiles: {paths: [../%s]}\n", i, keys))
}

func newIssuersProcess(b *testing.B, n int) *process {
	b.Helper()
	p := newProcess(b)
	p.write("config.yaml", issuersConfig)
	for i := range n {
		writeIssuer(p, i)
	}
	return p
}

func measureIssuers(b *testing.B, n int) {
	one, many := newIssuersProcess(b, 1), newIssuersProcess(b, n)
	one.run("serve", "--config", "config.yaml", "--log-level", "warn")
	one.pause(true)
	begin := time.Now()
	many.run("serve", "--config", "config.yaml", "--log-level", "warn")
	all := fmt.Sprintf("[+]issuers ok: %d of %d can be served", n, n)
	many.eventually("all are served", func() bool { return n == 1 || strings.Contains(many.readyz(), all) })
	b.ReportMetric(float64(time.Since(begin).Milliseconds()), "ms-to-all")
	time.Sleep(2 * time.Second)
	b.ReportMetric(residentMiB(b, many.cmd.Process.Pid), "rss-MiB")

	var added []float64
	for i := range 5 {
		writeIssuer(many, n+i)
		begin := time.Now()
		url := fmt.Sprintf("http://%s/clusters/%d/openid/v1/jwks", many.addr, n+i)
		many.eventually("the new issuer is served", func() bool { return get(url) == http.StatusOK })
		added = append(added, float64(time.Since(begin).Milliseconds()))
	}
	b.ReportMetric(median(added), "ms-to-add")
	b.ReportMetric(slices.Max(added), "ms-to-add-max")

	var rates, latencies []float64
	for range 7 {
		many.pause(true)
		one.pause(false)
		rateOne, latencyOne := load(b, one, 1)
		one.pause(true)
		many.pause(false)
		rateMany, latencyMany := load(b, many, n)
		rates = append(rates, rateMany/rateOne)
		latencies = append(latencies, latencyOne.Seconds()/latencyMany.Seconds())
	}
	b.ReportMetric(median(rates), "rate-ratio")
	b.ReportMetric(median(latencies), "latency-ratio")
	b.ReportMetric(residentMiB(b, many.cmd.Process.Pid), "rss-loaded-MiB")
	before := processorTime(b, many.cmd.Process.Pid)
	time.Sleep(10 * time.Second)
	b.ReportMetric(100*(processorTime(b, many.cmd.Process.Pid)-before).Seconds()/10, "idle-%core")
	one.pause(false)
	one.stop()
	many.stop()
}

// pause stops and continues a process, so that it costs nothing while another
// is measured.
func (p *process) pause(yes bool) {
	signal := syscall.SIGCONT
	if yes {
		signal = syscall.SIGSTOP
	}
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
}

// load asks p for the key sets of random issuers on eight connections for a
// second. It returns requests per second and the median latency.
func load(b *testing.B, p *process, issuers int) (rate float64, latency time.Duration) {
	b.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var clients sync.WaitGroup
	end := time.Now().Add(time.Second)
	for range 8 {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
			defer client.CloseIdleConnections()
			var own []time.Duration
			for time.Now().Before(end) {
				begin := time.Now()
				resp, err := client.Get(fmt.Sprintf("http://%s/clusters/%d/openid/v1/jwks", p.addr, rand.IntN(issuers)))
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Errorf("%v, %v", resp, err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				own = append(own, time.Since(begin))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, own...)
		})
	}
	clients.Wait()
	if len(took) == 0 {
		b.Fatal("no request was answered")
	}
	slices.Sort(took)
	return float64(len(took)), took[len(took)/2]
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// processorTime is what a process has used, in user and kernel mode, so far.
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	var user, system int64
	fields := strings.Fields(rest)
	fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	return time.Duration(user+system) * 10 * time.Millisecond // ticks of 100 Hz
}
