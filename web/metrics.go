package web

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/rotation"
)

// counts are the requests answered, with a counter made ahead for each
// combination that there is.
type counts struct {
	vec   *prometheus.CounterVec
	known map[countKey]prometheus.Counter
}

type countKey struct {
	document string
	status   int
}

var statusText = map[int]string{200: "200", 204: "204", 304: "304", 404: "404", 405: "405", 503: "503"}

func newCounts(metrics prometheus.Registerer) *counts {
	c := &counts{
		vec: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oidc_provider_http_requests_total",
			Help: "Requests of relying parties, by document and status code.",
		}, []string{"document", "code"}),
		known: make(map[countKey]prometheus.Counter),
	}
	metrics.MustRegister(c.vec)
	for status, text := range statusText {
		if status == 404 || status == 503 {
			c.known[countKey{noDocument, status}] = c.vec.WithLabelValues(noDocument, text)
			continue
		}
		for _, name := range []string{configurationDocument, jwksDocument, pageDocument} {
			c.known[countKey{name, status}] = c.vec.WithLabelValues(name, text)
		}
	}
	return c
}

func (c *counts) add(document string, status int) { c.known[countKey{document, status}].Inc() }

// Rotation exposes the state of a rotator as metrics, taken when they are
// asked for.
type Rotation struct{ Rotator *rotation.Rotator }

var (
	keysDesc     = prometheus.NewDesc("oidc_provider_keys", "Keys in the ring, by phase.", []string{"phase"}, nil)
	activeDesc   = prometheus.NewDesc("oidc_provider_active_key_info", "The key that signs now.", []string{"kid", "algorithm"}, nil)
	handOverDesc = prometheus.NewDesc("oidc_provider_next_hand_over_timestamp_seconds", "When the next key begins to sign; absent while that is not planned.", nil, nil)
	readAgeDesc  = prometheus.NewDesc("oidc_provider_ring_read_age_seconds", "How long ago the ring was last read from its store.", nil, nil)
	updatedDesc  = prometheus.NewDesc("oidc_provider_ring_updated_timestamp_seconds", "When the ring was last written.", nil, nil)
	generation   = prometheus.NewDesc("oidc_provider_ring_generation", "How often the ring has been written.", nil, nil)
	failingDesc  = prometheus.NewDesc("oidc_provider_rotation_failing", "1 while reading, planning, writing or publishing fails.", nil, nil)
	failuresDesc = prometheus.NewDesc("oidc_provider_rotation_failures_total", "Rounds of the rotation loop that failed.", nil, nil)
	canSignDesc  = prometheus.NewDesc("oidc_provider_can_sign", "1 if this replica signs tokens; absent with --publish-only.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (r Rotation) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(r, ch) }

// Collect implements [prometheus.Collector].
func (r Rotation) Collect(ch chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	now := time.Now()
	ring := r.Rotator.View().Ring()
	at := ring.At(now)
	phases := map[rotation.Phase]int{rotation.Next: 0, rotation.Active: 0, rotation.Retired: 0, rotation.Revoked: 0}
	for i := range ring.Keys {
		phases[ring.Keys[i].Phase(at)]++
	}
	for phase, n := range phases {
		gauge(keysDesc, float64(n), string(phase))
	}
	if active := ring.Active(at); active != nil {
		gauge(activeDesc, 1, active.KeyID, string(active.Algorithm))
	}
	if standby := ring.Standby(at); standby != nil && !standby.SignFrom.IsZero() {
		gauge(handOverDesc, float64(standby.SignFrom.UnixMilli())/1000)
	}
	gauge(readAgeDesc, r.Rotator.ReadAge(now).Seconds())
	gauge(updatedDesc, float64(ring.Updated.UnixMilli())/1000)
	gauge(generation, float64(ring.Generation))
	gauge(failingDesc, boolean(r.Rotator.Failure() != ""))
	if !r.Rotator.PublishOnly() {
		_, err := r.Rotator.Signer(now)
		gauge(canSignDesc, boolean(err == nil))
	}
	ch <- prometheus.MustNewConstMetric(failuresDesc, prometheus.CounterValue, float64(r.Rotator.Failed()))
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
