package mirror_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"oidc-provider/internal/mirror"
)

const mebibyte = 1 << 20

// static answers with text, as a key set.
func static(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

// fill returns begin, copies of text up to a little less than a mebibyte, and end.
func fill(begin, text, end string) string {
	return begin + strings.Repeat(text, (mebibyte-1000-len(begin)-len(end))/len(text)) + end
}

func bomb() string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for range 100 {
		w.Write(make([]byte, mebibyte))
	}
	w.Close()
	return b.String()
}

// hostileSources are what a key set could be replaced with.
func hostileSources() map[string]http.HandlerFunc {
	compressed, large := bomb(), strings.Repeat("a", mebibyte)
	return map[string]http.HandlerFunc{
		"empty entries":  static(fill(`{"keys":[`, "{},", "{}]}")),
		"numbers":        static(fill(`{"keys":[`, "1,", "1]}")),
		"lists in lists": static(fill(`{"keys":`, "[", "")),
		"a long kid":     static(fill(`{"keys":[{"kty":"RSA","e":"AQAB","n":"AQAB","kid":"`, "a", `"}]}`)),
		"a large key":    static(fill(`{"keys":[{"kty":"RSA","kid":"a","e":"AQAB","n":"`, "AAAA", `"}]}`)),
		"escapes":        static(fill(`{"keys":[{"kty":"`, `\u0000`, `"}]}`)),
		"members":        static(fill(`{`, `"a":1,`, `"keys":[]}`)),
		"the same key":   static(fill(`{"keys":[`, `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},`, `{}]}`)),
		"too many bytes": static(strings.Repeat("[", 2*mebibyte)),
		"a short answer": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "100"); w.Write(nil) },
		"no answer":      func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"half an answer": hang,
		"a closed one":   func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a redirect":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) },
		"a large header": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Large", large); w.Write(nil) },
		"compressed zeros": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, compressed)
		},
		"an endless answer": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, large)
			}
		},
		"a slow answer": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, "[")
				w.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		},
		"early hints": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Header().Set("Link", large[:1000])
				w.WriteHeader(http.StatusEarlyHints)
			}
		},
	}
}

// Sixteen hostile sources and more do not disturb one that is sound, and cost little
// memory together.
func TestHostileSources(t *testing.T) {
	hostile := hostileSources()
	if len(hostile) < 16 {
		t.Fatalf("only %d hostile sources", len(hostile))
	}
	var keys atomic.Pointer[[]byte]
	serve := func(h http.HandlerFunc) *mirror.URL {
		server := httptest.NewServer(h)
		t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
		return newURL(t, server.URL, "")
	}
	ctx, stop := context.WithCancel(t.Context())
	mirrors := make(map[string]*mirror.Mirror)
	start := func(name string, source mirror.Source) {
		m := mirror.New(mirror.Config{Issuer: "https://" + name, Source: source, Interval: 100 * time.Millisecond,
			Log: slog.New(slog.DiscardHandler)})
		mirrors[name] = m
		ended := make(chan struct{})
		go func() { m.Run(ctx); close(ended) }()
		t.Cleanup(func() { stop(); <-ended })
	}
	for name, h := range hostile {
		start(name, serve(h))
	}
	start("sound", serve(func(w http.ResponseWriter, _ *http.Request) { w.Write(*keys.Load()) }))

	var m runtime.MemStats
	var peak uint64
	var slowest time.Duration
	for i := range 20 {
		set := marshal(t, newKey(t, fmt.Sprint("key-", i)))
		keys.Store(&set)
		begin := time.Now()
		for published := ""; published != fmt.Sprint("key-", i); published = kids(mirrors["sound"].Keys()) {
			if time.Since(begin) > 30*time.Second {
				t.Fatalf("key-%d is not published: %s, %v", i, published, failure(mirrors["sound"]))
			}
			time.Sleep(5 * time.Millisecond)
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
		slowest = max(slowest, time.Since(begin))
	}
	t.Logf("the slowest change took %v; at most %d MiB of memory", slowest, peak>>20)
	if peak > 200*mebibyte {
		t.Errorf("%d MiB of memory", peak>>20)
	}
	for name := range hostile {
		if n := mirrors[name].Status().Keys; n != 0 {
			t.Errorf("%s: %d keys are published", name, n)
		}
	}
}
