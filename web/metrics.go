package web

import (
	"iter"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/internal/mirror"
	"oidc-provider/rotation"
)

// counts are the requests answered, with a counter made ahead for each
// combination that there is.
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

// Issuers exposes the state of the issuers as metrics, taken when they are asked
// for.
type Issuers struct {
	// Rotators are the rings that this process keeps going, and Mirrors the
	// key sets that it follows, by issuer.
	Rotators iter.Seq2[string, *rotation.Rotator]
	Mirrors  iter.Seq2[string, mirror.Status]
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("oidc_provider_"+name, help, append([]string{"issuer"}, labels...), nil)
}

var (
	keysDesc     = desc("keys", "Keys in the ring, by phase.", "phase")
	activeDesc   = desc("active_key_info", "The key that signs now.", "kid", "algorithm")
	handOverDesc = desc("next_rotation_timestamp_seconds", "When the next key begins to sign; absent while that is not planned.")
	readAgeDesc  = desc("ring_read_age_seconds", "How long ago the ring was last read from its store.")
	updatedDesc  = desc("ring_updated_timestamp_seconds", "When the ring was last written.")
	generation   = desc("ring_generation", "How often the ring has been written.")
	failingDesc  = desc("rotation_failing", "1 while reading, planning, writing or publishing fails.")
	failuresDesc = desc("rotation_failures_total", "Rounds of the rotation loop that failed.")
	lackingDesc  = desc("copies_lacking_key", "Copies of the key set that have not acknowledged the key of that phase, for which the next one waits; absent where none is named.", "phase")
	copiesByDesc = desc("copies_due_timestamp_seconds", "By when the copies must have the next key for the hand-over to come on schedule; absent while it waits for none.")
	canSignDesc  = desc("can_sign", "1 if this replica signs tokens; absent where it only publishes.")

	mirrorKeysDesc     = desc("mirror_keys", "Keys of somebody else that are published.")
	mirrorFetchedDesc  = desc("mirror_fetched_timestamp_seconds", "When the keys were last fetched; absent if never.")
	mirrorChangedDesc  = desc("mirror_changed_timestamp_seconds", "When the keys last changed.")
	mirrorFailingDesc  = desc("mirror_failing", "1 while the keys cannot be fetched, or are refused.")
	mirrorFailuresDesc = desc("mirror_failures_total", "Fetches that failed or were refused.")
	mirrorSkippedDesc  = desc("mirror_skipped_keys", "Keys that the source shows and that are not published.")
)

// Describe implements [prometheus.Collector].
func (m Issuers) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		keysDesc, activeDesc, handOverDesc, readAgeDesc, updatedDesc, generation, failingDesc, failuresDesc, lackingDesc, copiesByDesc, canSignDesc,
		mirrorKeysDesc, mirrorFetchedDesc, mirrorChangedDesc, mirrorFailingDesc, mirrorFailuresDesc, mirrorSkippedDesc,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (m Issuers) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	for issuer, r := range m.Rotators {
		collectRotator(sample{ch, issuer}, r, now)
	}
	for issuer, s := range m.Mirrors {
		collectMirror(sample{ch, issuer}, s)
	}
}

// sample takes the metrics of one issuer.
type sample struct {
	ch     chan<- prometheus.Metric
	issuer string
}

func (s sample) gauge(desc *prometheus.Desc, value float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{s.issuer}, labels...)...)
}

func (s sample) counter(desc *prometheus.Desc, value uint64) {
	s.ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), s.issuer)
}

func (s sample) time(desc *prometheus.Desc, t time.Time) {
	if !t.IsZero() {
		s.gauge(desc, float64(t.UnixMilli())/1000)
	}
}

func collectRotator(s sample, r *rotation.Rotator, now time.Time) {
	ring := r.View().Ring()
	at := ring.At(now)
	phases := map[rotation.Phase]int{rotation.Next: 0, rotation.Active: 0, rotation.Retired: 0, rotation.Revoked: 0}
	for i := range ring.Keys {
		phases[ring.Keys[i].Phase(at)]++
	}
	for phase, n := range phases {
		s.gauge(keysDesc, float64(n), string(phase))
	}
	if active := ring.Active(at); active != nil {
		s.gauge(activeDesc, 1, active.KeyID, string(active.Algorithm))
	}
	if standby := ring.Standby(at); standby != nil {
		s.time(handOverDesc, standby.SignFrom)
	}
	collectCopies(s, ring, at)
	s.gauge(readAgeDesc, r.ReadAge(now).Seconds())
	s.time(updatedDesc, ring.Updated)
	s.gauge(generation, float64(ring.Generation))
	s.gauge(failingDesc, boolean(r.Failure() != nil))
	if !r.PublishOnly() {
		_, err := r.Signer(now)
		s.gauge(canSignDesc, boolean(err == nil))
	}
	s.counter(failuresDesc, r.Failed())
}

func collectCopies(s sample, ring *rotation.Ring, at time.Time) {
	if len(ring.Copies) == 0 {
		return
	}
	for phase, key := range map[rotation.Phase]*rotation.Key{rotation.Active: ring.Active(at), rotation.Next: ring.Standby(at)} {
		if key != nil {
			s.gauge(lackingDesc, float64(len(ring.Lacking(key))), string(phase))
		}
	}
	if w := ring.Waiting(at); w != nil && len(w.Copies) > 0 {
		s.time(copiesByDesc, w.By)
	}
}

func collectMirror(s sample, status mirror.Status) {
	s.gauge(mirrorKeysDesc, float64(status.Keys))
	s.time(mirrorFetchedDesc, status.Fetched)
	s.time(mirrorChangedDesc, status.Changed)
	s.gauge(mirrorFailingDesc, boolean(status.Failure != ""))
	s.counter(mirrorFailuresDesc, status.Failures)
	s.gauge(mirrorSkippedDesc, float64(len(status.Skipped)))
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
