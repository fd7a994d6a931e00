package web

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// counts has the counters of answered requests. They are all created in advance.
type counts struct {
	known                 [kinds]map[int]prometheus.Counter // by status
	notFound, unavailable prometheus.Counter
}

func newCounts(metrics prometheus.Registerer) *counts {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "oidc_provider_http_requests_total",
		Help: "Requests of relying parties, by document and status code.",
	}, []string{"document", "code"})
	metrics.MustRegister(vec)
	c := &counts{notFound: vec.WithLabelValues("none", "404"), unavailable: vec.WithLabelValues("none", "503")}
	for kind := range kinds {
		c.known[kind] = make(map[int]prometheus.Counter)
		for _, status := range []int{200, 204, 304, 405} {
			c.known[kind][status] = vec.WithLabelValues(names[kind], strconv.Itoa(status))
		}
	}
	return c
}

func (c *counts) add(kind kind, status int) { c.known[kind][status].Inc() }
