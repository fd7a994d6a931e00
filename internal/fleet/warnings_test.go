package fleet

import (
	"strings"
	"testing"

	"oidc-provider/internal/config"
	"oidc-provider/internal/hint"
)

func TestUnreachable(t *testing.T) {
	for _, tt := range []struct {
		name, listen string
		tls          *config.TLS
		issuers      []string
		want         string // "" if there is no warning
	}{
		{"quickstart", "127.0.0.1:8080", nil, []string{"http://localhost:8080"}, ""},
		{"https", "127.0.0.1:8080", nil, []string{"https://a.test"}, "cannot reach https://a.test at 127.0.0.1:8080"},
		{"by name", "localhost:8080", nil, []string{"https://a.test"}, "https://a.test"},
		{"IPv6", "[::1]:8080", nil, []string{"https://a.test"}, "https://a.test"},
		{"one of two", "127.0.0.1:8080", nil, []string{"http://localhost:8080/b", "https://a.test"}, "https://a.test"},
		{"every address", ":8080", nil, []string{"https://a.test"}, ""},
		{"another address", "192.0.2.1:8080", nil, []string{"https://a.test"}, ""},
		{"TLS here", "127.0.0.1:8080", new(config.TLS), []string{"https://a.test"}, ""},
		{"for this machine", "127.0.0.1:8080", nil, []string{"https://localhost:8443"}, ""},
		{"no issuer", "127.0.0.1:8080", nil, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var issuers []config.Issuer
			for _, url := range tt.issuers {
				issuers = append(issuers, config.Issuer{Issuer: url})
			}
			err := unreachable(&config.Config{Listen: tt.listen, TLS: tt.tls}, issuers)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			case tt.want != "" && hint.Of(err) != "put a proxy in front, or set {listen} and {tls.certFile}":
				t.Errorf("got the hint %q", hint.Of(err))
			}
		})
	}
}
