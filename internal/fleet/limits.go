package fleet

import (
	"cmp"

	"oidc-provider/internal/config"
	"oidc-provider/web"
)

const (
	// ownConnections bounds the connections to an address that has few clients:
	// probes, Prometheus, an ACME authority.
	ownConnections = 64

	// maxConnections is the default where memory and file descriptors do not
	// matter.
	maxConnections = 4096

	// connectionCost is what an idle connection with TLS costs in bytes, with room
	// for a request.
	connectionCost = 64 << 10
)

// publicLimits returns the limits of the public address in a process that may use
// so much memory, 0 for any, and have so many files open. By default connections
// take a quarter of the memory and half of the file descriptors at most: what is
// left is for the store, the signer's socket and the sources.
func publicLimits(cfg *config.Config, memory int64, files int) web.Limits {
	most := min(maxConnections, files/2)
	if memory > 0 {
		most = min(most, int(memory/4/connectionCost))
	}
	total := cmp.Or(cfg.MaxConnections, max(most, 16))
	return web.Limits{
		Connections:           total,
		ConnectionsPerAddress: min(cmp.Or(cfg.MaxConnectionsPerAddress, (3*total+3)/4), total),
	}
}
