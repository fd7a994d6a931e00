package fleet

import (
	"testing"

	"oidc-provider/internal/config"
	"oidc-provider/web"
)

func TestPublicLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cfg    config.Config
		memory int64
		files  int
		want   web.Limits
	}{
		{"a large machine", config.Config{}, 0, 1 << 20, web.Limits{Connections: 4096, ConnectionsPerAddress: 3072}},
		{"the default of a shell", config.Config{}, 0, 1024, web.Limits{Connections: 512, ConnectionsPerAddress: 384}},
		{"a container with 128 MiB", config.Config{}, 128 << 20, 1 << 20, web.Limits{Connections: 512, ConnectionsPerAddress: 384}},
		{"a container with 64 MiB", config.Config{}, 64 << 20, 1024, web.Limits{Connections: 256, ConnectionsPerAddress: 192}},
		{"little of everything", config.Config{}, 1 << 20, 20, web.Limits{Connections: 16, ConnectionsPerAddress: 12}},
		{"a large container", config.Config{}, 8 << 30, 1 << 20, web.Limits{Connections: 4096, ConnectionsPerAddress: 3072}},
		{"configured", config.Config{MaxConnections: 20_000}, 64 << 20, 1024,
			web.Limits{Connections: 20_000, ConnectionsPerAddress: 15_000}},
		{"for an address", config.Config{MaxConnectionsPerAddress: 10}, 0, 1024, web.Limits{Connections: 512, ConnectionsPerAddress: 10}},
		{"more for an address than there are", config.Config{MaxConnections: 100, MaxConnectionsPerAddress: 200}, 0, 1024,
			web.Limits{Connections: 100, ConnectionsPerAddress: 100}},
		{"one", config.Config{MaxConnections: 1}, 0, 1024, web.Limits{Connections: 1, ConnectionsPerAddress: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := publicLimits(&tt.cfg, tt.memory, tt.files); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
