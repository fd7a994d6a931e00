package web_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// nullWriter is a ResponseWriter that costs nothing itself.
type nullWriter struct{ header http.Header }

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *nullWriter) WriteHeader(int)             {}

func BenchmarkJWKS(b *testing.B) {
	h, _ := newPublic(b, "https://oidc.example.com")
	for _, bench := range []struct {
		name string
		etag bool
	}{{"200", false}, {"304", true}} {
		b.Run(bench.name, func(b *testing.B) {
			req := httptest.NewRequest(http.MethodGet, "/openid/v1/jwks", nil)
			if bench.etag {
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, req)
				req.Header.Set("If-None-Match", rec.Header().Get("ETag"))
			}
			w := &nullWriter{header: make(http.Header)}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				h.ServeHTTP(w, req)
			}
		})
	}
}
