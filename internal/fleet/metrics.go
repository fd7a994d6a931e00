package fleet

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/internal/mirror"
	"oidc-provider/rotation"
)

// metrics returns everything that the fleet exposes beside the requests and the
// signatures.
func (f *Fleet) metrics() []prometheus.Collector {
	all := []prometheus.Collector{
		f.issuers,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "oidc_provider_issuers",
			Help: "Configured issuers.",
		}, func() float64 { return float64(len(f.issuers.all())) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "oidc_provider_waiting",
			Help: "Issuers that have published nothing since the start. Their other metrics are absent.",
		}, f.issuers.waiting),
	}
	if f.reload != nil {
		all = append(all, f.reload.metric())
	}
	if f.cert != nil {
		all = append(all, f.cert.Metric())
	}
	if f.acme != nil {
		all = append(all, f.acme.Metric())
	}
	return all
}

// all returns the issuers, in the order of the configuration.
func (s *issuers) all() []*issuer {
	if order := s.order.Load(); order != nil {
		return *order
	}
	return nil
}

// waiting returns how many issuers have published nothing yet.
func (s *issuers) waiting() (n float64) {
	for _, i := range s.all() {
		if !i.slot.Documents().Published() {
			n++
		}
	}
	return n
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("oidc_provider_"+name, help, append([]string{"issuer"}, labels...), nil)
}

var (
	keysDesc     = desc("keys", "Keys in the ring, by phase.", "phase")
	activeDesc   = desc("active_key_info", "The active key.", "kid", "algorithm")
	rotationDesc = desc("next_rotation_timestamp_seconds",
		"When the next key becomes active. Absent while that is not planned.")
	readDesc     = desc("ring_read_timestamp_seconds", "When the ring was last read from its store.")
	updatedDesc  = desc("ring_updated_timestamp_seconds", "When the ring was last written.")
	generation   = desc("ring_generation", "How often the ring has been written.")
	failingDesc  = desc("rotation_failing", "1 while reading, planning, writing or publishing fails.")
	failuresDesc = desc("rotation_failures_total", "Rounds of the rotation loop that failed.")
	lackingDesc  = desc("copies_lacking_key",
		"Copies that have not confirmed the key of that phase. Absent without copies.", "phase")
	copiesByDesc = desc("copies_due_timestamp_seconds",
		"By when the copies must have the next key to keep the schedule. Absent while it waits for none.")
	refusedDesc = desc("ring_refused",
		"1 while the ring in the store is not used: it cannot be read, is not signed by a trusted writer, or it "+
			"is an old one.")
	unknownDesc = desc("witness_unknown_keys", "Keys that witnesses showed at the start and the ring lacks.")
	clockDesc   = desc("clock_confirmed",
		"1 if the clock of this server is confirmed or trusted: only then it rotates. Absent where it only publishes.")
	canSignDesc = desc("can_sign", "1 if this server can sign tokens. Absent where it only publishes.")

	mirrorKeysDesc     = desc("mirror_keys", "Third-party keys that are published.")
	mirrorFetchedDesc  = desc("mirror_fetched_timestamp_seconds", "When the keys were last fetched. Absent if never.")
	mirrorChangedDesc  = desc("mirror_changed_timestamp_seconds", "When the keys last changed.")
	mirrorFailingDesc  = desc("mirror_failing", "1 while the keys cannot be fetched, or are refused.")
	mirrorFailuresDesc = desc("mirror_failures_total", "Fetches that failed or were refused.")
	mirrorChangesDesc  = desc("mirror_changes_total", "Changes of the published third-party keys since the start.")
	mirrorReturnedDesc = desc("mirror_keys_returned_total",
		"Keys that came back within an hour after they had disappeared from the source.")
	mirrorSkippedDesc = desc("mirror_skipped_keys", "Keys of the source that are not published.")
)

// Describe implements [prometheus.Collector].
func (s *issuers) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		keysDesc, activeDesc, rotationDesc, readDesc, updatedDesc, generation, failingDesc, failuresDesc, lackingDesc,
		copiesByDesc, clockDesc, canSignDesc, refusedDesc, unknownDesc, mirrorKeysDesc, mirrorFetchedDesc, mirrorChangedDesc,
		mirrorFailingDesc,
		mirrorFailuresDesc, mirrorChangesDesc, mirrorReturnedDesc, mirrorSkippedDesc,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (s *issuers) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	for _, i := range s.all() {
		i.current.Load().collect(sample{ch, i.url.String()}, now)
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
	at := r.At(now)
	phases := map[rotation.Phase]int{rotation.Next: 0, rotation.Active: 0, rotation.Retired: 0, rotation.VerifyOnly: 0,
		rotation.Revoked: 0}
	for i := range ring.Keys {
		k := &ring.Keys[i]
		if !k.Published() {
			phases[rotation.Revoked]++
			continue
		}
		phases[k.Phase(at)]++
	}
	for phase, n := range phases {
		s.gauge(keysDesc, float64(n), string(phase))
	}
	if active := ring.Active(at); active != nil {
		s.gauge(activeDesc, 1, active.KeyID, string(active.Algorithm))
	}
	if standby := ring.Standby(at); standby != nil {
		s.time(rotationDesc, standby.SignFrom)
	}
	collectCopies(s, ring, at)
	s.time(readDesc, now.Add(-r.ReadAge(now)))
	s.time(updatedDesc, ring.Updated)
	s.gauge(generation, float64(ring.Generation))
	s.gauge(failingDesc, boolean(r.Failure() != nil))
	if !r.PublishOnly() {
		s.gauge(clockDesc, boolean(r.CheckClock(now) == nil))
		_, err := r.Signer(now)
		s.gauge(canSignDesc, boolean(err == nil))
	}
	s.counter(failuresDesc, r.Failed())
}

func collectCopies(s sample, ring *rotation.Ring, at time.Time) {
	if len(ring.Copies) == 0 {
		return
	}
	for phase, key := range map[rotation.Phase]*rotation.Key{rotation.Active: ring.Active(at),
		rotation.Next: ring.Standby(at)} {
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
	s.gauge(mirrorFailingDesc, boolean(status.Failure != nil))
	s.counter(mirrorFailuresDesc, status.Failures)
	s.counter(mirrorChangesDesc, status.Changes)
	s.counter(mirrorReturnedDesc, status.Returned)
	s.gauge(mirrorSkippedDesc, float64(len(status.Skipped)))
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
