package mirror_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"oidc-provider/internal/mirror"
	"oidc-provider/jwks"
)

// manyFiles makes n mirrors of a file each, with state, as one process that
// publishes for n clusters has them.
func manyFiles(b *testing.B, n int) []*mirror.Mirror {
	b.Helper()
	dir := b.TempDir()
	mirrors := make([]*mirror.Mirror, n)
	for i := range mirrors {
		path := filepath.Join(dir, fmt.Sprintf("%d.pub", i))
		write(b, path, testKey(b, "rsa-public.pem"))
		age(b, path)
		mirrors[i] = mirror.New(mirror.Config{
			Issuer: fmt.Sprintf("https://oidc.example.test/%d", i), Source: newFiles(b, path), Interval: time.Hour,
			State:   filepath.Join(dir, "state", fmt.Sprintf("%d.json", i)),
			Publish: func([]jwks.PublicKey) error { return nil },
			Log:     slog.New(slog.DiscardHandler),
		})
	}
	return mirrors
}

// One tick of a mirror of a file that has not changed.
func BenchmarkIdleFiles(b *testing.B) {
	m := manyFiles(b, 1)[0]
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Refresh(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// What a mirror of a file with one RSA key takes, once it has nothing to do,
// and how long many take until they all show their keys.
func BenchmarkManyFiles(b *testing.B) {
	const n = 10000
	for b.Loop() {
		b.StopTimer()
		before := used()
		mirrors := manyFiles(b, n)
		ctx, cancel := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		b.StartTimer()
		for _, m := range mirrors {
			wg.Go(func() { m.Run(ctx) })
		}
		for _, m := range mirrors {
			for m.Keys() == nil {
				time.Sleep(time.Millisecond)
			}
		}
		b.StopTimer()
		b.ReportMetric(float64(used()-before)/n, "B/mirror")
		var threads [1]runtime.StackRecord
		count, _ := runtime.ThreadCreateProfile(threads[:])
		b.ReportMetric(float64(count), "threads")
		cancel()
		wg.Wait()
		b.StartTimer()
	}
}

// used is the memory of heap and stacks once the latter have shrunk.
func used() uint64 {
	var stats runtime.MemStats
	for range 5 {
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc + stats.StackInuse
}
