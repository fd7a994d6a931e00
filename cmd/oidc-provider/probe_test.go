package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

func TestAdminURL(t *testing.T) {
	for _, tt := range []struct{ listen, want string }{
		{"127.0.0.1:8081", "http://127.0.0.1:8081"},
		{"localhost:8081", "http://localhost:8081"},
		{":8081", "http://127.0.0.1:8081"},
		{"0.0.0.0:8081", "http://127.0.0.1:8081"},
		{"[::]:8081", "http://[::1]:8081"},
		{"[fe80::1%eth0]:8081", "http://[fe80::1%25eth0]:8081"},
		{"8081", ""},
		{"", ""},
	} {
		got, err := adminURL(tt.listen)
		if err != nil {
			got = new(url.URL)
		}
		if got.String() != tt.want {
			t.Errorf("%q: got %q, %v, want %q", tt.listen, got, err, tt.want)
		}
	}
}

func TestFailedChecks(t *testing.T) {
	const report = "[+]shutdown ok: running\n[-]store failed: away\n[!]copies: late\n[-]issuers failed: 0 of 2\nnot ready\n"
	if got := failedChecks(report); len(got) != 2 || got[0] != "store failed: away" || got[1] != "issuers failed: 0 of 2" {
		t.Errorf("got %q", got)
	}
}

// A server that accepts connections and never answers is not alive.
func TestProbeOfAServerThatHangs(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := probe(ctx, *u); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
